"""Functions for Django's Tasks framework, whose effects stand in a file."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group

from pressroom.context import current_run_id
from pressroom.django_tasks.framework import TaskContext
from pressroom.django_tasks.framework import task as django_task
from tests.support.notes import note


@django_task
def effect(path: str, line: str) -> str:
    note(path, line)
    return line


@django_task
def give_back(value: Any = None) -> Any:
    return value


@django_task
def give_back_a_function() -> Any:
    return give_back_a_function


@django_task(queue_name="emails", priority=5)
def in_emails() -> str:
    return "sent"


@django_task
def fail(text: str) -> None:
    raise KeyError(text)


@django_task
def leave() -> None:
    raise SystemExit(3)


@django_task(takes_context=True)
def told(context: TaskContext) -> dict[str, Any]:
    result = context.task_result
    return {"id": result.id, "attempt": context.attempt, "queue": result.task.queue_name, "workers": result.worker_ids}


@django_task
async def count_groups(name: str) -> list[Any]:
    """Use the database and wait, as async functions do."""
    await Group.objects.acreate(name=name)
    await asyncio.sleep(0)
    return [await Group.objects.filter(name=name).acount(), str(current_run_id())]


@django_task
async def cancel_itself() -> None:
    raise asyncio.CancelledError("by itself")


@django_task(takes_context=True)
def hold(context: TaskContext, path: str, gate: str) -> list[Any]:
    note(path, f"begun {os.getpid()} {context.attempt}")
    while not Path(gate).exists():
        time.sleep(0.01)
    note(path, "ended")
    return [context.attempt, len(context.task_result.worker_ids)]


@django_task
def suicide(path: str) -> None:
    note(path, "once more")
    os.kill(os.getpid(), signal.SIGKILL)


async def not_declared() -> str:
    return "a plain function"
