"""Work whose effects show what was lost and what was done twice."""

from __future__ import annotations

from collections import Counter

from django.contrib.auth.models import Group
from django.db import transaction

from app.taskruns.models import Status, TaskRun
from tests.notes import noted
from tests.probes import tasks


def call(effects: str, numbers: range) -> None:
    """In one transaction: for each number a task that notes a line, and one with a row in its own transaction."""
    with transaction.atomic():
        for number in numbers:
            tasks.effect.delay(effects, str(number))
            tasks.insert.delay("/dev/null", f"row {number}")


def assert_once_each(effects: str, numbers: range) -> None:
    """Every line and every row is there, once; nothing failed."""
    lines = Counter(map(int, noted(effects)))
    rows = Counter(int(name.split()[1]) for name in Group.objects.values_list("name", flat=True))
    for what, there in (("lines", lines), ("rows", rows)):
        lost, again = Counter(numbers) - there, there - Counter(numbers)
        assert not lost + again, f"{what} lost: {dict(lost)}, done again: {dict(again)}"
    others = TaskRun.objects.exclude(status=Status.SUCCEEDED)
    assert not others, [(run.name, run.status, run.error) for run in others]
