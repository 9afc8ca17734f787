"""Runs as a test needs them: written straight into the ledger's tables, whatever the library would have done."""

from __future__ import annotations

import uuid
from typing import Any

from django.utils import timezone

from pressroom.models import LIVE, EndedRun, LiveRun, TaskCall, TaskRun

MESSAGE = ("headers", "body", "properties")


def make_run(**fields: Any) -> TaskRun:
    """Store a run with its message and return it. A status that is not live needs ``finished_at`` or gets now."""
    message = {name: fields.pop(name) for name in MESSAGE if name in fields}
    row = _row(fields)
    row.save(force_insert=True)
    TaskCall.objects.create(pk=row.pk, **{"headers": "{}", "body": "[[], {}, {}]", "properties": "{}"} | message)
    return TaskRun.objects.get(pk=row.pk)


def change_run(pk: uuid.UUID, **fields: Any) -> None:
    """Write fields of a run and of its message. A run whose status says so moves to the other table."""
    message = {name: fields.pop(name) for name in MESSAGE if name in fields}
    if "id" in fields:
        message["id"] = fields["id"]
    if message:
        TaskCall.objects.filter(pk=pk).update(**message)
    model = LiveRun if LiveRun.objects.filter(pk=pk).exists() else EndedRun
    if (fields.get("status", model is LiveRun and "queued") in LIVE) == (model is LiveRun):
        if fields:
            model.objects.filter(pk=pk).update(**fields)
        return
    old = model.objects.get(pk=pk)
    known = {field.attname: getattr(old, field.attname) for field in old._meta.concrete_fields}
    old.delete()
    _row(known | fields).save(force_insert=True)


def _row(fields: dict[str, Any]) -> LiveRun | EndedRun:
    if fields.get("status", "queued") in LIVE:
        fields = {name: value for name, value in fields.items() if name not in ("finished_at", "children")}
        return LiveRun(**fields)
    ended = fields.get("finished_at") or timezone.now()
    fields = {name: value for name, value in fields.items() if name not in ("held", "lane", "unique_key")}
    return EndedRun(**fields | {"finished_at": ended})
