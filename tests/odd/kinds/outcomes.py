"""Tasks that return, raise and do odd things."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.odd.book import Case, Record
from tests.odd.kinds import Expected, Kind, kind
from tests.odd.tasks import outcomes
from tests.odd.values import values

WAYS = st.sampled_from(["atomic", "free"])
NO_VERDICT = r"WorkerLostError|SystemExit|KeyboardInterrupt|signal|exited"
KEPT = (
    r"(?i)EncodeError|TypeError|ValueError|RecursionError|JSON|serializ|deep|circular|large|[A-Z]\w+(Error|Exception)"
)


class _Called(Kind):
    """A task called with plain arguments, which say what it does."""

    def task(self, case: Case) -> Any:
        raise NotImplementedError

    def arguments(self, case: Case) -> list[Any]:
        return [case.call, *case.drawn[1:]]

    def call(self, case: Case, record: Record) -> None:
        self.task(case).apply_async(self.arguments(case), queue=case.queue)


@kind
class Returned(_Called):
    name = "returned"
    weight = 20
    strategy = st.tuples(WAYS, values).map(list)

    def task(self, case: Case) -> Any:
        return outcomes.RETURNS[case.drawn[0]]

    def expected(self, case: Case) -> Expected:
        return Expected(("succeeded", "dead"), KEPT, refused=False, effect=case.drawn[0] == "atomic")


@kind
class Raised(_Called):
    name = "raised"
    weight = 20
    strategy = st.tuples(st.sampled_from(sorted(outcomes.RAISES)), st.sampled_from(sorted(outcomes.ERRORS))).map(list)

    def task(self, case: Case) -> Any:
        return outcomes.RAISES[case.drawn[0]]

    def expected(self, case: Case) -> Expected:
        named = case.drawn[1].split()[0]
        # Python makes the subclass of its number.
        error = "FileNotFoundError" if named == "OSError" else named
        return Expected(("dead",), f"^{error}:", refused=False, effect="atomic" in case.drawn[0])


@kind
class Ending(_Called):
    """Slow: each attempt costs a process."""

    name = "process-ended"
    weight = 2
    strategy = st.tuples(st.sampled_from(sorted(outcomes.RAISES)), st.sampled_from(sorted(outcomes.ENDINGS))).map(list)

    def task(self, case: Case) -> Any:
        return outcomes.RAISES[case.drawn[0]]

    def expected(self, case: Case) -> Expected:
        return Expected(("dead",), NO_VERDICT, refused=False, effect="atomic" in case.drawn[0])


HARMLESS = {"nothing", "fail after commit", "close output"}
"""Deeds after which a body's own work is still there."""


@kind
class Did(_Called):
    name = "did"
    weight = 12
    strategy = st.tuples(WAYS, st.sampled_from(sorted(outcomes.DEEDS))).map(list)

    def task(self, case: Case) -> Any:
        return outcomes.DOES[case.drawn[0]]

    def expected(self, case: Case) -> Expected:
        way, deed = case.drawn
        ends: tuple[str, ...] = ("succeeded", "dead", "replaced")
        if way == "free" and deed == "fail after commit":
            # Without a transaction it is done at once.
            ends = ("dead",)
        elif deed in HARMLESS or (way == "free" and deed in ("leave open", "swallow", "close", "cut")):
            ends = ("succeeded",)
        elif deed in ("raise", "raise surrogate", "raise no text", "raise base", "raise memory", "recurse"):
            ends = ("dead",)
        # One that rolls back itself has no effect, as it wished.
        effect = way == "atomic" and deed not in ("raise ignore", "roll back")
        return Expected(ends, r"\w", refused=False, effect=effect)


@kind
class Retried(_Called):
    name = "retried"
    weight = 10
    strategy = st.tuples(st.just(""), st.sampled_from(sorted(outcomes.RETRIES))).map(list)

    def task(self, case: Case) -> Any:
        return outcomes.retries

    def expected(self, case: Case) -> Expected:
        return Expected(
            ("succeeded", "dead", "expired"), r"\w", refused=False, later=case.drawn[1] in ("inf", "nan")
        )  # fmt: skip


@kind
class CelerysOwn(_Called):
    """`Ignore`, `Reject` and `Retry` raised with odd reasons."""

    name = "ignored"
    weight = 6
    strategy = st.tuples(st.just(""), st.sampled_from(sorted(outcomes.CELERYS))).map(list)

    def task(self, case: Case) -> Any:
        return outcomes.celerys

    def expected(self, case: Case) -> Expected:
        return Expected(("replaced", "dead", "cancelled"), r"\w", refused=False)


@kind
class Updated(_Called):
    name = "update-state"
    weight = 8
    strategy = st.tuples(
        st.just(""),
        st.one_of(st.sampled_from(["PROGRESS", "PROGRESS", None, 5, ""]).map(lambda state: ["plain", state]), values),
        values,
    ).map(list)  # fmt: skip

    def task(self, case: Case) -> Any:
        return outcomes.updates

    def expected(self, case: Case) -> Expected:
        return Expected(("succeeded", "dead"), KEPT, refused=False)
