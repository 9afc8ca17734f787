"""The wait from commit to start under rising load, as a table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import Circle, Drawing, Line, PolyLine, Rect, String
from reportlab.lib.colors import HexColor, white

from bench import drawing
from bench.drawing import BLUE, FONT, GREEN, GREY, number
from bench.figures import KEPT, Figures, Offered

TITLE = "Commit to start, p50 and p99 in ms"
LEGEND = (
    f"Commit to start, p50 / p99 in milliseconds, at the same offered rates for all. Where less than {KEPT:.0%} of the "
    "rate was reached, the cell says how many calls a second were made and begun, and higher rates were not tried:"
)
COLOURS = (BLUE, HexColor(0xC4651A), GREEN, HexColor(0x7A4FA3), HexColor(0x9A7B00), HexColor(0xB0305C), GREY)


def drawn(measured: Sequence[Figures]) -> list[Figures]:
    return [one for one in measured if one.curve]


def cell(of: Offered | None) -> str:
    if of is None:
        return "–"
    waits = f"{number(of.p50, 1)} / {number(of.p99, 1)}"
    return waits if of.kept else f"{waits}, reached {number(of.reached)}"


def table(measured: Sequence[Figures]) -> str:
    """Return the waits of each queue that was offered the rates, in Markdown."""
    found = [{offered.rate: offered for offered in one.curve} for one in drawn(measured)]
    rows = [
        [number(rate), *(cell(by_rate.get(rate)) for by_rate in found)]
        for rate in sorted({rate for by_rate in found for rate in by_rate})
    ]
    return drawing.table(("calls/s", *(one.title for one in drawn(measured))), rows)


WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 760, 400, 60, 30, 46, 36
LEGENDS, LEGEND_WIDTH = 4, 170
"""The number of titles on a line, and the room of each."""


def picture(measured: Sequence[Figures], path: Path) -> None:
    """Draw p99 (solid) and p50 (dashed) over the offered rate as SVG. A ring marks a rate that was not kept up with."""
    rows = drawn(measured)
    top = TOP + 18 * math.ceil(len(rows) / LEGENDS)
    waits = [wait for one in rows for offered in one.curve for wait in (offered.p50, offered.p99) if wait]
    most_rate = max((offered.rate for one in rows for offered in one.curve), default=1.0)
    low = math.floor(math.log10(min(waits, default=1.0)))
    high = max(low + 1, math.ceil(math.log10(max(waits, default=10.0))))

    def at(rate: float, wait: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * rate / most_rate
        return x, BOTTOM + (HEIGHT - BOTTOM - top) * (math.log10(wait) - low) / (high - low)

    sheet = Drawing(WIDTH, HEIGHT)
    sheet.add(Rect(0, 0, WIDTH, HEIGHT, fillColor=white, strokeColor=None))
    sheet.add(String(LEFT, HEIGHT - 20, TITLE, fontName=FONT, fontSize=12, fillColor=GREY))
    for power in range(low, high + 1):
        sheet.add(Line(*at(0, 10**power), *at(most_rate, 10**power), strokeColor=HexColor(0xDDDDDD)))
        sheet.add(String(16, at(0, 10**power)[1] - 4, f"{10**power:g}", fontName=FONT, fontSize=11, fillColor=GREY))
    right = -math.inf
    for rate in sorted({offered.rate for one in rows for offered in one.curve}):
        x, text = at(rate, 10**low)[0], number(rate)
        if x - 6 * len(text) / 2 > right:  # only where it does not cover the one before it
            sheet.add(String(x, BOTTOM - 16, text, fontName=FONT, fontSize=11, fillColor=GREY, textAnchor="middle"))
            right = x + 6 * len(text) / 2 + 4
    for place, one in enumerate(rows):
        colour = COLOURS[place % len(COLOURS)]
        for share, dashes in (("p50", [4, 4]), ("p99", None)):
            points = [at(offered.rate, wait) for offered in one.curve if (wait := getattr(offered, share))]
            if len(points) > 1:
                line = [value for point in points for value in point]
                sheet.add(PolyLine(line, strokeColor=colour, strokeWidth=2, strokeDashArray=dashes))
            for offered, (x, y) in zip((one for one in one.curve if getattr(one, share)), points, strict=True):
                fill = colour if offered.kept else white
                sheet.add(Circle(x, y, 4, fillColor=fill, strokeColor=colour, strokeWidth=2))
        x, y = LEFT + LEGEND_WIDTH * (place % LEGENDS), HEIGHT - TOP - 6 - 18 * (place // LEGENDS)
        sheet.add(Line(x, y + 4, x + 16, y + 4, strokeColor=colour, strokeWidth=2))
        sheet.add(String(x + 22, y, one.title, fontName=FONT, fontSize=11, fillColor=GREY))
    legend = "calls a second (solid: p99, dashed: p50, ring: not kept up with)"
    sheet.add(String(WIDTH / 2, 8, legend, fontName=FONT, fontSize=11, fillColor=GREY, textAnchor="middle"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(renderSVG.drawToString(sheet))
