"""``manage.py flow list|pause|resume``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pressroom import operator_actions
from pressroom.models import Pause
from pressroom.printable import printable


class Command(BaseCommand):
    help = "Pauses and resumes queues and tasks, and lists what is paused."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="list what is paused")
        for name, text in (
            ("pause", "start no run of a queue or task from now on; what runs goes on"),
            ("resume", "end a pause; what waits starts at once"),
        ):
            sub = actions.add_parser(name, help=text)
            sub.add_argument("kind", choices=Pause.Kind.values)
            sub.add_argument("name", help="of the queue or task")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if action == "list":
            for pause in Pause.objects.select_related("by").order_by("kind", "name"):
                by = f" by {pause.by}" if pause.by else ""
                since = pause.since.isoformat(" ", "seconds")
                self.stdout.write(printable(f"{pause.kind}  {pause.name}  paused since {since}{by}"))
            return
        act = operator_actions.pause if action == "pause" else operator_actions.resume
        try:
            act(kind=options["kind"], name=options["name"], user=None)
        except operator_actions.NotPossible as error:
            raise CommandError(printable(str(error))) from error
