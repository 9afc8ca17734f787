"""Calls from async code: when they are stored, whose they are, and results that are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from celery import chain, chord, current_app, group
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from django.contrib.auth.models import Group
from django.db import transaction

from app.accounts.models import User
from pressroom.enqueue.ownership import owned_by
from pressroom.models import Status, TaskRun
from tests.support.probes import here, tasks

pytestmark = pytest.mark.django_db(transaction=True)


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test that is a coroutine."""

    @wraps(test)
    def run() -> None:
        async_to_sync(test)()

    return run


def execute_all() -> None:
    while run := TaskRun.objects.filter(status=Status.QUEUED).order_by("id").first():
        here.execute(run)


async def executed(result: Any, **options: Any) -> Any:
    """What is awaited while somebody else executes it."""
    waiting = asyncio.ensure_future(result.aget(**options))
    await asyncio.sleep(0)
    await sync_to_async(execute_all)()
    return await waiting


@in_a_loop
async def test_a_call_is_stored_when_it_returns() -> None:
    result = await tasks.effect.adelay("/dev/null", "a")
    run = await TaskRun.objects.aget(celery_id=result.id)
    assert (run.status, run.name) == (Status.QUEUED, "probe.effect")
    other = await tasks.effect.aapply_async(("/dev/null", "b"), queue="emails", countdown=60)
    assert (await TaskRun.objects.aget(celery_id=other.id)).queue == "emails"


def test_a_call_below_an_open_transaction_is_part_of_it() -> None:
    async def call() -> None:
        await Group.objects.acreate(name="of the transaction")
        await tasks.effect.adelay("/dev/null", "a")

    with transaction.atomic():
        async_to_sync(call)()
        assert TaskRun.objects.count() == 1
        transaction.set_rollback(True)
    assert not TaskRun.objects.exists()
    assert not Group.objects.filter(name="of the transaction").exists()


def test_a_call_belongs_to_the_user_of_its_context() -> None:
    kim = User.objects.create_user("kim", "kim@example.com", "a-long-passphrase-1")
    with owned_by(kim):
        result = async_to_sync(tasks.effect.adelay)("/dev/null", "a")
    assert TaskRun.of(result).owner_id == kim.pk


@in_a_loop
async def test_a_refused_call_raises_and_stores_nothing() -> None:
    with pytest.raises(Exception, match="misspelt"):
        await tasks.effect.aapply_async(("/dev/null", "a"), queue="misspelt")
    assert not await TaskRun.objects.aexists()


@in_a_loop
async def test_a_result_is_awaited_while_the_loop_goes_on() -> None:
    result = await tasks.effect.adelay("/dev/null", "a")
    assert await executed(result) == "a"
    assert await result == "a"
    assert await current_app.AsyncResult(result.id) == "a"


@in_a_loop
async def test_an_error_is_raised() -> None:
    result = await tasks.fail.adelay("gone")
    with pytest.raises(KeyError, match="gone"):
        await executed(result)
    assert isinstance(await result.aget(propagate=False), KeyError)


@in_a_loop
async def test_a_step_whose_predecessor_was_cancelled_is_not_waited_for() -> None:
    steps = chain(tasks.effect.si("/dev/null", "first"), tasks.effect.si("/dev/null", "second"))
    last = await sync_to_async(steps.delay)()
    await sync_to_async(lambda: here.cancelled(TaskRun.of(last.parent)))()
    with pytest.raises(TaskRevokedError):
        await last.aget(timeout=5)


@in_a_loop
async def test_a_result_that_is_ignored_is_not_waited_for() -> None:
    result = await tasks.effect.aapply_async(("/dev/null", "a"), ignore_result=True)
    assert await result.aget(timeout=5) is None


@in_a_loop
async def test_groups_and_chords_are_awaited() -> None:
    calls = group(tasks.effect.s("/dev/null", str(number)) for number in range(3))
    assert await executed(await sync_to_async(calls.delay)()) == ["0", "1", "2"]
    body = await sync_to_async(chord(calls, tasks.effect.si("/dev/null", "body")).delay)()
    assert await executed(body) == "body"


@in_a_loop
async def test_a_wait_ends_after_its_time() -> None:
    result = await tasks.effect.adelay("/dev/null", "a")
    with pytest.raises(CeleryTimeoutError):
        await result.aget(timeout=0.02)


@in_a_loop
async def test_a_result_of_eager_tasks_is_awaited_too() -> None:
    """Tests of a site often set task_always_eager."""
    calls = group(tasks.effect.s("/dev/null", str(number)) for number in range(3))
    current_app.conf.task_always_eager = True
    try:
        result = await tasks.effect.adelay("/dev/null", "a")
        assert (await result, await result.aget(timeout=0), result.get()) == ("a", "a", "a")
        failed = await tasks.fail.adelay("gone")
        with pytest.raises(KeyError, match="gone"):
            await failed
        assert isinstance(await failed.aget(propagate=False), KeyError)
        assert await (await sync_to_async(calls.delay)()) == ["0", "1", "2"]
        steps = tasks.effect.si("/dev/null", "first") | tasks.effect.si("/dev/null", "second")
        last = await sync_to_async(steps.delay)()
        assert (await last, await last.parent) == ("second", "first")
    finally:
        current_app.conf.task_always_eager = False


def test_a_call_that_is_not_committed_is_not_waited_for() -> None:
    async def call() -> None:
        await (await tasks.effect.adelay("/dev/null", "a"))

    with pytest.raises(RuntimeError, match="starts only after its commit"), transaction.atomic():
        async_to_sync(call)()


def test_a_result_keeps_its_class() -> None:
    import pickle

    result = tasks.effect.delay("/dev/null", "a")
    assert type(pickle.loads(pickle.dumps(result))).__name__ == "LedgerResult"  # noqa: S301
