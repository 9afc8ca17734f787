"""Charts as SVG shapes. The server draws them, so the pages need no chart library."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

HEIGHT = 100
"""The height of a chart, in SVG units. A step of the time is STEP units wide."""
STEP = 10


@dataclasses.dataclass(frozen=True)
class Bar:
    """The bar of one step."""

    x: int
    y: float
    height: float
    title: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart of ``width`` by HEIGHT units; ``top`` is the value at its upper edge."""

    top: float
    width: int
    bars: list[Bar]
    lines: list[str]
    """The points of each polyline. A line ends where a step has no value."""


def bars(values: Sequence[int], titles: Sequence[str]) -> Chart:
    """Return a chart with a bar for each step."""
    top = max(*values, 1)
    shapes = [
        Bar(index * STEP, round(HEIGHT - HEIGHT * value / top, 1), round(HEIGHT * value / top, 1), title)
        for index, (value, title) in enumerate(zip(values, titles, strict=True))
        if value
    ]
    return Chart(top, len(values) * STEP, shapes, [])


def lines(*series: Sequence[float | None]) -> list[Chart]:
    """Return a chart for each series. All have the same scale, so that a page can draw them over one another."""
    top = max([value for one in series for value in one if value is not None], default=0.0) or 1.0
    return [Chart(top, len(one) * STEP, [], _pieces(one, top)) for one in series]


def _pieces(values: Sequence[float | None], top: float) -> list[str]:
    pieces: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            pieces.append([])
            continue
        y = round(HEIGHT - HEIGHT * value / top, 1)
        # As wide as the step, so that a single value is visible, too.
        pieces[-1] += [f"{index * STEP},{y}", f"{(index + 1) * STEP},{y}"]
    return [" ".join(piece) for piece in pieces if piece]
