"""The rows of `make failover`, from books with a pause in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault_injection.cluster.failover.report import FailoverRow, longest_gap, measure, table


@pytest.mark.parametrize(
    ("moments", "longest"),
    [([], 10.0), ([103.0], 7.0), ([108.0, 101.0, 102.0], 6.0), ([90.0, 99.0, 120.0], 10.0), ([100.0, 105.0, 110.0], 5)],
)
def test_the_longest_gap_counts_both_ends(moments: list[float], longest: float) -> None:
    assert longest_gap(moments, 100.0, 110.0) == longest


def test_each_row_has_the_pauses_of_its_time(tmp_path: Path) -> None:
    books = {
        # A request counts from when it was answered, and only if it succeeded.
        "requests": ["91.0 0.5 read 200", "99.0 0.5 read 200", "101.0 0.1 read 503", "102.0 6.0 call 202",
                     "119.0 0.5 read 200", "121.0 0.5 read 200", "130.0 30.0 read ReadTimeout"],
        "working": ["92.0 7 begins 1-chord part 0", "99.5 7 begins 1-chord part 1", "100.2 7 begins 2-outside effect",
                    "106.5 7 begins 3-outside effect", "118.0 7 begins 3-outside effect"],
    }  # fmt: skip
    for name, lines in books.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    rows = [
        FailoverRow("nothing", 90.0, ""), FailoverRow("Postgres", 100.0, "postgres", switched=105.0),
        FailoverRow("Redis", 120.0, "", switched=125.0, recovery=30.0, overdue=True),
    ]  # fmt: skip
    measure(rows, tmp_path)
    assert [row.unserved for row in rows] == [8.0, 11.5, 38.5]
    assert [row.unstarted for row in rows] == [7.5, 11.5, 40.0]
    assert [row.first_start for row in rows] == [0.0, 6.5, float("inf")]
    assert "| Postgres | 0 | 0 | 0 | 11.5 s | 5.0 s | 6.5 s | 11.5 s | 0 | 0 | 0 | 0 s |" in table(rows)
    assert "| 0 | more than 30 s |" in table(rows)
    assert "| nothing | 0 | 0 | 0 | 8.0 s |  |  | 7.5 s |" in table(rows)
