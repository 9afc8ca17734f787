"""Writes the results into docs/performance.md, between two marks, and draws them as a picture."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil
from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import Drawing, Rect, String
from reportlab.lib.colors import white

from app.local.servers import PROJECT
from bench import curve
from bench.drawing import BLUE, FONT, GREEN, GREY, number, table
from bench.figures import SITES, Asked, Figures, Posts

BEGIN, END = "<!-- written by make bench -->", "<!-- end -->"

SPEED = (
    "", "slots", "enqueue/s", "enqueue/s in one transaction", "drained/s", "with the start", "idle p50, ms",
    "idle p99, ms", "half load, calls/s", "p50, ms", "p99, ms",
)  # fmt: skip
COST = (
    "", "workers' CPU", "relay's", "Postgres's", "Valkey's", "others', %", "memory, MB", "kills", "not done",
    "done twice",
)  # fmt: skip


def raised(log: str) -> str:
    """Return the exception that ended a program, on one line, or an empty text if there is none."""
    _, found, traceback = log.rpartition("Traceback (most recent call last):")
    if not found:
        return ""
    return next((line for line in traceback.splitlines() if re.match(r"[A-Za-z_][\w.]*(: |$)", line)), "")


def speed_row(of: Figures) -> list[str]:
    return [
        of.title, number(of.slots), number(of.enqueue), number(of.enqueue_many), number(of.drained),
        number(of.drained_with_start), number(of.idle_p50, 1), number(of.idle_p99, 1), number(of.half_rate),
        number(of.half_p50, 1), number(of.half_p99, 1),
    ]  # fmt: skip


def cost_row(of: Figures) -> list[str]:
    return [
        of.title, number(of.cpu_workers, 2), number(of.cpu_beside, 2), number(of.cpu_postgres, 2),
        number(of.cpu_redis, 2), number(of.others), number(of.memory), number(of.kills), number(of.not_done),
        number(of.doubled),
    ]  # fmt: skip


def posts_head(posts: Sequence[Posts]) -> list[str]:
    counts = sorted({one.clients for one in posts})
    clients = [f"{count} client{'s' if count > 1 else ''}" for count in counts]
    return ["", *(f"{count}, {share}" for count in clients for share in ("p50", "p99"))]


def posts_rows(posts: Sequence[Posts]) -> list[list[str]]:
    """Return a row for each site, with p50 and p99 for each number of clients."""
    found = {(one.site, one.clients): one for one in posts}
    counts = sorted({one.clients for one in posts})
    return [
        [
            title,
            *(
                number(getattr(found.get((site, count)), share, None), 1)
                for count in counts
                for share in ("p50", "p99")
            ),
        ]
        for site, title in SITES.items()
        if any(one.site == site for one in posts)
    ]


def commit() -> str:
    """Return the commit that was measured, with a + if files differ from it, or "unknown" outside of a repository."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    # A developer runs git from the PATH, too.
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """Return processors, memory, system and Python version of this machine, on one line."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return (
        f"{psutil.cpu_count()} × {model}, {psutil.virtual_memory().total / 1e9:.0f} GB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def versions(measured: Sequence[Figures], services: dict[str, str]) -> str:
    found = services | {name: version for figures in measured for name, version in figures.versions.items()}
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


def block(measured: Sequence[Figures], posts: Sequence[Posts], asked: Sequence[Asked], context: str) -> str:
    """Return the text between the marks. ``context`` describes the run in sentences."""
    parts = [context]
    if measured:
        parts += [table(SPEED, [speed_row(one) for one in measured]), "CPU in seconds per 1,000 tasks:"]
        parts += [table(COST, [cost_row(one) for one in measured])]
    if any(one.curve for one in measured):
        parts += [curve.LEGEND, curve.table(measured), f"![{curve.TITLE}, by the offered rate](images/latency.svg)"]
    if posts:
        parts += ["`POST /api/posts/`, milliseconds:", table(posts_head(posts), posts_rows(posts))]
    parts += ["![Tasks a second, waits, CPU and losses as bars](images/performance.svg)"] if measured else []
    parts += ["\n".join(f"- {one}" for one in asked)]
    parts += [f"{one.title} ended early: {one.error}" for one in measured if one.error]
    return "\n\n".join(parts)


def around(page: Path, mark: str = BEGIN) -> tuple[str, str]:
    """Return the text before and after the marks. Raises ValueError if the page or the marks are missing."""
    before, begin, rest = (page.read_text() if page.exists() else "").partition(mark)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: no {mark} … {END}")
    return before, after


def write(page: Path, text: str, mark: str = BEGIN) -> None:
    """Replace the text between the marks. Raises ValueError like `around`."""
    before, after = around(page, mark)
    page.write_text(f"{before}{mark}\n\n{text}\n\n{END}{after}")


WIDTH, ROW, TITLES, GAP = 790, 20, 246, 34
PANELS = (
    ("drained, tasks a second", "drained", 0),
    ("commit to start at 20 a second, p99 in ms", "idle_p99", 1),
    ("workers' CPU, seconds per 1,000 tasks", "cpu_workers", 2),
    ("not done after the kills, tasks", "not_done", 0),
)


def picture(measured: Sequence[Figures], path: Path) -> None:
    """Write the bars of each queue and figure as SVG. Those of Pressroom have another colour."""
    panel = GAP + ROW * len(measured)
    drawing = Drawing(WIDTH, panel * len(PANELS) + 10)
    drawing.add(Rect(0, 0, WIDTH, drawing.height, fillColor=white, strokeColor=None))
    y = drawing.height
    for title, figure, digits in PANELS:
        y -= GAP - 10
        drawing.add(String(TITLES, y, title, fontName=FONT, fontSize=12, fillColor=GREY))
        most = max((getattr(one, figure) or 0 for one in measured), default=0) or 1
        for one in measured:
            y -= ROW
            value = getattr(one, figure)
            length = (WIDTH - TITLES - 80) * (value or 0) / most
            colour = GREEN if one.title.startswith("Pressroom") else BLUE
            drawing.add(String(16, y, one.title, fontName=FONT, fontSize=11, fillColor=GREY))
            drawing.add(Rect(TITLES, y - 3, length, ROW - 7, fillColor=colour, strokeColor=None))
            text = number(value, digits)
            drawing.add(String(TITLES + length + 6, y, text, fontName=FONT, fontSize=11, fillColor=GREY))
        y -= 10
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(renderSVG.drawToString(drawing))
