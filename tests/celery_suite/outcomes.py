"""What came out, and what `docs/celery.md` says of it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
RESULTS = ("Postgres", "Redis")
"""Where ours keeps the results."""
_ROW = re.compile(r"^\| `(test_[^`]+)` \| (both|Postgres|Redis) \| (.+) \|$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of one test."""

    state: str
    """``passed``, ``failed`` or ``skipped``."""
    text: str = ""
    """Why it failed or was skipped."""


@dataclasses.dataclass(frozen=True)
class Listed:
    """A row of the table of differences."""

    test: str
    """The test's name as pytest gives it, below ``t/integration/``; ``*`` stands for any characters."""
    results: tuple[str, ...]
    reason: str

    def covers(self, test: str) -> bool:
        pattern = ".*".join(map(re.escape, self.test.split("*")))
        return re.fullmatch(pattern, test) is not None


def listed_in(document: str) -> list[Listed]:
    """The rows ``| `test` | both, Postgres or Redis | why |`` of the document."""
    return [
        Listed(test, RESULTS if results == "both" else (results,), reason)
        for test, results, reason in _ROW.findall(document)
    ]


def read(path: Path) -> dict[str, Outcome]:
    """Outcome by test, from the lines that the suite's tests noted; a part that did not pass decides."""
    outcomes: dict[str, Outcome] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        name, state, text = json.loads(line)
        if name not in outcomes or state != PASSED:
            outcomes[name] = Outcome(state, text)
    return outcomes


def compare(
    stock: dict[str, Outcome], ours: dict[str, dict[str, Outcome]], listed: list[Listed]
) -> tuple[list[str], list[str]]:
    """What is wrong, and a summary: one line a backend, then the last.

    Wrong is a test that stock passes, ours does not and the document does not list; and a row of the document for tests
    that stock passes, each of which ours passes as well.
    """
    passed = [test for test, outcome in stock.items() if outcome.state == PASSED]
    wrong, lines = [], []
    for results, outcomes in ours.items():
        rows = [row for row in listed if results in row.results]
        different = {test for test in passed if outcomes.get(test, Outcome(FAILED)).state != PASSED}
        for test in sorted(different):
            if not any(row.covers(test) for row in rows):
                outcome = outcomes.get(test, Outcome(FAILED, "it did not run"))
                reason = (outcome.text.strip().splitlines() or ["?"])[-1]
                wrong.append(f"{results}: {test} {outcome.state}, and is not listed: {reason}")
        wrong += [
            f"{results}: `{row.test}` is listed, but no test of that name differs"
            for row in rows
            # What stock fails, too, says nothing of ours.
            if any(row.covers(test) for test in passed) and not any(row.covers(test) for test in different)
        ]
        lines.append(f"results in {results}: {len(passed) - len(different)} pass, {len(different)} differ")
    total = ", ".join(
        f"{sum(outcomes.get(test, Outcome(FAILED)).state == PASSED for test in passed)} with results in {results}"
        for results, outcomes in ours.items()
    )
    unlisted = f"{len(wrong)} not as docs/celery.md says" if wrong else "each difference is in docs/celery.md"
    return wrong, [*lines, f"{len(passed)} passed by stock; of those pass with ours: {total}; {unlisted}"]
