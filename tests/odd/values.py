"""Odd values: each is described by a list of plain JSON, ``[form, parameter, …]``, and built from that by `make`."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

Described = list[Any]
MAKERS: dict[str, Callable[..., Any]] = {}


def maker(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function builds the form of its name."""
    MAKERS[function.__name__] = function
    return function


def make(described: Described) -> Any:
    """The value. Never called while it is drawn: some take a second, or 20 MB."""
    form, *parameters = described
    return MAKERS[form](*parameters)


@maker
def plain(value: Any) -> Any:
    return value


@maker
def deep(kind: str, levels: int) -> Any:
    """Built from the inside: no recursion of ours."""
    value: Any = 1
    for level in range(levels):
        if kind == "dict" or (kind == "mixed" and level % 2):
            value = {"k": value}
        elif kind == "tuple":
            value = (value,)
        else:
            value = [value]
    return value


@maker
def circular(kind: str) -> Any:
    if kind == "dict":
        around: dict[str, Any] = {}
        around["self"] = around
        return around
    inner: list[Any] = []
    inner.append({"again": inner} if kind == "through a dict" else inner)
    return inner


@maker
def text(letter: str, length: int) -> str:
    return letter * (length // len(letter.encode(errors="surrogatepass")))


@maker
def number(name: str) -> float:
    return float(name)


@maker
def huge(digits: int) -> int:
    return 10**digits


@maker
def code_points(points: list[int]) -> str:
    """Lone surrogates among them, which the description itself need not carry."""
    return "".join(map(chr, points))


@maker
def raw_bytes(numbers: list[int]) -> bytes:
    return bytes(numbers)


KEYS: dict[str, Callable[[], Any]] = {
    "int": lambda: 1, "none": lambda: None, "float": lambda: 0.5, "nan": lambda: float("nan"), "bool": lambda: True,
    "tuple": lambda: (1, 2), "bytes": lambda: b"k", "nul": lambda: "\x00", "surrogate": lambda: "\ud83d",
    "frozenset": lambda: frozenset({1}), "empty": lambda: "", "uuid": uuid.uuid4, "dunder": lambda: "__type__",
}  # fmt: skip


@maker
def keyed(names: list[str]) -> Any:
    return {KEYS[name](): name for name in names}


@maker
def tagged(kind: Any, value: Any) -> Any:
    """What kombu takes for a value of its own when it reads it."""
    return {"__type__": kind, "__value__": value}


@maker
def inside(kind: str, described: list[Described]) -> Any:
    values = [make(one) for one in described]
    return values if kind == "list" else {f"k{index}": value for index, value in enumerate(values)}


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int = 0


class Refusing:
    """Whose every text is an error."""

    def __repr__(self) -> str:
        raise ValueError("no repr")

    __str__ = __repr__


class BadJson:
    def __json__(self) -> Any:
        raise RuntimeError("no json")


class EndlessJson:
    def __json__(self) -> Any:
        return self


class BadDict(dict[str, Any]):
    """It looks like a dict until somebody reads it."""

    def items(self) -> Any:
        raise LookupError("no items")

    __iter__ = items


class BadText(str):
    __slots__ = ()

    def __repr__(self) -> str:
        raise ValueError("no repr")


def _numbers() -> Iterator[int]:
    yield from range(3)


def _user(**fields: Any) -> Any:
    from django.contrib.auth import get_user_model

    return get_user_model()(username="odd", **fields)


def _lazy(function: Callable[[], Any]) -> Any:
    from django.utils.functional import lazystr

    class Text:
        def __str__(self) -> str:
            return str(function())

    return lazystr(Text())


def _raise() -> Any:
    raise ZeroDivisionError("a lazy text that fails")


def _query() -> Any:
    from django.contrib.auth import get_user_model

    return get_user_model().objects.all()


def _frame() -> Any:
    try:
        raise ValueError("with its traceback")
    except ValueError as error:
        return error


OBJECTS: dict[str, Callable[[], Any]] = {
    "set": lambda: {1, 2}, "frozenset": lambda: frozenset({1}), "generator": _numbers, "iterator": lambda: iter([1]),
    "range": lambda: range(3), "function": lambda: _numbers, "lambda": lambda: lambda: 1, "class": lambda: Point,
    "object": object, "module": lambda: re, "ellipsis": lambda: ..., "complex": lambda: 1j, "path": lambda: Path("/"),
    "pattern": lambda: re.compile("a"), "lock": threading.Lock, "exception": _frame, "enum": lambda: Colour.RED,
    "dataclass": Point, "refusing": Refusing, "bad json": BadJson, "endless json": EndlessJson, "bad dict": BadDict,
    "full bad dict": lambda: BadDict(a=1), "bad text": lambda: BadText("text"), "memoryview": lambda: memoryview(b"m"),
    "bytearray": lambda: bytearray(b"b"), "deque": lambda: collections.deque([1]), "counter": collections.Counter,
    "user": lambda: _user(id=1), "unsaved user": _user, "queryset": _query, "user class": lambda: type(_user()),
    "lazy": lambda: _lazy(lambda: "text"), "lazy that fails": lambda: _lazy(_raise),
    "lazy surrogate": lambda: _lazy(lambda: "\ud83d"), "not implemented": lambda: NotImplemented,
    "decimal nan": lambda: decimal.Decimal("NaN"), "decimal snan": lambda: decimal.Decimal("sNaN"),
    "decimal": lambda: decimal.Decimal("1E+999999"), "delta": lambda: datetime.timedelta.max,
    "moment": lambda: datetime.datetime.max.replace(tzinfo=datetime.UTC), "naive": lambda: datetime.datetime(1, 1, 1),  # noqa: DTZ001

    "date": lambda: datetime.date.min, "time": lambda: datetime.time.max,
    "zone": lambda: datetime.datetime(1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=23, minutes=59))),
    "uuid": uuid.uuid4, "super": lambda: super(Point, Point()), "property": property,
    "signature": lambda: _tasks().take.s(0), "result": lambda: _tasks().take.AsyncResult("an-id"),
}  # fmt: skip


def _tasks() -> Any:
    from tests.odd.tasks import basic

    return basic


@maker
def thing(name: str) -> Any:
    return OBJECTS[name]()


MB = 1_000_000
LENGTHS = [1, 255, 8_191, 700_000, 786_000, MB, 2 * MB, 2 * MB, 9 * MB, 20 * MB]
CODE_POINTS = st.one_of(
    st.sampled_from([0, 0x1F, 0x7F, 0xD83D, 0xDC80, 0xDFFF, 0x202E, 0xFEFF, 0xFFFE, 0x1F600, 0x10FFFF]),
    st.integers(0, 0x10FFFF),
)
TYPES = ["money", "datetime", "date", "time", "decimal", "uuid", "bytes", "base64", "", "__type__", 1, None, ["list"]]
TAGGED = [
    "1.50", "", "nonsense", "NaN", "sNaN", "2026-02-30", "9999-12-31T23:59:59", "é", "a", 1, None, [], {},
    {"hex": "zz"},
    {"hex": "0" * 32}, {"hex": "0" * 32, "more": 1}, {"int": -1},
]  # fmt: skip

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=20), st.floats(allow_nan=False)
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


def _form(name: str, *parameters: st.SearchStrategy[Any]) -> st.SearchStrategy[Described]:
    return st.tuples(st.just(name), *parameters).map(list)


texts = _form("code_points", st.lists(CODE_POINTS, max_size=12))
depths = st.one_of(st.integers(50, 5000), st.sampled_from([98, 99, 100, 101, 102, 500, 995, 2000, 50_000]))
small = st.one_of(
    _form("deep", st.sampled_from(["list", "dict", "tuple", "mixed"]), depths),
    _form("circular", st.sampled_from(["dict", "list", "through a dict"])),
    _form("number", st.sampled_from(["nan", "inf", "-inf", "-0.0", "5e-324"])),
    _form("huge", st.sampled_from([20, 308, 400, 4_299, 4_300, 4_301, 20_000])),
    texts,
    _form("raw_bytes", st.lists(st.integers(0, 255), max_size=12)),
    _form("keyed", st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=3)),
    _form("tagged", st.sampled_from(TYPES), st.sampled_from(TAGGED)),
    _form("thing", st.sampled_from(sorted(OBJECTS))),
    _form("plain", json_values),
)
large = _form("text", st.sampled_from(["x", "é", "\U0001f600", "\\", '"']), st.sampled_from(LENGTHS))
nested = _form("inside", st.sampled_from(["list", "dict"]), st.lists(small, min_size=1, max_size=3))
values = st.one_of(small, small, small, small, nested, nested, large)


def size(described: Described) -> int:
    """Bytes at most that it takes as JSON, roughly; for what is large by intent."""
    form, *parameters = described
    if form == "text":
        return int(parameters[1]) * 6
    if form == "inside":
        return sum(map(size, parameters[1]))
    return 0
