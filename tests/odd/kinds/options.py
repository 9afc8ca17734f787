"""Odd options, headers and ids of a call."""

from __future__ import annotations

import datetime
import decimal
import secrets
import time
import uuid
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.odd.book import Case, Record
from tests.odd.kinds import Expected, Kind, Run, kind
from tests.odd.kinds.arguments import LARGE
from tests.odd.values import make, texts, values

NUMBERS: dict[str, Callable[[], Any]] = {
    "nan": lambda: float("nan"), "inf": lambda: float("inf"), "-inf": lambda: float("-inf"), "-1": lambda: -1,
    "0": lambda: 0, "0.001": lambda: 0.001, "40000": lambda: 40_000, "-40000": lambda: -40_000, "2**31": lambda: 2**31,
    "2**63": lambda: 2**63, "10**400": lambda: 10**400, "1e300": lambda: 1e300, "text": lambda: "5",
    "word": lambda: "soon", "list": lambda: [1], "bool": lambda: True, "none": lambda: None, "complex": lambda: 1j,
    "decimal": lambda: decimal.Decimal("NaN"), "9": lambda: 9, "3": lambda: 3,
    "delta": lambda: datetime.timedelta(seconds=1),
}  # fmt: skip
MIN, MAX = datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)  # noqa: DTZ001
MOMENTS: dict[str, Callable[[], Any]] = {
    "9999": lambda: MAX.replace(tzinfo=datetime.UTC), "naive 9999": lambda: MAX,
    "1": lambda: MIN.replace(tzinfo=datetime.UTC), "naive 1": lambda: MIN,
    "1969": lambda: datetime.datetime(1969, 1, 1, tzinfo=datetime.UTC), "naive now": datetime.datetime.now,
    "far zone": lambda: datetime.datetime(
        1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=23))
    ),
    "far zone 9999": lambda: datetime.datetime.max.replace(tzinfo=datetime.timezone(-datetime.timedelta(hours=23))),
    "date": lambda: datetime.date(2026, 1, 1), "iso": lambda: "2026-01-01T00:00:00", "word": lambda: "tomorrow",
    "empty": lambda: "", "month 13": lambda: "2026-13-01T00:00:00", "year 0": lambda: "0000-01-01T00:00:00+00:00",
    "infinity": lambda: "infinity", "nul": lambda: "2026-01-01\x00", "list": lambda: [2026], "number": lambda: 5,
}  # fmt: skip
TEXTS: dict[str, Callable[[], Any]] = {
    "empty": lambda: "", "space": lambda: " ", "nul": lambda: "a\x00b", "surrogate": lambda: "\ud83d",
    "long": lambda: secrets.token_hex(4000), "unknown": lambda: "no-such", "number": lambda: 5, "list": lambda: [1],
    "bytes": lambda: b"\xff", "dict": lambda: {"a": 1}, "line": lambda: "a\nb", "html": lambda: "<script>",
    "control": lambda: "\x1b[2J", "none": lambda: None, "quote": lambda: "'; --", "object": object,
    "separator": lambda: "a\x1fb", "braces": lambda: "{}", "longer": lambda: "x" * 2_000_000,
    "default": lambda: "default",
}  # fmt: skip


def _step() -> Any:
    from tests.odd.tasks.basic import step

    return step


def _deep_signature() -> Any:
    from tests.odd.tasks.basic import step

    signature = step.si()
    for _ in range(150):
        outer = step.si()
        outer.link(signature)
        signature = outer
    return signature


SIGNATURES: dict[str, Callable[[], Any]] = {
    "text": lambda: "no signature", "list": list, "list of texts": lambda: ["a"], "number": lambda: 5,
    "empty dict": dict, "dict": lambda: {"task": "odd.step"}, "dict of unknown": lambda: {"task": "no.such.task"},
    "task": _step, "none": lambda: [None], "function": lambda: make, "deep": _deep_signature,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Callable[[], Any]]] = {
    "priority": NUMBERS, "countdown": NUMBERS, "expires": NUMBERS | MOMENTS, "eta": MOMENTS, "time_limit": NUMBERS,
    "soft_time_limit": NUMBERS, "queue": TEXTS, "shadow": TEXTS, "exchange": TEXTS, "routing_key": TEXTS,
    "serializer": TEXTS, "compression": TEXTS, "reply_to": TEXTS, "correlation_id": TEXTS, "app_id": TEXTS,
    "argsrepr": TEXTS, "kwargsrepr": TEXTS, "parent_id": TEXTS, "root_id": TEXTS, "group_id": TEXTS,
    "user_id": TEXTS, "retries": NUMBERS, "group_index": NUMBERS, "delivery_mode": NUMBERS, "link": SIGNATURES,
    "link_error": SIGNATURES, "ignore_result": TEXTS, "retry": TEXTS, "retry_policy": TEXTS, "expiration": NUMBERS,
    "content_type": TEXTS, "message_id": TEXTS, "headers": TEXTS, "chain": SIGNATURES, "chord": SIGNATURES,
    "replaced_task_nesting": NUMBERS, "stamped_headers": TEXTS, "stamps": TEXTS, "no_such_option": TEXTS,
    "origin": TEXTS, "timestamp": NUMBERS, "type": TEXTS,
}  # fmt: skip


@st.composite
def _options(draw: Any) -> list[list[str]]:
    names = draw(st.lists(st.sampled_from(sorted(OPTIONS)), min_size=1, max_size=2, unique=True))
    return [[name, draw(st.sampled_from(sorted(OPTIONS[name])))] for name in names]


@kind
class Options(Kind):
    name = "option"
    weight = 40
    strategy = _options()

    def call(self, case: Case, record: Record) -> None:
        from tests.odd.tasks.basic import take

        options = {name: OPTIONS[name][value]() for name, value in case.drawn}
        if not {"queue", "exchange", "routing_key"} & options.keys():
            options["queue"] = case.queue
        take.apply_async([case.call], **options)

    def expected(self, case: Case) -> Expected:
        names = {name for name, _ in case.drawn}
        ends = {"succeeded"}
        if names & {"expires"}:
            ends |= {"expired"}
        if names & {"time_limit", "soft_time_limit"}:
            ends |= {"dead"}
        if names & {"link", "link_error", "chain", "chord", "group_id", "retry_policy"} or "longer" in str(case.drawn):
            ends |= {"dead"}
        return Expected(tuple(ends), r"\w", later=bool(names & {"countdown", "eta", "expires"}), effect=True)


@kind
class Headers(Kind):
    """A header of the caller's own with an odd name or value, and one that has the name of a Celery's."""

    name = "header"
    weight = 15
    strategy = st.tuples(
        st.one_of(
            st.sampled_from([
                "odd", "", "id", "task", "lang", "root_id", "parent_id", "group", "eta", "expires", "timelimit",
                "retries", "argsrepr", "origin", "taskrun", "ignore_result", "stamps", "stamped_headers", "shadow",
                "replaced_task_nesting", "redelivered", "\x00", "method", "compression", "traceparent", "chord",
            ]).map(lambda name: ["plain", name]),
            texts,
        ),
        values,
    ).map(list)  # fmt: skip

    def call(self, case: Case, record: Record) -> None:
        from tests.odd.tasks.basic import take

        name, value = map(make, case.drawn)
        take.apply_async([case.call], headers={name: value}, queue=case.queue)

    def expected(self, case: Case) -> Expected:
        # A header may say that it expired, or be due later, or name a task that is none.
        return Expected(("succeeded", "dead", "expired"), rf"{LARGE}|\w", later=True)


@kind
class Ids(Kind):
    name = "task-id"
    weight = 15
    strategy = st.one_of(
        st.sampled_from(sorted(TEXTS)).map(lambda name: ["named", name]), texts.map(lambda text: ["text", text])
    )

    def call(self, case: Case, record: Record) -> None:
        from tests.odd.tasks.basic import take

        how, what = case.drawn
        task_id = TEXTS[what]() if how == "named" else make(what)
        # An id that others may have as well is one for each call.
        if isinstance(task_id, str) and len(task_id) < 100 and task_id:
            task_id = f"{case.call}{task_id}"
        take.apply_async([case.call], task_id=task_id, queue=case.queue)

    def expected(self, case: Case) -> Expected:
        return Expected(effect=True)


@kind
class SameId(Kind):
    """Twice at once: the second is refused, or waits until the first is done; a third, with it done, runs."""

    name = "same-id"
    weight = 6
    strategy = st.sampled_from([["inside"], ["outside"], ["both"]])

    def call(self, case: Case, record: Record) -> None:
        from django.db import transaction

        from tests.odd.tasks.basic import take

        task_id = str(uuid.uuid5(uuid.NAMESPACE_OID, case.call))
        take.apply_async([case.call], task_id=task_id, countdown=0.2)
        try:
            with transaction.atomic():
                take.apply_async([case.call], task_id=task_id, countdown=0.2)
        except ValueError:
            pass
        else:
            record.notes.append("two calls with one id, both live, were accepted")

    def expected(self, case: Case) -> Expected:
        return Expected(refused=False)

    def found(self, case: Case, record: Record, runs: list[Run]) -> list[str]:
        return [f"{len(runs)} runs for one id"] if len(runs) > 1 else []


@kind
class Limits(Kind):
    """Short limits, hit while it works; slow, for each hard one costs a process."""

    name = "time-limit"
    weight = 2
    strategy = st.tuples(st.sampled_from(["hard", "soft", "both", "upside down"]), st.sampled_from([0.3, 0.6])).map(
        list
    )

    def call(self, case: Case, record: Record) -> None:
        from tests.odd.tasks.basic import hold

        which, seconds = case.drawn
        limits = {
            "hard": {"time_limit": seconds}, "soft": {"soft_time_limit": seconds},
            "both": {"time_limit": seconds * 2, "soft_time_limit": seconds},
            "upside down": {"time_limit": seconds, "soft_time_limit": seconds * 2},
        }[which]  # fmt: skip
        hold.apply_async([case.call, 1.5], queue=case.queue, **limits)

    def expected(self, case: Case) -> Expected:
        return Expected(("dead",), "TimeLimitExceeded", effect=True)


@kind
class Cancelled(Kind):
    """Cancelled while it waits or runs."""

    name = "cancelled"
    weight = 5
    strategy = st.tuples(
        st.sampled_from([0.0, 0.05, 0.3]), st.sampled_from([0.0, 0.01, 0.1, 0.4]), st.booleans(), st.booleans()
    ).map(list)

    def call(self, case: Case, record: Record) -> None:
        from django.db import connection

        from tests.odd.tasks.basic import hold

        hold_for, after, terminate, twice = case.drawn
        result = hold.apply_async([case.call, hold_for], queue=case.queue)
        if not connection.in_atomic_block:
            # Of a call that nobody can have begun, a transaction's, the time does not matter.
            time.sleep(after)
        for _ in range(1 + twice):
            result.revoke(terminate=terminate)

    def expected(self, case: Case) -> Expected:
        return Expected(("succeeded", "cancelled"), refused=False, effect=True)


@kind
class CancelOdd(Kind):
    """Ids that are none, given to revoke and to a result."""

    name = "revoke-odd-id"
    weight = 4
    strategy = st.sampled_from(sorted(TEXTS))

    def call(self, case: Case, record: Record) -> None:
        from app.celery import app

        task_id = TEXTS[case.drawn]()
        if task_id:
            app.AsyncResult(task_id).state  # noqa: B018 - asks the backend
            app.control.revoke(task_id)

    def expected(self, case: Case) -> Expected:
        return Expected()
