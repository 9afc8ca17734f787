"""The rows of `make chaos`, from books with a loss, a double and refused requests in them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.fault_injection.cluster.report import Row, fill, table
from tests.fault_injection.local.tally import Tally


def test_each_row_has_what_was_called_in_its_time(tmp_path: Path) -> None:
    books = {
        "requests": ["100.0 0.1 call 202", "201.0 0.1 read 503", "241.5 0.5 read 503", "250.0 0.1 read 503",
                     "260.0 9.0 read ReadTimeout", "301.0 0.1 call 503"],
        "acknowledged": ["1-chord 100.5", "2-outside 205.0", "3-transactional 302.0"],
        "working": ["101.0 7 begins 1-chord part 0", "104.5 7 begins 1-chord part 1", "290.0 7 begins 1-chord callback",
                    "207.0 7 begins 2-outside effect", "230.0 7 begins 2-outside effect"],
    }  # fmt: skip
    for name, lines in books.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    rows = [Row("nothing", 90.0, ""), Row("Postgres", 200.0, "postgres", recovery=40.0), Row("Redis", 300.0, "")]
    found = Tally(4, {}, missing=["3-transactional effect"], extra=["2-outside effect", "1-chord part 1"])
    fill(rows, tmp_path, found)
    assert [(row.requests, row.refused, row.failed) for row in rows] == [
        (1, 0, Counter()), (4, 2, Counter({"503": 1, "ReadTimeout": 1})), (1, 0, Counter({"503": 1})),
    ]  # fmt: skip
    assert [(row.lost, row.doubled, row.outside) for row in rows] == [(0, 1, 0), (0, 0, 1), (1, 0, 0)]
    assert [row.delay for row in rows] == [4.0, 2.0, 0.0]
    assert "| Postgres | 4 | 2 | 1 × 503, 1 × ReadTimeout | 0 | 0 | 1 | 2.0 s | 42 s | none |" in table(rows)
