"""Which worker takes what, in which order; plain worker commands. Each test starts what it needs."""

import pytest
from celery.exceptions import TaskRevokedError
from django.db import transaction
from django.utils import timezone

from pressroom.models import Status, TaskRun
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until


def test_an_expired_call_never_runs(stack: Stack, effects: str) -> None:
    expired = tasks.effect.apply_async([effects, "late"], expires=0.2)
    in_time = tasks.effect.apply_async([effects, "in time"], expires=600)
    until(lambda: TaskRun.of(expired).expires_at < timezone.now(), "the expiry")
    stack.relay()
    stack.worker()

    with pytest.raises(TaskRevokedError):
        expired.get(timeout=60)
    assert in_time.get(timeout=60) == "in time"
    assert tasks.noted(effects) == ["in time"]
    assert TaskRun.of(expired).status == Status.EXPIRED


def test_queue_says_which_worker(stack: Stack, effects: str) -> None:
    stack.relay()
    stack.worker("--queues=emails")
    mail = tasks.effect.apply_async([effects, "mail"], queue="emails")
    other = tasks.effect.apply_async([effects, "other"], queue="default")

    assert mail.get(timeout=60) == "mail"
    until(lambda: TaskRun.of(other).published_at, "the other's message is in its list")
    assert tasks.noted(effects) == ["mail"]
    assert TaskRun.of(other).status == Status.QUEUED


def test_a_priority_goes_first(stack: Stack, effects: str) -> None:
    with transaction.atomic():
        for priority in (9, 5, 0):
            tasks.effect.apply_async([effects, str(priority)], priority=priority)
    stack.relay()
    until(lambda: TaskRun.objects.filter(published_at__isnull=False).count() == 3, "all are in Redis")
    stack.worker("--concurrency=1")
    until(done, "all done")

    assert tasks.noted(effects) == ["0", "5", "9"]


@pytest.mark.parametrize(
    "arguments",
    [["-c", "2"], ["--queues=default,emails", "--concurrency=4", "--hostname=worker1@%h"]],
    ids=["plain", "queues"],
)
def test_plain_worker_commands(stack: Stack, effects: str, arguments: list[str]) -> None:
    stack.relay()
    worker = stack.worker(*arguments)
    assert tasks.effect.delay(effects, "x").get(timeout=60) == "x"
    assert worker.stop() == 0
