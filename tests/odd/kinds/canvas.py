"""Odd chains, groups and chords, and callbacks with odd ids and options."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.odd.book import Case, Record
from tests.odd.kinds import Expected, Kind, kind
from tests.odd.kinds.options import OPTIONS
from tests.odd.values import make, values

SETTABLE = ["priority", "countdown", "expires", "eta", "time_limit", "queue", "shadow", "task_id", "headers", "link"]
SHAPES: dict[str, Callable[[Any], Any]] = {}


def shape(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Made around one odd signature."""
    SHAPES[function.__name__.replace("_", " ")] = function
    return function


def _tasks() -> Any:
    from tests.odd.tasks import basic

    return basic


@shape
def link(odd: Any) -> Any:
    return _tasks().step.s().set(link=odd)


@shape
def link_error(odd: Any) -> Any:
    return _tasks().fails.s().set(link_error=odd)


@shape
def chain_first(odd: Any) -> Any:
    return odd | _tasks().step.s()


@shape
def chain_last(odd: Any) -> Any:
    return _tasks().step.s() | odd


@shape
def group_part(odd: Any) -> Any:
    from celery import group

    return group([_tasks().step.s(), odd, _tasks().step.s()])


@shape
def header_part(odd: Any) -> Any:
    from celery import chord

    return chord([_tasks().step.s(), odd], _tasks().step.s())


@shape
def chord_body(odd: Any) -> Any:
    from celery import chord

    return chord([_tasks().step.s(), _tasks().step.s()], odd)


@shape
def failed_chord(odd: Any) -> Any:
    from celery import chord

    return chord([_tasks().step.s(), _tasks().fails.s()], _tasks().step.s().set(link_error=odd))


@shape
def inner_group(odd: Any) -> Any:
    from celery import group

    return _tasks().step.s() | group([odd, _tasks().step.s()]) | _tasks().step.s()


@shape
def same_twice(odd: Any) -> Any:
    from celery import group

    return group([odd, odd])


@st.composite
def _set(draw: Any) -> list[str]:
    name = draw(st.sampled_from(SETTABLE))
    among = sorted(OPTIONS.get(name) or OPTIONS["queue"])
    return ["set", name, draw(st.sampled_from(among))]


@kind
class Canvas(Kind):
    """Whatever of it can run runs; what cannot is dead, and what waits for that ends as well."""

    name = "canvas"
    weight = 30
    also_refused = ("RecursionError",)
    """Celery copies a signature before the ledger sees it, and Python copies no deeper than it calls."""
    strategy = st.tuples(
        st.sampled_from(
            ["link", "link error", "chain first", "chain last", "group part", "header part", "chord body",
             "failed chord", "inner group", "same twice"]
        ),
        st.one_of(_set(), values.map(lambda value: ["args", value])),
    ).map(list)  # fmt: skip

    def call(self, case: Case, record: Record) -> None:
        shape_name, (how, *what) = case.drawn
        if how == "args":
            odd = _tasks().step.s(make(what[0]))
        else:
            name, value = what
            made = (OPTIONS.get(name) or OPTIONS["queue"])[value]()
            if name == "task_id" and value == "long":
                made = secrets.token_hex(4000)
            if name == "task_id" and isinstance(made, str) and made:
                # Another case may have a live run with an id as short as this one.
                made += case.call
            odd = _tasks().step.s().set(**{name: made})
        SHAPES[shape_name](odd).apply_async()

    def expected(self, case: Case) -> Expected:
        return Expected(("succeeded", "dead", "expired", "replaced", "cancelled"), r"\w", later=True)


def _celery() -> Any:
    import celery

    return celery


def _failing() -> Any:
    yield _tasks().step.s()
    raise LookupError("the generator fails")


def _nested_groups(levels: int) -> Any:
    inner = _tasks().step.s()
    for _ in range(levels):
        inner = _celery().group([inner, _tasks().step.s()])
    return inner


def _nested_chords(levels: int) -> Any:
    inner = _tasks().step.s()
    for _ in range(levels):
        inner = _celery().chord([_tasks().step.s(), _tasks().step.s()], inner)
    return inner


def _frozen() -> Any:
    signature = _tasks().step.s()
    signature.freeze()
    return _celery().group([signature, signature])


def _linked_to_itself() -> Any:
    signature = _tasks().step.s()
    signature.options["link"] = [signature]
    return signature


# None so wide that plain calls wait behind it: a backlog is nothing odd.
WHOLE: dict[str, Callable[[], Any]] = {
    "empty chain": lambda: _celery().chain(), "empty group": lambda: _celery().group(),
    "empty header": lambda: _celery().chord([], _tasks().step.s()),
    "no body": lambda: _celery().chord([_tasks().step.s()], None),
    "nones": lambda: _celery().group([None, _tasks().step.s()]),
    "texts": lambda: _celery().chain("odd.step", "odd.step"), "numbers": lambda: _celery().group([1, 2]),
    "generator": lambda: _celery().group(_tasks().step.s() for _ in range(3)),
    "generator header": lambda: _celery().chord((_tasks().step.s() for _ in range(3)), _tasks().step.s()),
    "failing generator": lambda: _celery().group(_failing()),
    "deep chain": lambda: _celery().chain(*[_tasks().step.s() for _ in range(40)]),
    "deep groups": lambda: _nested_groups(12), "deep chords": lambda: _nested_chords(5),
    "wide": lambda: _celery().group([_tasks().step.s() for _ in range(20)]),
    "chunks": lambda: _tasks().step.chunks([(1,), (2,)], 1), "map": lambda: _tasks().step.map([1, {2}]),
    "starmap": lambda: _tasks().step.starmap([(1,), 2]), "xmap nan": lambda: _tasks().step.map([float("nan")]),
    "unknown": lambda: _celery().signature("no.such.task"), "no name": lambda: _celery().signature(""),
    "frozen twice": _frozen, "itself": _linked_to_itself,
}  # fmt: skip


@kind
class Whole(Kind):
    name = "canvas-whole"
    weight = 8
    strategy = st.sampled_from(sorted(WHOLE))
    also_refused = ("LookupError", "AttributeError", "RecursionError")
    """What it is built from fails, before any call."""

    def call(self, case: Case, record: Record) -> None:
        canvas = WHOLE[case.drawn]()
        canvas.apply_async()

    def expected(self, case: Case) -> Expected:
        return Expected(("succeeded", "dead", "replaced"), r"\w")
