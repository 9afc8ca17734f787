"""The end of a run: the calls end, the tasks end, and the books are judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.e2e.cluster.kube import until
from tests.fault_injection.cluster.release import Release
from tests.fault_injection.cluster.report import Row, fill
from tests.fault_injection.local.tally import Tally, tally

BOOKS = ("called", "acknowledged", "effects", "working", "requests", "published")


def verdict(release: Release, rows: Sequence[Row], folder: Path) -> Tally:
    """End the calls, wait until no task is left, copy the books into ``folder`` and fill in the rows. Raises Failed."""
    release.ask_outside("stop")
    until(lambda: release.has("stopped"), "the calls end", timeout=600.0)
    until(lambda: release.unfinished() == 0, "no task is left", timeout=1800.0)
    for name in BOOKS:
        (folder / name).write_text("".join(f"{line}\n" for line in release.book(name)))
    with release.connection() as connection:
        found = tally(folder, connection)
        published = release.book("published")
        succeeded = connection.execute(
            "SELECT id FROM taskruns_taskrun WHERE id = ANY(%s::uuid[]) AND status = 'succeeded'", [published]
        ).fetchall()
    fill(rows, folder, found)
    print(f"published: {len(succeeded)} of {len(published)} tasks succeeded", flush=True)
    if len(succeeded) != len(published):
        found.wrong.append("not every task of a publication succeeded")
    return found
