"""What Celery's documentation says of a call, with a real relay, worker, Postgres and Redis."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from django.utils import timezone

from pressroom.models import Status, TaskRun
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("running")


@pytest.fixture(scope="module")
def running(shared_stack: Stack) -> Stack:
    """A relay and a worker of all queues, for all the tests here that need no more than that."""
    shared_stack.relay()
    shared_stack.worker()
    return shared_stack


def test_a_call_runs_once_and_its_result_is_told(running: Stack, effects: str) -> None:
    result = tasks.effect.delay(effects, "a")

    assert result.get(timeout=60) == "a"
    assert tasks.noted(effects) == ["a"]
    run = TaskRun.of(result)
    assert (run.status, run.attempt, run.losses) == (Status.SUCCEEDED, 1, 0)
    assert run.created_at <= run.published_at <= run.started_at <= run.finished_at


def test_send_task_by_name(running: Stack, effects: str) -> None:
    from app.celery import app

    assert app.send_task("probe.effect", [effects, "by name"]).get(timeout=60) == "by name"


def test_countdown_and_eta_hold_the_call_back_until_then(running: Stack, effects: str) -> None:
    eta = timezone.now() + timezone.timedelta(seconds=2)
    results = [
        tasks.effect.apply_async([effects, "countdown"], countdown=1.5),
        tasks.effect.apply_async([effects, "eta"], eta=eta),
        tasks.effect.apply_async([effects, "now"]),
    ]
    until(done, "all three done")

    assert tasks.noted(effects) == ["now", "countdown", "eta"]
    for run in map(TaskRun.of, results):
        assert run.started_at >= run.run_at
    assert TaskRun.of(results[1]).run_at == eta


def test_self_retry_runs_again_after_its_countdown_with_the_same_id(running: Stack, effects: str) -> None:
    result = tasks.retry_by_hand.delay(effects, 2)

    assert result.get(timeout=60) == 2
    ids, retries, times = zip(*(line.split() for line in tasks.noted(effects)), strict=True)
    assert set(ids) == {result.id}
    assert retries == ("0", "1", "2")
    assert all(float(later) - float(earlier) >= 0.3 for earlier, later in pairwise(times))
    run = TaskRun.of(result)
    assert (run.status, run.attempt) == (Status.SUCCEEDED, 3)
    assert [(a.number, a.outcome, a.error) for a in run.attempts.all()] == [
        (1, "retried", "not yet: 0"),
        (2, "retried", "not yet: 1"),
    ]


def test_retries_end_at_max_retries_with_the_last_error(running: Stack, effects: str) -> None:
    result = tasks.retry_by_hand.delay(effects, 99)

    with pytest.raises(ValueError, match="not yet: 3"):
        result.get(timeout=60)
    assert len(tasks.noted(effects)) == 4
    assert TaskRun.of(result).status == Status.DEAD


def test_autoretry_for(running: Stack, effects: str) -> None:
    result = tasks.retry_by_itself.delay(effects)

    with pytest.raises(ConnectionError, match="as ever"):
        result.get(timeout=60)
    assert tasks.noted(effects) == ["0", "1", "2"]


def test_a_retry_keeps_the_expiry(running: Stack) -> None:
    eta = timezone.now()
    result = tasks.times.apply_async(eta=eta, expires=600)
    first = TaskRun.of(result).expires_at

    assert result.get(timeout=60) == [None, first.isoformat()]
    assert TaskRun.of(result).expires_at == first


def test_time_limits(running: Stack, effects: str, gate: Path) -> None:
    soft = tasks.overrun.delay(effects)
    hard = tasks.hold.apply_async([effects, "job", str(gate)], soft_time_limit=50, time_limit=1)
    until(done, "both are ended")

    assert "told" in tasks.noted(effects)
    assert (TaskRun.of(soft).status, TaskRun.of(soft).error_type) == (Status.DEAD, "SoftTimeLimitExceeded")
    assert (TaskRun.of(hard).status, TaskRun.of(hard).error_type) == (Status.DEAD, "TimeLimitExceeded")
    assert "job ended" not in tasks.noted(effects)


def test_a_failure_is_kept_with_its_traceback(running: Stack) -> None:
    result = tasks.fail.delay("gone")

    with pytest.raises(KeyError, match="gone"):
        result.get(timeout=60)
    run = TaskRun.of(result)
    assert (run.status, run.error_type, run.error) == (Status.DEAD, "KeyError", "'gone'")
    assert "raise KeyError(message)" in run.traceback
    assert run.attempts.get().outcome == "failed"


def test_reject_and_a_result_that_is_not_json_are_failures(running: Stack) -> None:
    rejected, unspeakable = tasks.reject.delay(), tasks.unspeakable.delay()
    until(done, "both done")

    assert TaskRun.of(rejected).status == Status.DEAD
    assert TaskRun.of(unspeakable).status == Status.DEAD
    assert "JSON serializable" in TaskRun.of(unspeakable).error


def test_a_message_handed_back_is_had_again(running: Stack, effects: str) -> None:
    result = tasks.reject_once.delay(effects)

    assert result.get(timeout=60) == "taken"
    assert (TaskRun.of(result).attempt, TaskRun.of(result).losses) == (2, 1)
    assert tasks.noted(effects) == ["redelivered: False", "redelivered: True"]


def test_properties_and_headers_outlive_a_retry(running: Stack) -> None:
    result = tasks.properties.apply_async(priority=4, reply_to="somebody", headers={"colour": "red"})

    assert result.get(timeout=60) == [4, "somebody", "red"]


def test_link_and_chain_are_called_with_the_finish(running: Stack, effects: str) -> None:
    tasks.effect.apply_async([effects, "first"], link=tasks.effect.si(effects, "linked"))
    (tasks.effect.si(effects, "1") | tasks.effect.si(effects, "2") | tasks.effect.si(effects, "3")).delay()
    until(lambda: len(tasks.noted(effects)) == 5 and done(), "all five done")

    lines = tasks.noted(effects)
    assert Counter(lines) == Counter(["first", "linked", "1", "2", "3"])
    assert lines.index("first") < lines.index("linked")
    assert lines.index("1") < lines.index("2") < lines.index("3")


def test_progress_of_a_running_task(running: Stack, gate: Path) -> None:
    result = tasks.steps.delay(10, str(gate))
    until(lambda: TaskRun.of(result).progress_current == 9, "the progress")
    run = TaskRun.of(result)
    assert (run.status, run.progress_total, run.progress_message) == (Status.RUNNING, 10, "nearly")
    assert result.status == "STARTED"

    gate.touch()
    result.get(timeout=60)
