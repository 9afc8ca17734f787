"""Hooks, handlers of signals and base classes: users' code at places where the ledger keeps its books."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.odd.book import Case, Record
from tests.odd.kinds import Expected, Kind, kind
from tests.odd.tasks.bases import BASED, ENDINGS
from tests.odd.tasks.handlers import SIGNALS, WATCHED
from tests.odd.tasks.hooks import HOOKED, HOOKS
from tests.odd.tasks.outcomes import DEEDS

WAYS = st.sampled_from(["atomic", "free"])
BODY = st.sampled_from(["returns", "returns", "fails", "retries"])
OF_THE_BODY = "^KeyError:"
ENDS_A_PROCESS = {"raise exit"}
OF_THE_CONNECTION = {"set path", "set session", "leave open", "enter atomic"}
"""Before a body they hold for it, too: its own statements may fail."""


@kind
class Handlers(Kind):
    """A signal's handler can only break itself."""

    name = "handler"
    weight = 15
    strategy = st.tuples(WAYS, BODY, st.sampled_from(SIGNALS), st.sampled_from(sorted(DEEDS))).map(list)

    def call(self, case: Case, record: Record) -> None:
        way, *rest = case.drawn
        WATCHED[way].apply_async([case.call, *rest], queue=case.queue)

    def expected(self, case: Case) -> Expected:
        return _as_the_body(case)


@kind
class Hooks(Kind):
    """As with stock Celery an error in a hook may be the run's; what else it does is its own affair."""

    name = "hook"
    weight = 15
    strategy = st.tuples(WAYS, BODY, st.sampled_from(HOOKS), st.sampled_from(sorted(DEEDS))).map(list)

    def call(self, case: Case, record: Record) -> None:
        way, *rest = case.drawn
        HOOKED[way].apply_async([case.call, *rest], queue=case.queue)

    def expected(self, case: Case) -> Expected:
        way, _, hook, deed = case.drawn
        before = hook == "before_start"
        raises = deed.startswith(("raise", "recurse"))
        if (before or raises) and deed not in ("nothing", "close output"):
            return Expected(("succeeded", "dead", "replaced"), r"\w", refused=False, effect=way == "atomic")
        return _as_the_body(case)


def _as_the_body(case: Case) -> Expected:
    way, ending, where, deed = case.drawn
    # Nothing commits a transaction whose connection is gone, or which does not find the ledger any more.
    is_cut = way == "atomic" and deed in ("cut", "set path")
    if is_cut or deed in ENDS_A_PROCESS or (where == "task_prerun" and deed in OF_THE_CONNECTION):
        return Expected(("succeeded", "dead"), r"\w", refused=False, effect=way == "atomic")
    return Expected(
        ("dead",) if ending == "fails" else ("succeeded",), OF_THE_BODY, refused=False, effect=way == "atomic"
    )


@kind
class Bases(Kind):
    name = "base-class"
    weight = 10
    strategy = st.tuples(st.sampled_from(sorted(BASED)), st.sampled_from(ENDINGS)).map(list)

    def call(self, case: Case, record: Record) -> None:
        name, ending = case.drawn
        BASED[name].apply_async([case.call, ending], queue=case.queue)

    def expected(self, case: Case) -> Expected:
        name, ending = case.drawn
        base, way = name.split()
        swallows = base in ("Swallows", "NoCall")
        error = "^ValueError: translated" if base == "Translates" else OF_THE_BODY
        return Expected(
            ("dead",) if ending == "fails" and not swallows else ("succeeded",), error, refused=False,
            effect=way == "atomic" and base not in ("NoCall", "Swallows"),
        )  # fmt: skip
