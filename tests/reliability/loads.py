"""Work whose effects show what was lost and what was done twice."""

from __future__ import annotations

import sys
import urllib.request
from collections import Counter
from collections.abc import Callable

from django.contrib.auth.models import Group
from django.db import transaction
from prometheus_client.parser import text_string_to_metric_families

from pressroom.models import Status, TaskRun
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.processes import Stack

FOLLOWING, BUNDLED = (f"tests.support.probes.tasks,tests.support.probes.{name}" for name in ("following", "bundled"))
"""What a worker includes whose slots take from the ledger what comes next: one by one, or many at once."""


def narrow_relay(stack: Stack, **environment: str) -> Callable[[], int]:
    """A relay that leaves most to them. Returns what tells how many messages it has pushed."""
    path = stack.folder / "pushed"
    command = [sys.executable, "-m", "tests.support.probes.relay_narrow"]
    stack.start(command, "relay: ready", PUSHED_FILE=str(path), **environment)
    return lambda: sum(map(int, noted(path)))


def call(effects: str, numbers: range) -> None:
    """In one transaction: for each number a task that notes a line, and one with a row in its own transaction."""
    with transaction.atomic():
        for number in numbers:
            tasks.effect.delay(effects, str(number))
            tasks.insert.delay("/dev/null", f"row {number}")


def assert_once_each(effects: str, numbers: range) -> None:
    """Every line and every row is there, once; nothing failed."""
    lines = Counter(map(int, noted(effects)))
    rows = Counter(
        int(name.split()[1]) for name in Group.objects.filter(name__startswith="row ").values_list("name", flat=True)
    )
    for what, there in (("lines", lines), ("rows", rows)):
        lost, again = Counter(numbers) - there, there - Counter(numbers)
        assert not lost + again, f"{what} lost: {dict(lost)}, done again: {dict(again)}"
    others = TaskRun.objects.exclude(status=Status.SUCCEEDED)
    assert not others, [(run.name, run.status, run.error) for run in others]


def scrape(port: int, timeout: float = 30.0) -> Counter[tuple[str, ...]]:
    """Each metric by its name and the values of its labels but for the host; those of more than one host added up."""
    told: Counter[tuple[str, ...]] = Counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout) as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            for sample in family.samples:
                labels = [value for name, value in sorted(sample.labels.items()) if name != "hostname"]
                told[sample.name, *labels] += sample.value
    return told


def total(told: Counter[tuple[str, ...]], name: str) -> float:
    return sum(value for key, value in told.items() if key[0] == name)
