"""What the pages of the benchmarks share: numbers, Markdown tables, colours."""

from __future__ import annotations

from collections.abc import Sequence

from reportlab.lib.colors import HexColor

GREY, BLUE, GREEN = HexColor(0x555555), HexColor(0x1F6FB2), HexColor(0x2E8B57)
FONT = "Helvetica"


def number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with the numbers aligned to the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
