"""Refuse to wait for a call that the waiting transaction has yet to commit: the wait would never end."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections

from pressroom import context
from pressroom.models import LiveRun


def refuse_uncommitted(result: Any) -> None:
    """Raise RuntimeError if the result depends on a task that was called in the transaction that is open here.

    ``result`` is an AsyncResult that is not ready, or a set of them. Earlier tasks of its chain or chord count too.
    """
    running = context.current()
    if running is None and not connection.in_atomic_block:
        return
    ids = _ids_behind(result)
    if running is not None and running.holds(ids):
        raise RuntimeError(
            "The call is stored when the task that made it ends, so that task cannot wait for its result. Make the "
            "call in the task's body, or link it."
        )
    if not connection.in_atomic_block:
        return
    ours = dict(LiveRun.objects.filter(celery_id__in=ids).values_list("pk", "name"))
    seen = _committed(list(ours)) if ours else set()
    hidden = [name for run_id, name in ours.items() if run_id not in seen]
    if hidden:
        raise RuntimeError(
            f"{hidden[0]} was called in this transaction and starts only after its commit. Call get() after the atomic "
            "block, or call the task outside of it."
        )


def _ids_behind(result: Any) -> list[str]:
    """Return the Celery ids of the tasks in the result and of those that come before it."""
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
    """Return those of the runs that are committed. Reads them over a new connection, outside the pool."""
    other = connections[DEFAULT_DB_ALIAS].copy()
    other.settings_dict["OPTIONS"].pop("pool", None)
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT id FROM taskruns_taskrun WHERE id = ANY(%s)", [run_ids])
            return {row[0] for row in cursor.fetchall()}
    finally:
        other.close()
