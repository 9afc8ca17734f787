"""Every command of Celery's command line works as stock Celery's, or says in a sentence why it does not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
from celery import Celery
from celery.bin.celery import celery
from celery.worker.control import Panel

from app.queues import BY_NAME, QUEUES
from pressroom.models import Status, TaskRun
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.processes import ROOT, Process, Stack, environment
from tests.support.waiting import until

NODE = "one@here"
MODULE = "pressroom.tasks.prune"


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths of all commands, as they are typed; those to workers among them."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*path, name))
    elif path in (("inspect",), ("control",)):
        yield from (f"{path[0]} {name}" for name, info in Panel.meta.items() if info.type == path[0] and info.visible)
    else:
        yield " ".join(path)


BROADCAST: dict[str, tuple[str, int, str]] = {
    # Arguments, exit code, and what is told.
    "inspect active": ("", 0, "- empty -"),
    "inspect active_queues": ("", 0, "'name': 'default'"),
    "inspect clock": ("", 0, "clock"),
    "inspect conf": ("", 0, "worker_disable_prefetch"),
    "inspect memdump": ("", 0, "one@here"),
    "inspect memsample": ("", 0, "one@here"),
    "inspect objgraph": ("", 0, "objgraph"),  # which is not installed, as stock says
    "inspect ping": ("", 0, "pong"),
    "inspect query_task": ("nosuch", 0, "OK"),
    "inspect registered": ("", 0, MODULE),
    "inspect report": ("", 0, "celery:5"),
    "inspect reserved": ("", 0, "- empty -"),
    "inspect revoked": ("", 0, "- empty -"),
    "inspect scheduled": ("", 0, "- empty -"),
    "inspect stats": ("", 0, "max-concurrency"),
    "control add_consumer": ("emails", 0, "add consumer emails"),
    "control autoscale": ("4 2", 0, "Autoscale not enabled"),
    "control cancel_consumer": ("emails", 0, "no longer consuming from emails"),
    "control disable_events": ("", 0, "task events"),
    "control election": ("", 0, "election() missing 2"),
    "control enable_events": ("", 0, "enable"),
    "control heartbeat": ("", 0, "one@here: OK"),
    "control pool_grow": ("1", 0, "pool will grow"),
    "control pool_restart": ("", 0, "Pool restarts not enabled"),
    "control pool_shrink": ("1", 0, "pool will shrink"),
    "control rate_limit": ("probe.now 5/m", 0, "new rate limit set successfully"),
    "control revoke": ("nosuch", 0, "flagged as revoked"),
    "control revoke_by_stamped_headers": ("colour=red", 0, "colour"),
    "control terminate": ("SIGKILL nosuch", 0, "one@here"),
    "control time_limit": ("probe.now 5 10", 69, "a task's time limits come from the code and from TASKRUNS_QUEUES"),
    "status": ("", 0, "1 node online"),
    "control shutdown": ("-d nobody@nowhere", 69, "No nodes replied"),
}
OF_THE_APPLICATION: dict[str, tuple[str, int, str]] = {
    "report": ("", 0, "software -> celery:5"),
    "list bindings": ("", 0, "emails"),
    "graph bootsteps": ("", 0, "digraph"),
    "graph workers": ("", 0, NODE),
    "shell": ("--python", 0, "'pressroom'"),
    "logtool stats": ("{log}", 0, "Task total"),
    "logtool traces": ("{log}", 0, ""),
    "logtool errors": ("{log}", 0, ""),
    "logtool incomplete": ("{log}", 0, ""),
    "logtool debug": ("{log}", 0, ""),
    "upgrade settings": ("{settings}", 0, "Does not seem to require any changes"),
    "multi": ("names 2", 0, "celery1@"),
    "amqp exchange.declare": ("stray direct", 0, "OK"),
    "amqp exchange.delete": ("stray true", 0, ""),
    "amqp queue.declare": ("reports", 0, "queue:reports messages:0"),
    "amqp queue.bind": ("reports reports reports", 0, "ERROR: 'reports'"),
    "amqp queue.delete": ("stray", 0, "messages deleted"),
    "amqp queue.purge": ("reports", 0, "0 messages deleted"),
    "amqp basic.get": ("reports", 0, "No messages in queue"),
    "amqp basic.publish": ("hello reports reports", 0, ""),
    "amqp basic.ack": ("1", 0, ""),
    "amqp repl": ("", 0, ""),
}
HERE = {
    "call": "test_call_and_result_by_another_process",
    "result": "test_call_and_result_by_another_process",
    "purge": "test_purge_ends_what_waits",
    "events": "test_events_of_a_running_worker",
    "migrate": "test_migrate_copies_the_messages_of_another_broker",
    "worker": "the worker of these tests",
    "beat": "tests/reliability/test_beat.py",
}
"""Those that have a test of their own."""


def test_every_command_of_celery_s_is_here() -> None:
    assert sorted(leaves(celery)) == sorted({**BROADCAST, **OF_THE_APPLICATION, **HERE})


@pytest.fixture
def worker(stack: Stack, transactional_db: None) -> Process:
    return stack.worker("-n", NODE)


def outcomes(*commands: list[str]) -> list[dict[str, Any]]:
    """Of commands that one new process runs: nothing of Django or of the application is there before."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.probes.command_line"], cwd=ROOT, env=environment(),
        input=json.dumps(commands), capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    # What else is said there (REPLs, log lines) is no JSON.
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"code"')]


def as_stock(commands: dict[str, tuple[str, int, str]], **values: object) -> None:
    calls = [[*name.split(), *arguments.format(**values).split()] for name, (arguments, _, _) in commands.items()]
    odd = []
    for (name, (_, code, told)), outcome in zip(commands.items(), outcomes(*calls), strict=True):
        if outcome["code"] != code or told not in outcome["output"] or outcome["traceback"]:
            odd.append(f"{name}: exit {outcome['code']}\n{outcome['output'][-1500:]}{outcome['traceback'][-1500:]}")
    assert not odd, "\n\n".join(odd)


def test_workers_answer_each_command(worker: Process) -> None:
    as_stock(BROADCAST)
    assert worker.popen.poll() is None


def test_each_command_of_the_application_works(worker: Process, tmp_path: Path) -> None:
    settings = tmp_path / "settings.py"
    settings.write_text("task_acks_late = True\n")
    as_stock(OF_THE_APPLICATION, log=worker.log, settings=settings)


@pytest.mark.parametrize("command", ["inspect ping", "status", "control heartbeat", "graph workers", f"call {MODULE}"])
def test_the_first_thing_that_a_process_does(worker: Process, command: str) -> None:
    """Whatever needs Django first sets it up."""
    (outcome,) = outcomes(command.split())
    assert "Apps aren't loaded yet" not in outcome["output"] + outcome["traceback"]
    assert not outcome["traceback"]


def test_call_and_result_by_another_process(worker: Process, stack: Stack, tmp_path: Path) -> None:
    stack.relay()
    path = tmp_path / "effects"
    by_name, of_a_queue, nowhere = outcomes(
        ["call", "probe.effect", "-a", json.dumps([str(path), "called"])],
        ["call", "app.accounts.tasks.send_welcome_email", "-a", "[0]"],
        ["call", MODULE, "--queue", "nowhere"],
    )
    assert by_name["code"] == 0
    assert f"TASKRUNS_QUEUES declares {', '.join(sorted(BY_NAME))}" in nowhere["traceback"]
    called = by_name["output"].strip()
    until(lambda: noted(path) == ["called"], "it has run")
    # Its own queue, which the caller does not name.
    assert TaskRun.objects.get(celery_id=of_a_queue["output"].strip()).queue == "emails"
    run = TaskRun.objects.get(celery_id=called)
    until(lambda: TaskRun.objects.get(pk=run.pk).status == Status.SUCCEEDED, "it has succeeded")
    told, of_a_task, traceback = outcomes(
        ["result", called], ["result", "-t", MODULE, called], ["result", "--traceback", called]
    )
    assert [one["output"] for one in (told, of_a_task, traceback)] == ["called\n", "called\n", "\n"]


def test_purge_ends_what_waits(transactional_db: None, redis_server: Any, stack: Stack) -> None:
    """As with stock Celery nothing of it runs afterwards; here the runs are cancelled, and stay in sight."""
    now, later = tasks.effect.delay("/dev/null", "x"), tasks.effect.apply_async(["/dev/null", "x"], countdown=3600)
    elsewhere = tasks.effect.apply_async(["/dev/null", "x"], queue="emails")
    stack.relay()
    until(lambda: redis_server.client().llen("default"), "one is in Redis")
    redis_server.client().lpush("default", "a stray message")
    (outcome,) = outcomes(["purge", "-f", "-Q", "default"])
    assert "Purged 3 messages from 1 known task queue." in outcome["output"]
    assert not redis_server.client().llen("default")
    statuses = [TaskRun.of(result).status for result in (now, later, elsewhere)]
    assert statuses == [Status.CANCELLED, Status.CANCELLED, Status.QUEUED]
    refused, again = outcomes(["purge", "-Q", "emails"], ["purge", "-f", "-X", "emails"])
    assert "There is no undo" in refused["output"]
    assert refused["code"] == 1
    assert f"No messages purged from {len(QUEUES) - 1} queues." in again["output"]
    assert TaskRun.of(elsewhere).status == Status.QUEUED


def test_events_of_a_running_worker(worker: Process, stack: Stack) -> None:
    (enabled,) = outcomes(["control", "enable_events"])
    assert enabled["code"] == 0
    dump = stack.start([sys.executable, "-m", "celery", "-A", "app", "events", "--dump"], "starting capture")
    dump.wait_for(NODE)
    assert re.search(rf"{NODE} \[[^]]+\] (heartbeat|started)", dump.output())


def test_migrate_copies_the_messages_of_another_broker(transactional_db: None, redis_server: Any) -> None:
    """Of a broker that plain Celery used, for one. They stay there, as with stock Celery."""
    at = urlsplit(redis_server.url)
    source, destination = (at._replace(path=f"/{number}").geturl() for number in (7, 8))
    plain = Celery("plain", broker=source, set_as_current=False)
    plain.conf.task_default_queue = "default"
    sent = plain.send_task("probe.now")
    (outcome,) = outcomes(["migrate", source, destination, "-t", "10"])
    assert "Migrating task 1/1" in outcome["output"], outcome
    with Celery("plain", broker=destination, set_as_current=False).connection() as connection:
        message = connection.SimpleQueue("default").get(timeout=60)
        assert message.headers["id"] == sent.id
    with plain.connection() as connection:
        assert connection.SimpleQueue("default").get(timeout=60).headers["id"] == sent.id
