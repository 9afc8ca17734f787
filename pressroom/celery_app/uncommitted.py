"""Who waits for the result of a call that its own transaction has still to commit would wait for ever."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections

from pressroom import context
from pressroom.models import LIVE, TaskRun


def refuse_uncommitted(result: Any) -> None:
    """Raise RuntimeError where a task that the result depends on was called in the transaction that is open here.

    ``result``: an AsyncResult that is not ready, or a set of them; what came before it in a chain or chord counts too.
    """
    running = context.current()
    if running is None and not connection.in_atomic_block:
        return
    ids = _ids_behind(result)
    if running is not None and running.holds(ids):
        raise RuntimeError(
            "Its task was called by a task that is about to end, and is stored with that end: it cannot be waited for "
            "here. Call it in the task's body, or link it."
        )
    if not connection.in_atomic_block:
        return
    ours = dict(TaskRun.objects.filter(celery_id__in=ids, status__in=LIVE).values_list("pk", "name"))
    seen = _committed(list(ours)) if ours else set()
    hidden = [name for run_id, name in ours.items() if run_id not in seen]
    if hidden:
        raise RuntimeError(
            f"{hidden[0]} was called in this transaction and starts once it is committed, so its result cannot come "
            "before: get() after the atomic block, or call the task outside of it."
        )


def _ids_behind(result: Any) -> list[str]:
    """Celery ids of the tasks whose results are in it, or come before it."""
    ids: list[str] = []
    seen: set[int] = set()
    rest = [result]
    while rest:
        one = rest.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        rest.append(one.parent)
        within = getattr(one, "results", None)
        if within is None:
            ids.append(one.id)
        else:
            rest += within
    return ids


def _committed(run_ids: list[uuid.UUID]) -> set[uuid.UUID]:
    """Those of the runs that others can see: asked over a connection of its own, outside the pool."""
    other = connections[DEFAULT_DB_ALIAS].copy()
    other.settings_dict["OPTIONS"].pop("pool", None)
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT id FROM taskruns_taskrun WHERE id = ANY(%s)", [run_ids])
            return {row[0] for row in cursor.fetchall()}
    finally:
        other.close()
