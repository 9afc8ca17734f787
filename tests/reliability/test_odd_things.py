"""One odd call, task, handler or message stops nobody else, and ends with its true error."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from pressroom.enqueue.broker import prefixed
from pressroom.enqueue.ownership import owned_by
from pressroom.models import Status, TaskRun, Undeliverable
from pressroom.sql import calls, runs
from tests.support.notes import noted
from tests.support.probes import odd, tasks
from tests.support.probes.ledger import done
from tests.support.processes import Process, Stack
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("odd things")
ODD = {"include": "tests.support.probes.tasks,tests.support.probes.odd"}


@pytest.fixture
def worker(stack: Stack) -> Process:
    stack.relay()
    return stack.worker(**ODD)


def ended(result: AsyncResult[Any]) -> TaskRun:
    until(lambda: TaskRun.of(result).finished_at, f"{result.id} has ended")
    return TaskRun.of(result)


def plain_ones_go_on(effects: str) -> None:
    tasks.effect.delay(f"{effects}.plain", "one")
    until(lambda: noted(f"{effects}.plain"), "a plain call is done")


# ---- Messages --------------------------------------------------------------------------------------------------------


def test_a_message_that_redis_does_not_take_is_a_dead_letter_and_others_go_on(
    worker: Process, effects: str, redis_server: Any
) -> None:
    redis_server.client().config_set("proto-max-bulk-len", 1024 * 1024)
    large = tasks.effect.apply_async([effects, "x" * 2_000_000], link_error=odd.errback.si(f"{effects}.told"))
    plain_ones_go_on(effects)

    run = ended(large)
    assert (run.status, run.error_type) == (Status.DEAD, "RedisRefusedError")
    assert run.attempt == 0
    until(lambda: noted(f"{effects}.told"), "its errback is called")
    plain_ones_go_on(effects)


def test_a_queue_that_redis_refuses_waits_and_the_others_go_on(stack: Stack, effects: str, redis_server: Any) -> None:
    relay = stack.relay()
    worker = stack.worker("--queues=default,emails", **ODD)
    redis_server.client().set(prefixed("emails"), "no list")
    waiting = tasks.effect.apply_async([effects, "later"], queue="emails")
    relay.wait_for("Redis refuses messages for queue emails")
    plain_ones_go_on(effects)
    assert TaskRun.of(waiting).status == Status.QUEUED

    redis_server.client().delete(prefixed("emails"))
    assert waiting.get(timeout=120) == "later"
    assert worker.popen.poll() is None


def store(name: str, body: str, **headers: Any) -> uuid.UUID:
    """A run as an older version, or a hand, might have stored it: past the edge at the call."""
    celery_id = str(uuid.uuid4())
    told = {
        "lang": "py", "task": name, "id": celery_id, "shadow": None, "eta": None, "expires": None, "group": None,
        "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": celery_id, "parent_id": None,
        "argsrepr": "", "kwargsrepr": "", "origin": "", "ignore_result": False, "stamped_headers": None, "stamps": {},
        "taskrun": {"eta": None}, **headers,
    }  # fmt: skip
    properties = json.dumps({"correlation_id": celery_id, "reply_to": "", "priority": 0})
    return calls.insert([runs.Message(celery_id, name, "default", 0, json.dumps(told), body, properties)])[0]


EMBED = '{"callbacks": null, "errbacks": [{"task": "odd.errback", "args": [%s], "kwargs": {}, "options": {}, \
"subtask_type": null, "immutable": true}], "chain": null, "chord": null}'


UNREADABLE = {
    "nested 500 deep": "[" * 500 + "]" * 500,
    "nested 100,000 deep": "[" * 100_000 + "]" * 100_000,
    "does not decode again": '[{"__type__": "money", "__value__": "1.50"}]',
    "is no JSON": '["',
    "are no arguments": '"text"',
}


def test_a_run_whose_message_cannot_be_read_is_dead_with_that_error(worker: Process, effects: str) -> None:
    embed = EMBED % json.dumps(f"{effects}.told")
    runs = {case: store("probe.effect", f"[{arguments}, {{}}, {embed}]") for case, arguments in UNREADABLE.items()}
    plain_ones_go_on(effects)
    for case, run_id in runs.items():
        until(lambda run_id=run_id: TaskRun.objects.get(pk=run_id).finished_at, f"it has ended: {case}")
        run = TaskRun.objects.get(pk=run_id)
        assert (run.status, bool(run.error)) == (Status.DEAD, True), case
    assert worker.popen.poll() is None


def envelope(**changes: Any) -> dict[str, Any]:
    headers = {"task": "probe.effect", "id": str(uuid.uuid4()), "lang": "py", "argsrepr": "", "kwargsrepr": ""}
    return {
        "body": base64.b64encode(b"[[], {}, {}]").decode(), "content-encoding": "utf-8",
        "content-type": "application/json", "headers": headers,
        "properties": {
            "body_encoding": "base64", "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "default"}, "delivery_mode": 2,
        },
        **changes,
    }  # fmt: skip


ODD_LIMITS = ("long", 7, [{}, None], [None, "3"], [float("nan"), None], [1, 2, 3], [-1, None])
MESSAGES = [
    b"",
    b"\xff\xfe",
    b"[" * 5_000,
    b"null",
    *(
        json.dumps(envelope(**changes)).encode()
        for changes in (
            {"properties": []},
            {"headers": "text"},
            {"headers": {"task": "probe.effect", "id": "x", "taskrun": {"id": "no UUID"}}},
            {"headers": {"task": "probe.effect", "id": "x", "taskrun": 5}},
            {"headers": {"task": 5}},
            {"headers": {"task": "probe.effect", "id": "x", "eta": "soon"}},
            *({"headers": {"task": "probe.effect", "id": "x", "timelimit": odd}} for odd in ODD_LIMITS),
            {"content-type": 5},
            {"body": "no base64"},
        )
    ),
]


def test_messages_written_by_hand_are_kept_and_end_no_worker(worker: Process, effects: str, redis_server: Any) -> None:
    redis_server.client().lpush(prefixed("default"), *MESSAGES)
    until(lambda: Undeliverable.objects.count() == len(MESSAGES), "all are kept")
    plain_ones_go_on(effects)
    assert worker.popen.poll() is None


def test_a_run_that_kills_whoever_takes_its_message_is_a_dead_letter(
    stack: Stack, effects: str, tmp_path: Path
) -> None:
    """The worker's process dies before it claims, so no attempt is counted; the dispatches are."""
    stack.relay()
    trap = tmp_path / "trap"
    trap.touch()
    result = odd.kills_before_its_claim.delay()
    for _ in range(30):
        worker = stack.worker("--concurrency=1", **ODD, KILL_WHILE=str(trap))
        until(lambda worker=worker: worker.popen.poll() is not None or done(), "it took the message, or it is over")
        if done():
            break
    trap.unlink()
    run = TaskRun.of(result)
    assert (run.status, run.attempt, run.error_type) == (Status.DEAD, 0, "WorkerLostError")
    assert "before it began" in run.error

    stack.worker("--concurrency=1", **ODD)
    plain_ones_go_on(effects)


# ---- Bodies, hooks and handlers --------------------------------------------------------------------------------------


def test_a_base_class_that_calls_run_itself_is_undone_like_any_other(worker: Process) -> None:
    run = ended(odd.insert_and_fail.delay("its row"))
    assert (run.status, run.error) == (Status.DEAD, "after all")
    assert not Group.objects.filter(name="its row").exists()


def test_a_base_class_that_calls_run_itself_may_tell_its_state(worker: Process, effects: str, tmp_path: Path) -> None:
    result = odd.tell_state.delay(effects, str(tmp_path / "gate"))
    until(lambda: result.state == "HALFWAY", "its state is seen")
    assert result.info == {"done": 1}
    (tmp_path / "gate").touch()
    assert ended(result).status == Status.SUCCEEDED


@pytest.mark.parametrize("then", ["", "fail", "cut"])
def test_an_atomic_block_that_a_body_leaves_open_stops_no_slot(worker: Process, effects: str, then: str) -> None:
    run = ended(odd.leave_atomic.delay("its row", then))
    assert Group.objects.filter(name="its row").exists() == (run.status == Status.SUCCEEDED)
    plain_ones_go_on(effects)
    assert run.status == Status.DEAD or not then


def test_a_handler_that_harms_the_connection_costs_an_atomic_task_nothing(worker: Process) -> None:
    for what in ("close", "break", "open", "close break open"):
        run = ended(odd.insert.delay(what))
        assert (run.status, run.attempt, run.losses) == (Status.SUCCEEDED, 1, 0), what
        assert Group.objects.filter(name=what).count() == 1


@pytest.mark.parametrize("then", ["cancel", "cut"])
def test_a_handler_breaks_only_itself_before_the_body(worker: Process, effects: str, then: str) -> None:
    run = ended(odd.watched.delay(effects, then))
    assert (run.status, run.attempt) == (Status.SUCCEEDED, 1), run.error


def test_a_handler_that_exits_in_the_main_process_ends_no_worker(worker: Process, effects: str) -> None:
    run = ended(odd.watched.delay(effects, "exit"))
    assert (run.status, run.error_type) == (Status.DEAD, "WorkerLostError")
    plain_ones_go_on(effects)
    assert worker.popen.poll() is None


@pytest.mark.parametrize(
    ("then", "status", "calls"), [("succeed", "succeeded", 1), ("fail", "dead", 1), ("retry", "succeeded", 2)]
)
def test_hooks_that_fail_change_no_verdict(worker: Process, effects: str, then: str, status: str, calls: int) -> None:
    run = ended(odd.hooked.apply_async([effects, then], link_error=odd.errback.si(f"{effects}.told")))
    assert (run.status, len(noted(effects))) == (status, calls)
    if then == "fail":
        assert run.error == "its own error"
        until(done, "its errback is done")
        assert noted(f"{effects}.told") == ["told"]


@pytest.mark.parametrize(
    ("task", "error"), [(odd.run_out_of_memory, "MemoryError"), (odd.is_cancelled, "CancelledError")]
)
def test_an_error_that_celery_lets_through_is_a_failure_at_once_and_ends_no_worker(
    worker: Process, effects: str, tmp_path: Path, task: Any, error: str
) -> None:
    neighbour = tasks.hold.delay(effects, "neighbour", str(tmp_path / "gate"))
    until(lambda: noted(effects), "the neighbour runs")
    run = ended(task.apply_async(link_error=odd.errback.si(f"{effects}.told")))
    assert (run.status, run.error_type, run.attempt) == (Status.DEAD, error, 1)
    until(lambda: noted(f"{effects}.told"), "its errback is called")
    plain_ones_go_on(effects)
    assert worker.popen.poll() is None
    (tmp_path / "gate").touch()
    assert ended(neighbour).attempt == 1


def test_an_attempt_that_is_only_lost_is_no_failure(worker: Process, effects: str) -> None:
    assert odd.die_once.delay(effects).get(timeout=120) == "done"
    until(lambda: "signal success of odd.die_once" in worker.output(), "its success is told")
    assert "signal failure of odd.die_once" not in worker.output()


def test_a_task_may_delete_the_user_that_it_belongs_to(worker: Process, effects: str) -> None:
    user = get_user_model().objects.create_user("leaving")
    with owned_by(user):
        result = odd.delete_owner.delay(effects, user.pk)
    assert ended(result).status == Status.SUCCEEDED
    until(done, "the next step is done")
    assert noted(effects) == ["next"]


def test_an_error_with_a_lone_surrogate_is_retried_and_kept(worker: Process, effects: str) -> None:
    run = ended(odd.undecodable_error.delay(effects))
    assert (run.status, run.error_type, run.error) == (Status.DEAD, "ValueError", "caf\ufffd.txt")
    assert noted(effects) == ["0", "1"]


def test_a_result_that_cannot_be_kept_undoes_an_atomic_task(worker: Process) -> None:
    run = ended(odd.not_json.delay("kept by nobody"))
    assert (run.status, run.error_type) == (Status.DEAD, "EncodeError")
    assert not Group.objects.filter(name="kept by nobody").exists()


def test_odd_results_are_kept(worker: Process) -> None:
    for what in ("deep", "surrogate", "nan", "inf"):
        assert ended(odd.give.delay(what)).status == Status.SUCCEEDED, what


# ---- Signals ---------------------------------------------------------------------------------------------------------


def test_a_waiting_call_that_is_revoked_or_expires_says_so(stack: Stack, effects: str) -> None:
    stack.relay(PYTHONSTARTUP="")
    told: list[tuple[str, bool]] = []

    def hear(sender: Any = None, request: Any = None, expired: bool = False, **_: Any) -> None:
        told.append((request.id, expired))

    from celery.signals import task_revoked

    task_revoked.connect(hear)
    try:
        result = tasks.effect.apply_async([effects, "never"], countdown=3600)
        result.revoke()
        assert told == [(result.id, False)]
    finally:
        task_revoked.disconnect(hear)
    late = tasks.effect.apply_async([effects, "never"], expires=0.1)
    assert ended(late).status == Status.EXPIRED
    assert not noted(effects)
