"""``manage.py tasks count|cancel|run-again|run-now|move|discard``."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pressroom.bulk import orders
from pressroom.models import BulkAction
from pressroom.operations.forms import MoveForm, SearchForm
from pressroom.operator_actions import NotPossible
from pressroom.printable import printable

POLL = 1.0
"""Seconds between two looks at the progress."""
FILTERS = ("name", "queue", "status", "error", "text", "result", "worker", "owner", "key", "since", "until")


class Command(BaseCommand):
    help = "Acts on all tasks that match a filter, and shows the progress. The relay does the work."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["count", *BulkAction.Kind.values])
        for name in FILTERS:
            field = SearchForm.base_fields[name]
            parser.add_argument(f"--{name}", default="", help=str(field.help_text or field.label or name).lower())
        parser.add_argument("--all", action="store_true", help="act without a filter")
        parser.add_argument("--to-queue", default="", help="move to this queue")
        parser.add_argument("--to-priority", default="", help="move to this priority")
        parser.add_argument("--no-wait", action="store_true", help="do not wait for the end")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        given = {name: options[name] for name in FILTERS if options[name]}
        form = SearchForm(given)
        if not form.is_valid():
            told = [f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items()]
            raise CommandError(printable("; ".join(told)))
        if bool(given) == options["all"]:
            raise CommandError("Give either a filter or --all.")
        if action != BulkAction.Kind.MOVE and (options["to_queue"] or options["to_priority"]):
            raise CommandError("Only move takes --to-queue and --to-priority.")
        if action == "count":
            for kind in BulkAction.Kind:
                number, more = orders.estimate(kind, form.wanted())
                self.stdout.write(f"{kind}: {'at least ' if more else ''}{number}")
            return
        target = MoveForm({name: options[name] for name in ("to_queue", "to_priority")})
        if action == BulkAction.Kind.MOVE and not target.is_valid():
            raise CommandError(printable("; ".join(" ".join(map(str, errors)) for errors in target.errors.values())))
        try:
            ordered = orders.order(
                kind=action, wanted=form.wanted(), user=None, **target.target() if action == "move" else {}
            )
        except (NotPossible, ValueError) as error:
            raise CommandError(printable(str(error))) from error
        self.stdout.write(f"action {ordered.pk}")
        if not options["no_wait"]:
            self._follow(ordered)

    def _follow(self, action: BulkAction) -> None:
        shown = ""
        while True:
            try:
                action.refresh_from_db()
            except BulkAction.DoesNotExist:
                raise CommandError("The action has been deleted.") from None
            told = f"{action.state}: {action.summary}" + (f" of {action.total:,}" if not action.ended_at else "")
            if told != shown:
                self.stdout.write(told)
                shown = told
            if action.ended_at:
                break
            time.sleep(POLL)
        for reason, number in action.reasons.items():
            self.stdout.write(printable(f"{number:,} × {reason}"))
        if action.state == BulkAction.State.FAILED:
            raise CommandError(printable(action.error))
