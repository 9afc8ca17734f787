"""Results: what can never come is refused, an old run's state is not a new one's, and Redis gets a copy."""

import json
import logging
import uuid
from typing import Any

import pytest
from celery import chain, chord, group, states
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import GroupResult, ResultSet, allow_join_result
from django.db import transaction

from app.celery import app
from pressroom import context
from pressroom.celery_app.result_backend import LedgerBackend, RedisLedgerBackend
from pressroom.execution import settle
from pressroom.execution.execution import Execution
from pressroom.execution.outcome import AttemptOutcome
from pressroom.models import Status, StoredResult, TaskRun, Worker
from pressroom.sql import chords, ends, runs
from tests.support.probes import tasks

SHORT = 0.3
"""Seconds to wait for what will not come."""


def effect(line: str = "line") -> Any:
    return tasks.effect.si("nowhere", line)


def run_of(celery_id: str) -> TaskRun:
    return TaskRun.objects.filter(celery_id=celery_id).order_by("-id")[0]


def begin(run: TaskRun) -> runs.Claim:
    """Claim it as a worker."""
    worker = Worker.objects.create(
        name="w", queues=["default"], slots=1, started_at=run.created_at, heartbeat_at=run.created_at
    )
    claim = runs.claim(run.pk, uuid.uuid4(), worker.pk)
    assert claim is not None
    return claim


# ---- get() within the transaction of its own call --------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "call",
    [
        lambda: effect().delay(),
        lambda: effect().apply_async(countdown=60),
        lambda: group(effect(), effect()).delay(),
        lambda: chain(effect(), effect(), effect()).delay(),
        lambda: chord([effect(), effect()], effect()).delay(),
        lambda: chain(effect(), group(effect(), effect()), effect()).delay(),
        lambda: group(chain(effect(), effect()), chord([effect()], effect())).delay(),
        lambda: ResultSet([effect().delay()]),
        lambda: group().delay() and effect().delay(),
    ],
    ids=["task", "countdown", "group", "chain", "chord", "chain of a group", "nested", "set", "after an empty group"],
)
@pytest.mark.parametrize("depth", [1, 2])
def test_get_in_the_transaction_of_its_own_call_is_refused(call: Any, depth: int) -> None:
    with transaction.atomic():
        if depth == 2:
            with transaction.atomic():
                result = call()
        else:
            result = call()
        with pytest.raises(RuntimeError, match=r"was called in this transaction .* after the atomic block"):
            result.get(timeout=60)


@pytest.mark.django_db(transaction=True)
def test_get_in_another_transaction_waits() -> None:
    results = [effect().delay(), group(effect(), effect()).delay(), chord([effect()], effect()).delay()]
    with transaction.atomic():
        for result in results:
            with pytest.raises(CeleryTimeoutError):
                result.get(timeout=SHORT)


@pytest.mark.django_db(transaction=True)
def test_what_was_rolled_back_to_a_savepoint_is_not_waited_for_as_ours() -> None:
    committed = effect().delay()
    with transaction.atomic():
        point = transaction.savepoint()
        effect().delay()
        transaction.savepoint_rollback(point)
        with pytest.raises(CeleryTimeoutError):
            committed.get(timeout=SHORT)


@pytest.mark.django_db(transaction=True)
def test_a_ready_result_is_told_in_any_transaction() -> None:
    result = effect().delay()
    claim = begin(run_of(result.id))
    with transaction.atomic():
        ends.succeed(claim, json.dumps("well"))
        assert result.get(timeout=SHORT) == "well"


@pytest.mark.django_db(transaction=True)
def test_get_of_a_call_that_waits_for_the_finish_is_refused() -> None:
    run = run_of(effect().delay().id)
    running = Execution(begin(run), run.celery_id, tasks.effect, {})
    reset = context._current.set(running)
    try:
        running.end_body()
        held = tasks.effect.delay("nowhere", "held")
        with allow_join_result(), pytest.raises(RuntimeError, match="stored when the task that made it ends"):
            held.get(timeout=60)
    finally:
        context._current.reset(reset)


# ---- The same id again -----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_new_run_does_not_show_the_state_of_an_old_one_with_its_id() -> None:
    first = tasks.effect.apply_async(("nowhere", "first"), task_id="again")
    claim = begin(run_of("again"))
    app.backend.store_result("again", {"done": 3}, "PROGRESS")
    assert (first.state, first.info) == ("PROGRESS", {"done": 3})
    ends.succeed(claim, json.dumps("old"))
    assert first.state == states.SUCCESS

    app.backend._cache.clear()
    second = tasks.effect.apply_async(("nowhere", "second"), task_id="again")
    assert second.state == states.PENDING
    begin(run_of("again"))
    assert (second.state, second.info) == (states.STARTED, None)
    app.backend.store_result("again", {"done": 1}, "PROGRESS")
    assert (second.state, second.info) == ("PROGRESS", {"done": 1})


@pytest.mark.django_db
def test_a_new_attempt_does_not_show_the_state_of_the_last_one() -> None:
    result = tasks.effect.delay("nowhere", "line")
    claim = begin(run_of(result.id))
    app.backend.store_result(result.id, {"done": 3}, "PROGRESS")
    settle.record_lost_attempt(claim.run_id, claim.token)
    begin(run_of(result.id))
    assert result.state == states.STARTED


@pytest.mark.django_db
def test_a_late_revocation_does_not_change_what_has_failed() -> None:
    app.backend.store_result("body", ValueError("wrong"), states.FAILURE)
    app.backend.mark_as_revoked("body", "revoked")
    assert StoredResult.objects.get().state == states.FAILURE


@pytest.mark.django_db
def test_a_chord_called_again_counts_anew() -> None:
    chords.set_size("g", 2)
    assert [chords.count("g", part, 0, "SUCCESS", "1") for part in "ab"] == [False, True]
    assert chords.count("g", "a", 0, "SUCCESS", "1") is False
    chords.set_size("g", 2)
    assert [chords.count("g", part, 0, "SUCCESS", "2") for part in "ab"] == [False, True]
    assert [result for _, _, result in chords.parts("g")] == ["2", "2"]


@pytest.mark.django_db
def test_task_protocol_1_changes_nothing_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.conf, "task_protocol", 1)
    result = tasks.effect.delay("nowhere", "line")
    assert run_of(result.id).arguments == (["nowhere", "line"], {})


# ---- The copy in Redis -----------------------------------------------------------------------------------------------


@pytest.fixture
def redis_backend(redis_server: Any) -> RedisLedgerBackend:
    return RedisLedgerBackend(app=app, url=f"{redis_server.url}/1")


def stock_backend(redis_server: Any) -> Any:
    from celery.backends.redis import RedisBackend

    return RedisBackend(app=app, url=f"{redis_server.url}/1")


def end(backend: Any, value: Any, state: str = states.SUCCESS) -> str:
    """Run a task to its end as a worker does, with this backend. Returns its Celery id."""
    run = run_of(tasks.effect.delay("nowhere", "line").id)
    running = Execution(begin(run), run.celery_id, tasks.effect, {})
    reset = context._current.set(running)
    try:
        backend.store_result(run.celery_id, {"pid": 1}, states.STARTED)
        if isinstance(backend, RedisLedgerBackend) and not backend.copy.missed:
            assert backend.copy.get_state(run.celery_id) == states.STARTED
        running.end_body()
        backend.store_result(run.celery_id, value, state)
        if state == states.SUCCESS:
            assert running.finish(AttemptOutcome(state))
        else:
            assert running.finish(AttemptOutcome(state, runs.Failure(type(value).__name__, str(value), "")))
    finally:
        context._current.reset(reset)
    return run.celery_id


@pytest.mark.django_db(transaction=True)
def test_redis_gets_what_celery_would_have_written(redis_backend: RedisLedgerBackend, redis_server: Any) -> None:
    stock = stock_backend(redis_server)
    done, failed = end(redis_backend, {"a": [1]}), end(redis_backend, ValueError("wrong"), states.FAILURE)
    for backend in (stock, redis_backend):
        assert backend.get_task_meta(done)["result"] == {"a": [1]}
        assert backend.get_state(failed) == states.FAILURE
        assert repr(backend.get_result(failed)) == "ValueError('wrong')"
    structure = GroupResult("g", [app.AsyncResult(done), app.AsyncResult(failed)])
    redis_backend.save_group("g", structure)
    assert stock.restore_group("g") == structure == redis_backend.restore_group("g")

    redis_backend.forget(done)
    redis_backend.delete_group("g")
    stock._cache.clear()
    assert stock.get_state(done) == states.PENDING
    assert stock.restore_group("g") is None


@pytest.mark.django_db(transaction=True)
def test_redis_gets_nothing_of_what_is_rolled_back(redis_backend: RedisLedgerBackend, redis_server: Any) -> None:
    with transaction.atomic():
        redis_backend.store_result("one", {"done": 1}, "PROGRESS")
        assert stock_backend(redis_server).get_state("one") == states.PENDING
        transaction.set_rollback(True)
    assert stock_backend(redis_server).get_state("one") == states.PENDING


@pytest.mark.django_db(transaction=True)
def test_redis_that_is_away_keeps_no_result_from_being_told(
    redis_backend: RedisLedgerBackend, redis_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.stop()
    told: list[str] = []
    with caplog.at_level(logging.WARNING), transaction.atomic():
        redis_backend.store_result("one", 1, "PROGRESS")
        transaction.on_commit(lambda: told.append("the others"))
    done = [end(redis_backend, number) for number in range(3)]
    assert [redis_backend.get_result(one) for one in done] == [0, 1, 2]
    assert told == ["the others"]
    # Asked once, and not again for a while.
    assert redis_backend.copy.missed == 7
    assert caplog.text.count("Redis does not answer: no copies of results") == 1


@pytest.mark.django_db(transaction=True)
def test_redis_that_refuses_one_value_takes_the_next(redis_backend: RedisLedgerBackend, redis_server: Any) -> None:
    redis_server.client().config_set("proto-max-bulk-len", 1024 * 1024)
    try:
        large, small = end(redis_backend, "x" * 2_000_000), end(redis_backend, "small")
    finally:
        redis_server.client().config_set("proto-max-bulk-len", 512 * 1024 * 1024)
    assert len(redis_backend.get_result(large)) == 2_000_000
    assert TaskRun.objects.filter(status=Status.SUCCEEDED).count() == 2
    assert redis_backend.copy.missed == 1
    assert stock_backend(redis_server).get_result(end(redis_backend, "next")) == "next"
    assert stock_backend(redis_server).get_result(small) == "small"


def test_redis_urls_are_the_ledgers_with_a_copy(redis_server: Any) -> None:
    url = f"{redis_server.url}/1"
    for scheme in ("redis", "rediss"):
        assert app.loader.override_backends[scheme] == "pressroom.celery_app.result_backend:RedisLedgerBackend"
    assert issubclass(RedisLedgerBackend, LedgerBackend)
    assert RedisLedgerBackend(app=app, url=url).as_uri() == stock_backend(redis_server).as_uri()
