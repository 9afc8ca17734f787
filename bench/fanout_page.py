"""Writes the results of ``make bench-fanout`` into docs/performance.md, and draws them as a picture."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import Circle, Drawing, Line, PolyLine, Rect, String
from reportlab.lib.colors import white

from app.local.servers import PROJECT
from bench.drawing import BLUE, FONT, GREEN, GREY, number, table
from bench.figures import Asked, percentile
from bench.page import commit, machine, write

if TYPE_CHECKING:
    from bench.fanout import Measured

BEGIN = "<!-- written by make bench-fanout -->"
PAGE, PICTURE = PROJECT / "docs" / "performance.md", PROJECT / "docs" / "images" / "fanout.svg"
HEAD = (
    "", "recipients", "seconds", "recipients/s", "missed", "twice", "worker, MB at first", "MB at most",
    "CPU of workers", "of Postgres", "of the relay", "WAL, KB", "welcome mail p50, ms", "p99, ms",
)  # fmt: skip
LEAST_RATE, LEAST_SHARE, MOST_GROWTH, MOST_WAIT = 5_000.0, 0.85, 20.0, 2.0
"""The aims: recipients a second in batches, share of linear speed by SMTP, MB of growth, seconds of a welcome mail."""


def row(one: Measured) -> list[str]:
    each = one.recipients / 1000
    waits = [percentile(one.welcome, share) * 1000 for share in (0.5, 0.99)] if one.welcome else [None, None]
    return [
        one.title, number(one.recipients), number(one.seconds, 1), number(one.rate),
        number(one.recipients - one.counted.different), number(one.counted.twice), number(one.begin_mb),
        number(one.most_mb), *(number(one.cpu[name] / each, 2) for name in ("workers", "Postgres", "relay")),
        number(one.wal * 1000 / each), *(number(wait) for wait in waits),
    ]  # fmt: skip


def by_smtp(rows: Sequence[Measured]) -> list[Measured]:
    return sorted((one for one in rows if one.title.startswith("SMTP")), key=lambda one: one.slots)


def asked(rows: Sequence[Measured]) -> list[Asked]:
    """Return the aims beside what was measured."""
    found = []
    for one in rows:
        if one.title.startswith("batches"):
            found.append(Asked("recipients/s in batches", one.rate, LEAST_RATE))
            found.append(Asked("MB by which the worker grew", one.most_mb - one.begin_mb, MOST_GROWTH, at_least=False))
    smtp = by_smtp(rows)
    for one in smtp[1:]:
        linear = smtp[0].rate / smtp[0].slots * one.slots
        found.append(Asked(f"speed of {one.slots} slots to linear", one.rate / linear, LEAST_SHARE))
    waits = [percentile(one.welcome, 0.99) for one in rows if one.welcome]
    if waits:
        found.append(Asked("seconds of a welcome mail meanwhile, p99", max(waits), MOST_WAIT, at_least=False))
    return found


def write_page(rows: Sequence[Measured], page: Path = PAGE, picture: Path = PICTURE) -> None:
    """Write table and picture."""
    today = datetime.datetime.now(datetime.UTC).date()
    context = f"{today}, commit {commit()}, {machine()}. CPU (in seconds) and WAL are those of 1,000 recipients."
    parts = [context, table(HEAD, [row(one) for one in rows])]
    if len(by_smtp(rows)) > 1:
        draw(by_smtp(rows), picture)
        parts.append("![Mails a second by the number of slots, beside linear speed](images/fanout.svg)")
    parts.append("\n".join(f"- {one}" for one in asked(rows)))
    write(page, "\n\n".join(parts), BEGIN)


WIDTH, HEIGHT, LEFT, BOTTOM = 560, 320, 60, 46


def draw(rows: Sequence[Measured], path: Path) -> None:
    """Draw mails a second by slots, with the line of linear speed, as SVG."""
    most_slots = rows[-1].slots
    most = max(*(one.rate for one in rows), rows[0].rate / rows[0].slots * most_slots) * 1.08

    def at(slots: float, rate: float) -> tuple[float, float]:
        return LEFT + (WIDTH - LEFT - 30) * slots / most_slots, BOTTOM + (HEIGHT - BOTTOM - 40) * rate / most

    drawing = Drawing(WIDTH, HEIGHT)
    drawing.add(Rect(0, 0, WIDTH, HEIGHT, fillColor=white, strokeColor=None))
    title = "mails a second by SMTP, to a server that takes 50 ms a mail"
    drawing.add(String(LEFT, HEIGHT - 20, title, fontName=FONT, fontSize=12, fillColor=GREY))
    drawing.add(Line(*at(0, 0), *at(most_slots, 0), strokeColor=GREY))
    drawing.add(Line(*at(0, 0), *at(0, most), strokeColor=GREY))
    linear = [*at(0, 0), *at(most_slots, rows[0].rate / rows[0].slots * most_slots)]
    drawing.add(PolyLine(linear, strokeColor=BLUE, strokeDashArray=[4, 4]))
    drawing.add(
        PolyLine([value for one in rows for value in at(one.slots, one.rate)], strokeColor=GREEN, strokeWidth=2)
    )
    for one in rows:
        x, y = at(one.slots, one.rate)
        drawing.add(Circle(x, y, 4, fillColor=GREEN, strokeColor=None))
        drawing.add(String(x - 8, y - 20, number(one.rate), fontName=FONT, fontSize=11, fillColor=GREY))
        drawing.add(String(x - 3, BOTTOM - 16, str(one.slots), fontName=FONT, fontSize=11, fillColor=GREY))
    drawing.add(String(WIDTH / 2, 8, "slots (dashed: linear)", fontName=FONT, fontSize=11, fillColor=GREY))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(renderSVG.drawToString(drawing))
