"""``manage.py deadletters list|show|retry|discard``."""

from __future__ import annotations

import argparse
import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from pressroom import operator_actions
from pressroom.models import Status, TaskRun
from pressroom.printable import printable, printable_lines
from pressroom.text import is_carried

MOST = 1_000_000
"""How many dead letters `list` lists at most."""


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= MOST):
        raise argparse.ArgumentTypeError(f"not a whole number up to {MOST}")
    return int(text)


def _text(text: str) -> str:
    if not is_carried(text):
        # Bytes in another encoding than the terminal's, for example. Postgres has no such text.
        raise argparse.ArgumentTypeError("has characters that no text in the ledger has")
    return text


class Command(BaseCommand):
    help = "Lists dead letters, shows one with every attempt, runs them again, or discards them."

    def add_arguments(self, parser: CommandParser) -> None:
        operator_actions = parser.add_subparsers(dest="action", required=True)
        for name, text in (
            ("list", "list dead letters, newest first"),
            ("retry", "run dead letters again, as new runs linked to these"),
            ("discard", "delete dead letters for good"),
        ):
            sub = operator_actions.add_parser(name, help=text)
            sub.add_argument("--queue", type=_text, help="only dead letters of this queue")
            sub.add_argument("--name", type=_text, help="only dead letters of this task")
            sub.add_argument("--error", type=_text, help="only dead letters whose last error has this type")
            if name == "list":
                sub.add_argument("--limit", type=_number, default=50, help="how many to list (default: %(default)s)")
            else:
                sub.add_argument("ids", nargs="*", type=uuid.UUID, help="ids of the runs")
                sub.add_argument("--all", action="store_true", help="every dead letter that matches the filters")
        show = operator_actions.add_parser("show", help="show a dead letter with every attempt and its traceback")
        show.add_argument("id", type=uuid.UUID)

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if action == "show":
            self._show(options["id"])
        elif action == "list":
            for run in self._chosen(options)[: options["limit"]]:
                ended = run.finished_at and run.finished_at.isoformat(" ", "seconds")
                self.stdout.write(
                    printable(f"{run.pk}  {ended}  {run.queue}  {run.name}  {run.error_type}: {run.error}")
                )
        else:
            self._act(action, options)

    def _chosen(self, options: dict[str, Any]) -> QuerySet[TaskRun]:
        wanted = {"queue": options["queue"], "name": options["name"], "error_type": options["error"]}
        runs = TaskRun.objects.filter(status=Status.DEAD, **{field: text for field, text in wanted.items() if text})
        return runs.order_by("-finished_at")

    def _act(self, action: str, options: dict[str, Any]) -> None:
        if bool(options["ids"]) == options["all"]:
            raise CommandError("give either ids or --all")
        runs = self._chosen(options)
        if options["ids"]:
            runs = runs.filter(pk__in=options["ids"])
            missing = set(options["ids"]) - set(runs.values_list("pk", flat=True))
            if missing:
                raise CommandError(f"not a dead letter: {', '.join(sorted(map(str, missing)))}")
        act = operator_actions.run_again if action == "retry" else operator_actions.run_discard
        done = 0
        for run in runs.iterator(chunk_size=500):
            try:
                act(run=run, user=None)
                done += 1
            except operator_actions.NotPossible as error:
                self.stderr.write(f"{run.pk}: {error}")
        self.stdout.write(f"{done} {'run again' if action == 'retry' else 'discarded'}")

    def _show(self, run_id: uuid.UUID) -> None:
        run = TaskRun.objects.filter(pk=run_id, status=Status.DEAD).first()
        if run is None:
            raise CommandError(f"not a dead letter: {run_id}")
        args, kwargs = run.arguments
        self.stdout.write(printable(f"{run.name}  args={args!r} kwargs={kwargs!r}"))
        self.stdout.write(printable_lines(f"{run.error_type}: {run.error}\n"))
        for attempt in run.attempts.all():
            self.stdout.write(
                printable(
                    f"attempt {attempt.number}: {attempt.outcome} on {attempt.worker_name}, "
                    f"{attempt.started_at} to {attempt.finished_at}"
                )
            )
            self.stdout.write(printable_lines(f"{attempt.error_type}: {attempt.error}\n{attempt.traceback}"))
