"""Writes a report as CSV: its sections one below the other, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import IO

from app.reports.sections import Section
from pressroom.text import carried

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Spreadsheets take a cell that starts with one of these as a formula. Its text may come from anybody."""


def write_csv(file: IO[bytes], *, titles: Sequence[str], sections: Iterable[Section]) -> None:
    """Write the sections to ``file`` as UTF-8 with a byte order mark, without which Excel misreads Korean."""
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
