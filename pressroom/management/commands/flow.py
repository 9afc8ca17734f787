"""``manage.py flow list|pause|resume|limit|reset``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pressroom import operator_actions
from pressroom.models import Limit, Pause, Target
from pressroom.printable import printable

NONE = "none"


def _number(text: str) -> int | None:
    return None if text == NONE else int(text)


class Command(BaseCommand):
    help = "Pauses and limits queues and tasks, and lists what is paused and limited."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="list what is paused, and the limits")
        for name, text in (
            ("pause", "start no run of a queue or task from now on; what runs goes on"),
            ("resume", "end a pause; what waits starts at once"),
            ("limit", "change the limit that the code has; it stays through deploys"),
            ("reset", "put the limit of the code in force again"),
        ):
            sub = actions.add_parser(name, help=text)
            sub.add_argument("kind", choices=Target.values)
            sub.add_argument("name", help="of the queue or task")
            if name == "limit":
                sub.add_argument("--concurrency", type=_number, help="runs at once, or none", default=...)
                sub.add_argument("--rate", help="starts in a time, such as 100/m or 5/10s, or none")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if action == "list":
            self._list()
            return
        target = {"kind": options["kind"], "name": options["name"], "user": None}
        try:
            if action == "limit":
                self._limit(target, options["concurrency"], options["rate"])
            elif action == "reset":
                operator_actions.limit_reset(**target)
            elif action == "pause":
                operator_actions.pause(**target)
            else:
                operator_actions.resume(**target)
        except (operator_actions.NotPossible, ValueError) as error:
            raise CommandError(printable(str(error))) from error

    def _limit(self, target: dict[str, Any], concurrency: Any, rate: str | None) -> None:
        if concurrency is ... and rate is None:
            raise ValueError("Give --concurrency, --rate or both.")
        now = Limit.objects.filter(kind=target["kind"], name=target["name"]).first() or Limit()
        limit = operator_actions.limit_set(
            **target,
            concurrency=now.concurrency if concurrency is ... else concurrency,
            rate=now.rate_text if rate is None else None if rate == NONE else rate,
        )
        self.stdout.write(printable(f"{limit}: {limit.in_force}"))

    def _list(self) -> None:
        for pause in Pause.objects.select_related("by").order_by("kind", "name"):
            by = f" by {pause.by}" if pause.by else ""
            since = pause.since.isoformat(" ", "seconds")
            self.stdout.write(printable(f"{pause.kind}  {pause.name}  paused since {since}{by}"))
        for limit in Limit.objects.select_related("set_by").order_by("kind", "name"):
            text = f"{limit.kind}  {limit.name}  {limit.in_force}"
            if limit.set_at:
                by = f" by {limit.set_by}" if limit.set_by else ""
                text += f", set at {limit.set_at.isoformat(' ', 'seconds')}{by}; the code: {limit.of_code}"
            self.stdout.write(printable(text))
