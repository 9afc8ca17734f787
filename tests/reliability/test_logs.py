"""The lines of real processes: all JSON, and one request's id on all that came of it."""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

import structlog
from django.contrib.auth import get_user_model

from app.local.servers import free_port
from app.local.up import BEAT, web
from tests.support.probes.ledger import done
from tests.support.processes import Process, Stack
from tests.support.waiting import until

# Celery warns of root before it has set anything up.
JSON = {"LOG_FORMAT": "json", "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
REQUEST_ID = "req-from-the-edge-1"


# Celery's, from within a signal handler, where nothing may be logged.
PLAIN = ("", "worker: Warm shutdown (MainProcess)")


def lines(process: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.output().splitlines() if line not in PLAIN]


def test_one_request_can_be_followed_from_web_to_worker(stack: Stack) -> None:
    port = free_port()
    served = stack.start(web(port), "Listening at", **JSON)
    relay = stack.relay(**JSON)
    worker = stack.start([sys.executable, "-m", "celery", "-q", "-A", "app", "worker"], " ready.", **JSON)
    beat = stack.start(BEAT, "beat: Starting...", **JSON)
    person = {"username": "minjun", "email": "minjun@mail.example.com", "password": "a-long-passphrase-1"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/auth/register/",
        data=json.dumps(person).encode(),
        headers={"Content-Type": "application/json", "X-Request-ID": REQUEST_ID},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["X-Request-ID"] == REQUEST_ID
    until(done, "the mail is sent")
    until(lambda: "task_succeeded" in worker.output(), "the worker has said so")
    for process in (beat, worker, relay, served):
        process.stop()

    [finished] = [line for line in lines(served) if line["event"] == "request_finished"]
    assert (finished["request_id"], finished["request"], finished["code"]) == (
        REQUEST_ID, "POST /api/auth/register/", 201,
    )  # fmt: skip
    [of_task] = [line for line in lines(worker) if line.get("request_id") == REQUEST_ID]
    assert (of_task["event"], of_task["task"]) == ("task_succeeded", "app.accounts.tasks.send_welcome_email")
    assert of_task["task_id"]

    everything = "".join(process.output() for process in stack.processes)
    assert all(line["level"] and line["logger"] and line["time"] for p in stack.processes for line in lines(p))
    assert not any(
        value in everything for value in ("minjun", person["password"], get_user_model().objects.get().email)
    )


def test_a_task_without_a_request_has_no_id_of_the_one_before(stack: Stack, effects: str) -> None:
    from tests.support.probes import tasks

    stack.relay()
    command = [sys.executable, "-m", "celery", "-q", "-A", "app", "worker", "-l", "info", "-c", "1"]
    worker = stack.start([*command, "--include=tests.support.probes.tasks"], " ready.", **JSON)
    with structlog.contextvars.bound_contextvars(request_id="the-first"):
        first = tasks.effect.delay(effects, "1")
    second = tasks.effect.delay(effects, "2")
    until(lambda: worker.output().count("task_succeeded") == 2, "both are done")
    assert "task_started" not in worker.output()
    ids = {line["task_id"]: line.get("request_id") for line in lines(worker) if "task_id" in line}
    assert ids == {first.id: "the-first", second.id: None}


def test_the_level_is_that_of_the_setting_unless_the_command_says_one(stack: Stack, effects: str) -> None:
    from tests.support.probes import tasks

    stack.relay()
    for given, is_told in (((), True), (("-l", "info"), False)):
        command = [sys.executable, "-m", "celery", "-q", "-A", "app", "worker", "-c", "1", *given]
        worker = stack.start([*command, "--include=tests.support.probes.tasks"], " ready.", LOG_LEVEL="DEBUG", **JSON)
        tasks.effect.delay(effects, "1")
        until(lambda worker=worker: "task_succeeded" in worker.output(), "it is done")
        worker.stop()
        assert ("task_started" in worker.output()) == is_told
