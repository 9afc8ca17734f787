"""The relations of a run: its callers, its calls, and the runs that it repeats or that repeat it."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.db import connection
from django.utils import timezone

from pressroom.models import Status, TaskGroup, TaskRun
from pressroom.operations.shown import headers_of
from pressroom.sql.run_filter import LOOKED_THROUGH
from pressroom.uuid7 import uuid7_at

MOST = 200
"""The largest number of runs that a tree shows."""
DEEPEST = 6
"""The largest number of levels that a tree shows."""
CLOCKS = datetime.timedelta(seconds=10)
"""How far the clocks of two machines may differ."""


@dataclasses.dataclass
class Node:
    """A run in the tree; ``run`` is None if the ledger does not, or no longer, contain it."""

    celery_id: str
    run: TaskRun | None
    children: list[Node] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Family:
    """The relations of one run."""

    ancestors: list[Node]
    """The callers, from the first one down to the run's direct caller."""
    tree: Node
    is_cut: bool
    """Whether the tree leaves runs out, because there are more than MOST or they are deeper than DEEPEST."""
    group: TaskGroup | None
    others: list[TaskRun]
    """Further runs with the same Celery id: those that it repeats, that repeat it, or that took its place."""


def family(run: TaskRun) -> Family:
    """Return everything that is known about the run's relations."""
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


SHOWN = ("id", "celery_id", "name", "status", "created_at", "finished_at", "retry_of_id", "children")


def _newest(celery_ids: Iterable[str]) -> dict[str, TaskRun]:
    runs = TaskRun.objects.filter(celery_id__in=list(celery_ids)).only(*SHOWN).order_by("celery_id", "-id")
    return {run.celery_id: run for run in runs.distinct("celery_id")}


def _ancestors(run: TaskRun) -> list[Node]:
    """Return the run's callers, the first one first.

    The caller is older than its call, so the query looks only at older runs. A retry names its own Celery id as its
    caller's, because Celery takes the task that runs for the caller. Only a run that took another one's place has a
    caller with its own Celery id.
    """
    found: list[Node] = []
    caller: TaskRun | None = run
    while caller is not None and len(found) < DEEPEST:
        celery_id = headers_of(caller).get("parent_id")
        if not celery_id:
            break
        older = TaskRun.objects.filter(celery_id=celery_id, pk__lt=caller.pk).only(*SHOWN).order_by("-id")
        if celery_id == caller.celery_id:
            caller = older.filter(status=Status.REPLACED).first()
            if caller is None:
                break
        else:
            caller = older.first()
        found.insert(0, Node(celery_id, caller))
    return found


def _called_by(run: TaskRun) -> list[str]:
    """Return the Celery ids of the calls of a run that has not recorded them: it runs, retries, or was replaced.

    Only the headers of a call name its caller. The query therefore searches the runs that were called while this run
    was executing.
    """
    if run.started_at is None:
        return []
    end = (run.finished_at or timezone.now()) + CLOCKS
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT id FROM (
                SELECT id, headers FROM taskruns_taskcall WHERE id >= %s AND id < %s ORDER BY id LIMIT {LOOKED_THROUGH}
            ) meanwhile WHERE strpos(headers, %s) > 0 ORDER BY id LIMIT {MOST}
            """,
            [uuid7_at(run.created_at), uuid7_at(end), f'"parent_id": {json.dumps(run.celery_id)}'],
        )
        keys = [row[0] for row in cursor.fetchall()]
    return list(TaskRun.objects.filter(pk__in=keys).order_by("pk").values_list("celery_id", flat=True))


def _tree(run: TaskRun, calls: list[str]) -> tuple[Node, bool]:
    """Build the tree level by level, with one statement for each level."""
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
    """Yield the Celery ids in a run's ``children``, which are results as tuples: [[id, parent], members or null]."""
    for result in json.loads(children) if children else ():
        yield from _ids(result)


def _ids(result: Any) -> Iterator[str]:
    (celery_id, _), members = result
    if members is None:
        yield celery_id
    else:
        for member in members:
            yield from _ids(member)
