"""``manage.py flow list|pause|resume|limit|reset``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pressroom import operator_actions
from pressroom.enqueue.limits import read_key
from pressroom.models import Limit, Pause, PauseTarget, Target
from pressroom.printable import printable

NONE = "none"


def _number(text: str) -> int | None:
    return None if text == NONE else int(text)


class Command(BaseCommand):
    help = "Pauses and limits queues and tasks, pauses keys of tasks, and lists what is paused and limited."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="list what is paused, and the limits")
        for name, text in (
            ("pause", "start no run of a queue, a task or a key of a task from now on; what runs goes on"),
            ("resume", "end a pause; what waits starts at once"),
            ("limit", "change the limit that the code has; it stays through deploys"),
            ("reset", "put the limit of the code in force again"),
        ):
            sub = actions.add_parser(name, help=text)
            is_pause = name in ("pause", "resume")
            sub.add_argument("kind", choices=PauseTarget.values if is_pause else Target.values)
            sub.add_argument("name", help="of the queue or task")
            if is_pause:
                sub.add_argument("key", nargs="?", help="of the task, as JSON or plain text: 7, acme, '\"7\"', null")
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
            else:
                act = operator_actions.pause if action == "pause" else operator_actions.resume
                act(**target, **self._key(options["kind"], options["key"]))
        except (operator_actions.NotPossible, ValueError) as error:
            raise CommandError(printable(str(error))) from error

    def _key(self, kind: str, text: str | None) -> dict[str, Any]:
        if (kind == PauseTarget.KEY) != (text is not None):
            raise ValueError("Give the kind key, the task's name and the key, or another kind and no key.")
        return {} if text is None else {"key": read_key(text)}

    def _limit(self, target: dict[str, Any], concurrency: Any, rate: str | None) -> None:
        if concurrency is ... and rate is None:
            raise ValueError("Give --concurrency, --rate or both.")
        limit = operator_actions.limit_set(
            **target, concurrency=concurrency, rate=... if rate is None else None if rate == NONE else rate
        )
        self.stdout.write(printable(f"{limit}: {limit.in_force}"))

    def _list(self) -> None:
        for pause in Pause.objects.select_related("by").order_by("kind", "name", "lane"):
            by = f" by {pause.by}" if pause.by else ""
            since = pause.since.isoformat(" ", "seconds")
            key = f"  {pause.key_text}" if pause.lane else ""
            self.stdout.write(printable(f"{pause.kind}  {pause.name}{key}  paused since {since}{by}"))
        for limit in Limit.objects.select_related("set_by").order_by("kind", "name"):
            text = f"{limit.kind}  {limit.name}  {limit.in_force}"
            if limit.set_at:
                by = f" by {limit.set_by}" if limit.set_by else ""
                text += f", set at {limit.set_at.isoformat(' ', 'seconds')}{by}; the code: {limit.of_code}"
            self.stdout.write(printable(text))
