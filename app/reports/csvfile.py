"""A report as CSV: its sections one below the other, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import IO

from app.reports.sections import Section
from pressroom.text import carried

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is a formula to spreadsheets, and its text may be anybody's."""


def write_csv(file: IO[bytes], *, titles: Sequence[str], sections: Iterable[Section]) -> None:
    """Write to ``file`` as UTF-8 with a byte order mark, without which Excel takes Korean for something else."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="", write_through=True)
    out = csv.writer(text)
    for number, (title, section) in enumerate(zip(titles, sections, strict=True), 1):
        if number > 1:
            out.writerow([])
        out.writerow([title])
        out.writerows(section.facts)
        if section.columns:
            out.writerow([column.title for column in section.columns])
            out.writerows([_harmless(cell) for cell in row] for row in section.rows)
        elif section.chart is not None:
            out.writerow(["", section.chart.title])
            out.writerows(zip(section.chart.labels, section.chart.values, strict=True))
    text.flush()
    text.detach()


def _harmless(cell: str) -> str:
    cell = carried(cell)
    return f"'{cell}" if cell.startswith(FORMULA) else cell
