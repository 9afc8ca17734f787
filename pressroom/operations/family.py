"""What a run has to do with others: who called it, what it called, what it repeats."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.db import connection
from django.utils import timezone

from pressroom.models import TaskGroup, TaskRun
from pressroom.operations.search import LOOKED_THROUGH
from pressroom.operations.shown import headers_of
from pressroom.uuid7 import uuid7_at

MOST = 200
"""Runs that a tree shows."""
DEEPEST = 6
CLOCKS = datetime.timedelta(seconds=10)
"""By which those of two machines may differ."""


@dataclasses.dataclass
class Node:
    """A run in the tree; ``run`` is None where its row is gone or never was."""

    celery_id: str
    run: TaskRun | None
    children: list[Node] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Family:
    """The relations of one run."""

    ancestors: list[Node]
    """From the first caller down to the run's own."""
    tree: Node
    is_cut: bool
    """There are more than MOST, or deeper ones."""
    group: TaskGroup | None
    others: list[TaskRun]
    """Further runs with its Celery id: what it repeats, what repeats it, what took its place."""


def family(run: TaskRun) -> Family:
    """Everything that is known of the run's relations."""
    tree, is_cut = _tree(run, _called_by(run) if run.children is None else list(called(run.children)))
    others = TaskRun.objects.filter(celery_id=run.celery_id).exclude(pk=run.pk).only(*SHOWN).order_by("-id")[:20]
    group = headers_of(run).get("group")
    return Family(
        _ancestors(run),
        tree,
        is_cut,
        TaskGroup.objects.filter(pk=group).first() if group else None,
        list(others),
    )


SHOWN = ("id", "celery_id", "name", "status", "created_at", "finished_at", "retry_of_id", "headers", "children")


def _newest(celery_ids: Iterable[str]) -> dict[str, TaskRun]:
    runs = TaskRun.objects.filter(celery_id__in=list(celery_ids)).only(*SHOWN).order_by("celery_id", "-id")
    return {run.celery_id: run for run in runs.distinct("celery_id")}


def _ancestors(run: TaskRun) -> list[Node]:
    """A Celery id may come back later as the id of what took a caller's place: the caller was there before the call."""
    found: list[Node] = []
    caller: TaskRun | None = run
    while caller is not None and len(found) < DEEPEST:
        celery_id = headers_of(caller).get("parent_id")
        if not celery_id:
            break
        caller = TaskRun.objects.filter(celery_id=celery_id, pk__lt=caller.pk).only(*SHOWN).order_by("-id").first()
        found.insert(0, Node(celery_id, caller))
    return found


def _called_by(run: TaskRun) -> list[str]:
    """What a run calls that has not said so itself: it runs, retries, or others took its place.

    Looked for among what was called meanwhile, for nothing leads from a run to its calls but their own headers.
    """
    if run.started_at is None:
        return []
    end = (run.finished_at or timezone.now()) + CLOCKS
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT celery_id FROM (
                SELECT id, celery_id, headers FROM taskruns_taskrun WHERE id >= %s AND id < %s
                ORDER BY id LIMIT {LOOKED_THROUGH}
            ) meanwhile WHERE strpos(headers, %s) > 0 ORDER BY id LIMIT {MOST}
            """,
            [uuid7_at(run.created_at), uuid7_at(end), f'"parent_id": {json.dumps(run.celery_id)}'],
        )
        return [row[0] for row in cursor.fetchall()]


def _tree(run: TaskRun, calls: list[str]) -> tuple[Node, bool]:
    """Level by level, one statement each."""
    root = Node(run.celery_id, run)
    level, seen = [root], {run.celery_id}
    for _ in range(DEEPEST):
        named = [
            (node, child)
            for node in level
            if node.run is not None
            for child in (calls if node is root else called(node.run.children))
        ]
        fresh: list[tuple[Node, str]] = []
        for node, child in named:
            if child not in seen and len(seen) < MOST:
                seen.add(child)
                fresh.append((node, child))
        if not fresh:
            return root, len(seen) >= MOST
        runs = _newest(child for _, child in fresh)
        level = []
        for node, child in fresh:
            node.children.append(Node(child, runs.get(child)))
            level.append(node.children[-1])
    return root, True


def called(children: str | None) -> Iterator[str]:
    """The Celery ids in a run's ``children``, which are results as tuples: [[id, parent], members or null]."""
    for result in json.loads(children) if children else ():
        yield from _ids(result)


def _ids(result: Any) -> Iterator[str]:
    (celery_id, _), members = result
    if members is None:
        yield celery_id
    else:
        for member in members:
            yield from _ids(member)
