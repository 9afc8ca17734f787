"""Odd arguments, positional and by name; and a caller's own odd texts of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.odd.book import Case, Record
from tests.odd.kinds import Expected, Kind, kind
from tests.odd.values import make, size, values

REDIS_TAKES = 1_048_576
LARGE = r"(?i:bulk|redis|large|size|connection|response|protocol)"
"""In the error of a message that Redis did not take."""


@kind
class Arguments(Kind):
    name = "arguments"
    weight = 40
    strategy = st.tuples(st.sampled_from(["args", "kwargs", "both"]), values).map(list)

    def call(self, case: Case, record: Record) -> None:
        from tests.odd.tasks.basic import take

        how, described = case.drawn
        value = make(described)
        args = [case.call, *([value] if how != "kwargs" else [])]
        take.apply_async(args, {"value": value} if how != "args" else {})

    def expected(self, case: Case) -> Expected:
        how, described = case.drawn
        if _is_plain(described):
            return Expected(effect=True, refused=False)
        # As base64, and perhaps twice.
        too_large = size(described) * (2 if how == "both" else 1) > REDIS_TAKES / 2
        return Expected(("succeeded", "dead") if too_large else ("succeeded",), LARGE, effect=True)


def _is_plain(described: list[Any]) -> bool:
    """Whether it is JSON without a doubt: not refused, then."""
    return described[0] == "plain"


@kind
class LargeArgument(Kind):
    """More than Redis takes, and less: the call is done, or dead with what Redis says."""

    name = "large-argument"
    weight = 3
    strategy = st.tuples(st.sampled_from(["x", "é", '"']), st.sampled_from([500_000, 1_100_000, 1_500_000])).map(list)

    def call(self, case: Case, record: Record) -> None:
        from tests.odd.tasks.basic import take

        take.apply_async([case.call, make(["text", *case.drawn])], queue=case.queue)

    def expected(self, case: Case) -> Expected:
        return Expected(("succeeded", "dead"), LARGE, effect=True)


@kind
class ArgumentList(Kind):
    """What is no list of arguments, nor a dictionary of them."""

    name = "argument-list"
    weight = 8
    also_refused = ("LookupError",)
    """What a dictionary raises that cannot be read."""
    strategy = st.tuples(
        st.sampled_from(["args", "kwargs"]),
        st.one_of(values, st.sampled_from([["plain", "text"], ["plain", 5], ["keyed", ["int"]], ["keyed", ["tuple"]]])),
    ).map(list)

    def call(self, case: Case, record: Record) -> None:
        from tests.odd.tasks.basic import take

        where, described = case.drawn
        value = make(described)
        take.apply_async(**({"args": value} if where == "args" else {"args": [case.call], "kwargs": value}))

    def expected(self, case: Case) -> Expected:
        # Called with too few, with a name that is no text, or with what psycopg cannot bind or the table refuses,
        # such as a list of mixed types or None: the task's own error.
        return Expected(("succeeded", "dead"), f"TypeError|argument|dimensions|cannot (adapt|dump)|not-null|{LARGE}")


@kind
class SentByName(Kind):
    """``send_task`` of a name that nobody knows, or that is none."""

    name = "task-name"
    weight = 5
    strategy = st.one_of(
        st.sampled_from(["no.such.task", "", None, 5, "odd.take "]).map(lambda name: ["plain", name]),
        st.tuples(st.just("code_points"), st.lists(st.sampled_from([0, 0xD83D, 0x61]), min_size=1)).map(list),
        st.tuples(st.just("text"), st.just("n"), st.sampled_from([300, 8_000, 20_000])).map(list),
    )  # fmt: skip

    def call(self, case: Case, record: Record) -> None:
        from app.celery import app

        app.send_task(make(case.drawn), args=[case.call])

    def expected(self, case: Case) -> Expected:
        return Expected(("dead",), "NotRegistered")
