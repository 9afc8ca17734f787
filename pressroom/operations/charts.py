"""Pictures of the last hour as shapes for SVG: drawn by the server, so that no page needs a library for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

HEIGHT = 100
"""Of the picture, in its own units; a minute is ten wide."""
STEP = 10


@dataclasses.dataclass(frozen=True)
class Bar:
    """A minute's bar."""

    x: int
    y: float
    height: float
    title: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """A picture, ``width`` by HEIGHT; ``top`` is the value at its upper edge."""

    top: float
    width: int
    bars: list[Bar]
    lines: list[str]
    """Each a list of points for a polyline, broken where a minute has no value."""


def bars(values: Sequence[int], titles: Sequence[str]) -> Chart:
    """A bar a minute."""
    top = max(*values, 1)
    shapes = [
        Bar(index * STEP, round(HEIGHT - HEIGHT * value / top, 1), round(HEIGHT * value / top, 1), title)
        for index, (value, title) in enumerate(zip(values, titles, strict=True))
        if value
    ]
    return Chart(top, len(values) * STEP, shapes, [])


def lines(*series: Sequence[float | None]) -> list[Chart]:
    """A picture a series, on one scale: to be laid one over the other."""
    top = max([value for one in series for value in one if value is not None], default=0.0) or 1.0
    return [Chart(top, len(one) * STEP, [], _pieces(one, top)) for one in series]


def _pieces(values: Sequence[float | None], top: float) -> list[str]:
    pieces: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            pieces.append([])
            continue
        y = round(HEIGHT - HEIGHT * value / top, 1)
        # As wide as the minute, so that one alone is seen, too.
        pieces[-1] += [f"{index * STEP},{y}", f"{(index + 1) * STEP},{y}"]
    return [" ".join(piece) for piece in pieces if piece]
