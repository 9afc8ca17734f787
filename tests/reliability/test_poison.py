"""What no worker survives, and what no worker can make a task of."""

import base64
import json
from typing import Any

import pytest
from celery.exceptions import NotRegistered
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.test import Client

from app.celery import app
from pressroom.models import Status, TaskRun, Undeliverable
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until

UNKNOWN = {"TASKRUNS_UNKNOWN_PAUSE": "0.5", "TASKRUNS_UNKNOWN_LIMIT": "2"}


def test_a_task_that_kills_every_worker_is_given_up_and_its_bystanders_are_done(stack: Stack, effects: str) -> None:
    """Each bystander takes longer than the poison: it is killed whenever it runs beside it."""
    poison = tasks.poison.delay(effects)
    bystanders = [tasks.bystander.delay(effects, str(number), 3.0) for number in range(2)]
    stack.relay()
    workers = [stack.worker("--concurrency=3")]

    def restarted_until_done() -> bool:
        """As Kubernetes does."""
        if workers[-1].popen.poll() is not None:
            workers.append(stack.worker("--concurrency=3"))
        return done()

    until(restarted_until_done, "all have ended", timeout=300)

    run = TaskRun.of(poison)
    assert (run.status, run.losses, run.error_type) == (Status.DEAD, 5, "WorkerLostError")
    assert len(noted(f"{effects}.poison")) == 5
    for one in bystanders:
        assert TaskRun.of(one).status == Status.SUCCEEDED
        assert TaskRun.of(one).losses <= 2, "killed twice beside it, it runs apart from it"


def test_an_unknown_task_waits_for_a_worker_that_knows_it(stack: Stack, effects: str) -> None:
    stack.relay()
    old = stack.worker(include="tests.support.probes", TASKRUNS_UNKNOWN_PAUSE="0.5")
    result = tasks.effect.delay(effects, "new")
    old.wait_for("this worker knows no task 'probe.effect'")
    until(lambda: TaskRun.of(result).error_type == "NotRegistered", "who looks at it sees why it waits")
    assert TaskRun.of(result).status == Status.QUEUED
    stack.worker()

    assert result.get(timeout=120) == "new"
    assert (TaskRun.of(result).attempt, TaskRun.of(result).losses) == (1, 0)


def test_an_unknown_task_is_a_dead_letter_in_the_end(stack: Stack, effects: str) -> None:
    stack.relay()
    stack.worker(**UNKNOWN)
    result = app.send_task("no.such.task", link_error=tasks.effect.si(effects, "told"))
    with pytest.raises(NotRegistered):
        result.get(timeout=120)
    until(done, "its errback is done")

    assert TaskRun.of(result).status == Status.DEAD
    assert noted(effects) == ["told"]


def message(body: bytes, headers: dict[str, Any], content_type: str = "application/json") -> str:
    """A message as plain Celery on Redis writes it."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": content_type,
            "headers": headers,
            "properties": {
                "delivery_tag": "a-tag",
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": "default"},
            },
        }
    )


HEADERS = {"id": "an-id", "task": "probe.effect", "lang": "py", "root_id": "an-id", "argsrepr": "", "kwargsrepr": ""}
UNDELIVERABLE = {
    "no-json": "\x00 half a mess",
    "other-json": '["not", "a", "message"]',
    "no-tag": '{"body": "", "properties": {}}',
    "names-no-task": message(b'{"hello": "there"}', {}),
    "unknown-task-of-another": message(b"[[], {}, {}]", {**HEADERS, "task": "no.such.task"}),
    "no-id": message(b"[[], {}, {}]", {"task": "probe.effect", "lang": "py"}),
    "pickle": message(b"whatever", HEADERS, "application/x-python-serialize"),
}


def same(sent: str, kept: bytes) -> bool:
    """Whether one that Celery took apart was kept with its body and headers."""
    if not kept.startswith(b"{") or "headers" not in sent:
        return False
    before, after = json.loads(sent), json.loads(kept)
    return all(before[part] == after.get(part) for part in ("body", "headers", "content-type"))


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_cannot_be_decoded_is_kept_whole(stack: Stack, effects: str, redis_server: Any, pool: str) -> None:
    worker = stack.worker(f"--pool={pool}")
    for item in UNDELIVERABLE.values():
        redis_server.client().lpush("default", item.encode())
    until(lambda: Undeliverable.objects.count() == len(UNDELIVERABLE), "all are kept")
    stack.relay()
    # The worker lives on, with its connection: the messages behind, which it has already read, are not late.
    assert tasks.effect.delay(effects, "after").get(timeout=60) == "after"
    assert "Connection to broker lost" not in worker.output()

    kept = [bytes(row.message) for row in Undeliverable.objects.all()]
    for item in UNDELIVERABLE.values():
        as_sent = [raw for raw in kept if raw == item.encode()]
        assert as_sent or any(same(item, raw) for raw in kept), item
    assert not TaskRun.objects.filter(~Q(name="probe.effect")).exists()


def test_an_undeliverable_message_is_put_back_in_the_admin(
    stack: Stack, effects: str, redis_server: Any, client: Client
) -> None:
    headers = {**HEADERS, "task": "probe.glance"}
    redis_server.client().lpush("default", message(json.dumps([[effects, "back"], {}, {}]).encode(), headers))
    old = stack.worker(include="tests.support.probes")
    row = until(Undeliverable.objects.first, "it is kept")
    old.stop()
    admin = get_user_model().objects.create_superuser("chief", "chief@example.com", "a-long-passphrase-1")
    client.force_login(admin)
    listed = client.get("/admin/taskruns/undeliverable/")
    assert "no task is called" in listed.content.decode()
    chosen = {"action": "put_back", "_selected_action": [row.pk]}
    client.post("/admin/taskruns/undeliverable/", chosen)
    stack.worker()
    until(lambda: noted(effects) == ["back"], "it ran")

    assert not Undeliverable.objects.exists()
