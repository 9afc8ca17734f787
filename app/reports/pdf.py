"""Writes a report as PDF: a title page, the contents, and at least one page for each section.

The pages are drawn one by one on reportlab's canvas. Its flowables would all be in memory at once; this way a table of
any length needs the memory of one page and of the finished pages. All output is vectors and text, with embedded fonts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from reportlab import rl_config
from reportlab.graphics import renderPDF
from reportlab.graphics.charts.barcharts import VerticalBarChart
from reportlab.graphics.shapes import Drawing
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from app.reports.sections import Chart, Column, Section
from pressroom.text import carried

PLAIN, BOLD = "NanumGothic", "NanumGothicBold"
INK, GREY, ACCENT, RULE, STRIPE = map(HexColor, ("#1d2430", "#66707f", "#8a2b06", "#d9d5cd", "#f6f4ef"))

WIDTH, HEIGHT = A4
LEFT, RIGHT = 20 * mm, WIDTH - 20 * mm
TOP, BOTTOM = HEIGHT - 28 * mm, 22 * mm
ROW, CELL = 6 * mm, 2 * mm
"""Height of a table row; space between the edge of a cell and its text."""
LARGEST_LABELS = 16
"""Maximum number of labels under a chart. More would overlap."""


@functools.cache
def set_up() -> None:
    """Register NanumGothic, which has Latin and Korean letters, with reportlab. Runs once per process."""
    # Write streams as bytes. As base-85 text they would be a quarter larger.
    rl_config.useA85 = 0
    # Only the font files are needed. Importing the package would import matplotlib.
    spec = find_spec("koreanize_matplotlib")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "fonts"
    for name in (PLAIN, BOLD):
        pdfmetrics.registerFont(TTFont(name, folder / f"{name}.ttf"))


def write_pdf(
    file: IO[bytes],
    *,
    title: str,
    period: str,
    made: str,
    titles: Sequence[str],
    sections: Iterable[Section],
) -> None:
    """Write a report to ``file``.

    ``made`` says for whom and when the report was made. ``sections`` are read one by one, in the order of ``titles``.
    """
    set_up()
    book = _Book(file, title, period)
    book.title_page(made)
    book.contents_page(titles)
    for heading, section in zip(titles, sections, strict=True):
        book.section(heading, section)
    book.close()


class _Book:
    """The canvas with the current position on the page."""

    def __init__(self, file: IO[bytes], title: str, period: str) -> None:
        self.canvas = Canvas(file, pagesize=A4, pageCompression=1, lang="en")
        self.canvas.setTitle(f"{title}, {period}")
        self.canvas.setAuthor("Pressroom")
        self.title, self.period = title, period
        self.y = TOP
        self.starts: list[tuple[str, int]] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 9,
        font: str = PLAIN,
        color: Any = INK,
        right: bool = False,
    ) -> None:
        self.canvas.setFont(font, size)
        self.canvas.setFillColor(color)
        draw = self.canvas.drawRightString if right else self.canvas.drawString
        draw(x, y, text)

    # ---- Pages ----

    def title_page(self, made: str) -> None:
        canvas = self.canvas
        canvas.setFillColor(ACCENT)
        canvas.rect(0, 0, 8 * mm, HEIGHT, stroke=0, fill=1)
        self.text(30 * mm, HEIGHT - 40 * mm, "PRESSROOM", size=11, font=BOLD, color=ACCENT)
        self.text(30 * mm, HEIGHT * 0.58, self.title, size=34, font=BOLD)
        self.text(30 * mm, HEIGHT * 0.58 - 14 * mm, self.period, size=17, color=GREY)
        self.text(30 * mm, 30 * mm, fit(made, PLAIN, 9, WIDTH - 50 * mm), color=GREY)
        canvas.showPage()

    def contents_page(self, titles: Sequence[str]) -> None:
        """Draw the contents. The page numbers are still unknown, so they go into a form that ``close`` fills in."""
        self.furniture()
        self.heading("Contents")
        for title in titles:
            self.y -= 10 * mm
            self.canvas.linkRect("", self.key(title), (LEFT, self.y - 2 * mm, RIGHT, self.y + 6 * mm), thickness=0)
            self.text(LEFT, self.y, title, size=12)
            self.leader(LEFT + pdfmetrics.stringWidth(title, PLAIN, 12) + 2 * mm, RIGHT - 12 * mm)
        self.numbers_at = TOP - self.heading_height
        self.canvas.doForm("numbers")
        self.canvas.showPage()

    def leader(self, begin: float, end: float) -> None:
        self.canvas.setStrokeColor(GREY)
        self.canvas.setLineWidth(0.5)
        self.canvas.setDash(0.5, 2.5)
        self.canvas.line(begin, self.y, end, self.y)
        self.canvas.setDash()

    def close(self) -> None:
        """Fill in the page numbers and write the file."""
        self.canvas.beginForm("numbers")
        y = self.numbers_at
        for _, page in self.starts:
            y -= 10 * mm
            self.text(RIGHT, y, str(page), size=12, right=True)
        self.canvas.endForm()
        self.canvas.save()

    def furniture(self) -> None:
        """Draw the header and footer of every page except the first, and move to the top."""
        number = self.canvas.getPageNumber()
        head, foot = HEIGHT - 15 * mm, 12 * mm
        self.text(LEFT, head, self.title, size=8, color=GREY)
        self.text(RIGHT, head, self.period, size=8, color=GREY, right=True)
        self.line(head - 2 * mm)
        self.text(LEFT, foot, "Pressroom", size=8, color=GREY)
        self.text(RIGHT, foot, str(number), size=8, color=GREY, right=True)
        self.y = TOP

    def line(self, y: float, color: Any = RULE, width: float = 0.5) -> None:
        self.canvas.setStrokeColor(color)
        self.canvas.setLineWidth(width)
        self.canvas.line(LEFT, y, RIGHT, y)

    heading_height = 14 * mm

    def heading(self, text: str) -> None:
        self.text(LEFT, self.y - 6 * mm, text, size=20, font=BOLD)
        self.y -= self.heading_height

    @staticmethod
    def key(title: str) -> str:
        return f"section-{title}"

    # ---- Sections ----

    def section(self, title: str, section: Section) -> None:
        """Draw a section, starting on a new page."""
        self.starts.append((title, self.canvas.getPageNumber()))
        self.furniture()
        self.canvas.bookmarkPage(self.key(title))
        self.canvas.addOutlineEntry(title, self.key(title))
        self.heading(title)
        if section.facts:
            self.facts(section.facts)
        if section.chart is not None:
            self.chart(section.chart)
        if section.columns:
            self.table(section.columns, section.rows)
        self.canvas.showPage()

    def facts(self, facts: Sequence[tuple[str, int]]) -> None:
        """Draw the facts as cards, three in a row."""
        gap, height = 4 * mm, 22 * mm
        width = (RIGHT - LEFT - 2 * gap) / 3
        for number, (name, value) in enumerate(facts):
            column = number % 3
            if column == 0:
                self.y -= height + (gap if number else 0)
            x = LEFT + column * (width + gap)
            self.canvas.setFillColor(STRIPE)
            self.canvas.roundRect(x, self.y, width, height, 1.5 * mm, stroke=0, fill=1)
            self.text(x + 4 * mm, self.y + 10 * mm, f"{value:,}", size=20, font=BOLD, color=ACCENT)
            self.text(x + 4 * mm, self.y + 4 * mm, name, size=8.5, color=GREY)
        self.y -= 10 * mm

    def chart(self, chart: Chart) -> None:
        height = 62 * mm
        self.text(LEFT, self.y - 4 * mm, chart.title, size=11, font=BOLD)
        self.y -= 8 * mm
        if not any(chart.values):
            self.text(LEFT, self.y - 6 * mm, "Nothing in this period.", color=GREY)
            self.y -= 16 * mm
            return
        drawing = Drawing(RIGHT - LEFT, height)
        drawing.add(_bars(chart, RIGHT - LEFT, height))
        renderPDF.draw(drawing, self.canvas, LEFT, self.y - height)
        self.y -= height + 12 * mm

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Draw a table, one line per row. Long text is cut with an ellipsis. The head is repeated on every page."""
        self.head(columns)
        empty = True
        for number, row in enumerate(rows):
            if self.y - ROW < BOTTOM:
                self.canvas.showPage()
                self.furniture()
                self.head(columns)
            self.y -= ROW
            if number % 2:
                self.canvas.setFillColor(STRIPE)
                self.canvas.rect(LEFT, self.y, RIGHT - LEFT, ROW, stroke=0, fill=1)
            self.cells(columns, row, PLAIN, INK)
            empty = False
        if empty:
            self.text(LEFT + CELL, self.y - 4 * mm, "Nothing in this period.", color=GREY)

    def head(self, columns: Sequence[Column]) -> None:
        self.y -= ROW
        self.cells(columns, [column.title for column in columns], BOLD, ACCENT)
        self.line(self.y, ACCENT, 0.8)

    def cells(self, columns: Sequence[Column], texts: Sequence[str], font: str, color: Any) -> None:
        self.canvas.setFont(font, 8.5)
        self.canvas.setFillColor(color)
        x = LEFT
        for column, text in zip(columns, texts, strict=True):
            width = column.share * (RIGHT - LEFT)
            shown = fit(text, font, 8.5, width - 2 * CELL)
            if column.align == "right":
                self.canvas.drawRightString(x + width - CELL, self.y + 2 * mm, shown)
            else:
                self.canvas.drawString(x + CELL, self.y + 2 * mm, shown)
            x += width


def fit(text: str, font: str, size: float, width: float) -> str:
    """Return the text on one line of at most ``width`` points, cut with an ellipsis if it is too long."""
    text = " ".join(carried(text).split())
    if pdfmetrics.stringWidth(text, font, size) <= width:
        return text
    shortest, longest = 0, len(text)
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if pdfmetrics.stringWidth(text[:middle].rstrip() + "…", font, size) <= width:
            shortest = middle
        else:
            longest = middle - 1
    return text[:shortest].rstrip() + "…"


def _bars(chart: Chart, width: float, height: float) -> VerticalBarChart:
    bars = VerticalBarChart()
    bars.x, bars.y, bars.width, bars.height = 12 * mm, 8 * mm, width - 12 * mm, height - 10 * mm
    bars.data = [chart.values]
    bars.bars[0].fillColor = ACCENT
    bars.bars.strokeColor = None
    bars.barWidth, bars.groupSpacing = 10, 4
    every = math.ceil(len(chart.labels) / LARGEST_LABELS)
    bars.categoryAxis.categoryNames = [label if n % every == 0 else "" for n, label in enumerate(chart.labels)]
    step = _step(max(chart.values))
    bars.valueAxis.valueMin = 0
    bars.valueAxis.valueStep = step
    bars.valueAxis.valueMax = step * math.ceil(max(chart.values) / step)
    bars.valueAxis.labelTextFormat = lambda value: f"{value:,.0f}"
    bars.valueAxis.visibleGrid = True
    bars.valueAxis.gridStrokeColor, bars.valueAxis.gridStrokeWidth = RULE, 0.5
    bars.valueAxis.visibleAxis = bars.valueAxis.visibleTicks = bars.categoryAxis.visibleTicks = False
    bars.categoryAxis.strokeColor = GREY
    for axis in (bars.categoryAxis, bars.valueAxis):
        axis.labels.fontName, axis.labels.fontSize, axis.labels.fillColor = PLAIN, 7, GREY
    return bars


def _step(largest: int) -> int:
    """Return the step of the value axis: 1, 2 or 5 times a power of ten, for at most five steps."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if largest <= 5 * factor * power:
                return factor * power
        power *= 10
