"""A picture of one burst: what waited and ran, what had ended, and the workers, over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reportlab.graphics import renderSVG
from reportlab.graphics.charts.lineplots import LinePlot
from reportlab.graphics.shapes import Drawing, Rect, String
from reportlab.lib.colors import Color, HexColor, white

WIDTH, HEIGHT, LEFT = 760, 420, 56
GREY, BLUE, GREEN, RED = HexColor(0x555555), HexColor(0x1F6FB2), HexColor(0x2E8B57), HexColor(0xB2452F)
FONT = "Helvetica"

Points = Sequence[tuple[float, float]]


def plot(y: int, height: int, most_x: float, lines: Sequence[tuple[str, Color, Points]]) -> list[LinePlot | String]:
    """Lines over the same seconds, with a legend above them."""
    chart = LinePlot()
    chart.x, chart.y, chart.width, chart.height = LEFT, y, WIDTH - LEFT - 24, height
    chart.data = [list(points) for _, _, points in lines]
    chart.xValueAxis.valueMin, chart.xValueAxis.valueMax = 0, most_x
    chart.yValueAxis.valueMin = 0
    for axis in (chart.xValueAxis, chart.yValueAxis):
        axis.labels.fontName, axis.labels.fontSize, axis.labels.fillColor = FONT, 10, GREY
        axis.strokeColor = GREY
    chart.yValueAxis.visibleGrid, chart.yValueAxis.gridStrokeColor = 1, HexColor(0xE4E4E4)
    legend, x = [], LEFT
    for number, (title, colour, _) in enumerate(lines):
        chart.lines[number].strokeColor, chart.lines[number].strokeWidth = colour, 2
        legend.append(String(x, y + height + 10, title, fontName=FONT, fontSize=11, fillColor=colour))
        x += 7 * len(title) + 24
    return [chart, *legend]


def steps(points: Points) -> Points:
    """The same, as a value that holds until the next."""
    held: list[tuple[float, float]] = []
    for at, value in points:
        if held:
            held.append((at, held[-1][1]))
        held.append((at, value))
    return held


def draw(title: str, count: int, samples: Sequence[tuple[float, int, int, int]], path: Path) -> None:
    """Write it as SVG. ``samples``: seconds, depth of the queue, pods, pods that are ready."""
    drawing = Drawing(WIDTH, HEIGHT)
    drawing.add(Rect(0, 0, WIDTH, HEIGHT, fillColor=white, strokeColor=None))
    drawing.add(String(LEFT, HEIGHT - 22, title, fontName=FONT, fontSize=13, fillColor=GREY))
    depth = [(at, depth) for at, depth, _, _ in samples]
    first = next((number for number, (_, waiting) in enumerate(depth) if waiting), 0)
    ended = [(at, count - waiting if number >= first else 0) for number, (at, waiting) in enumerate(depth)]
    pods, ready = ([(sample[0], sample[which]) for sample in samples] for which in (2, 3))
    most = samples[-1][0]
    parts = plot(196, 160, most, [("tasks waiting or running", BLUE, depth), ("ended", GREEN, ended)])
    parts += plot(34, 110, most, [("worker pods", GREY, steps(pods)), ("ready", RED, steps(ready))])
    parts.append(String(WIDTH - 24, 8, "seconds", fontName=FONT, fontSize=10, fillColor=GREY, textAnchor="end"))
    for part in parts:
        drawing.add(part)
    path.write_text(renderSVG.drawToString(drawing))
