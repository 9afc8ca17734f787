"""What is reported to a Sentry on loopback by real processes: each final failure once, and nothing else."""

from __future__ import annotations

import gzip
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from app.local.servers import free_port
from app.local.up import web as gunicorn
from pressroom.models import LiveRun, Status, TaskRun
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until
from tests.support.web import Asked, Exchange, Web, web


@pytest.fixture
def sentry() -> Iterator[Web]:
    def answer(exchange: Exchange, asked: Asked) -> None:
        exchange.reply(200, b'{"id": "0"}', Content_Type="application/json")

    with web(answer) as server:
        yield server


def dsn(sentry: Web) -> dict[str, str]:
    return {"SENTRY_DSN": f"http://key@127.0.0.1:{sentry.port}/1", "RELEASE": "1.2.3", "ENVIRONMENT": "test"}


def events(sentry: Web) -> list[dict[str, Any]]:
    """The events in the envelopes: https://develop.sentry.dev/sdk/foundations/transport/envelopes/."""
    found = []
    for asked in list(sentry.asked):
        assert asked.path == "/api/1/envelope/"
        body = gzip.decompress(asked.body) if asked.headers.get("content-encoding") == "gzip" else asked.body
        lines = body.split(b"\n")[1:]
        found += [
            json.loads(payload)
            for header, payload in zip(lines[::2], lines[1::2], strict=False)
            if json.loads(header)["type"] == "event"
        ]
    return found


def error(event: dict[str, Any]) -> tuple[str, str]:
    last = event["exception"]["values"][-1]
    return last["type"], last["value"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_final_failure_is_one_event_and_a_retry_is_none(stack: Stack, sentry: Web, effects: str, pool: str) -> None:
    stack.relay(**dsn(sentry))
    worker = stack.worker("--pool", pool, **dsn(sentry))
    with structlog.contextvars.bound_contextvars(request_id="from-the-edge"):
        failed = tasks.fail.delay("kim@example.com is no number")
    given_up = tasks.retry_by_itself.delay(effects)
    recovers = tasks.retry_by_hand.delay(effects, succeed_at=2)
    until(done, "all have ended")
    assert worker.stop() == 0

    by_task = {event["tags"]["task"]: event for event in events(sentry)}
    assert len(events(sentry)) == len(by_task) == 2
    first = by_task["probe.fail"]
    assert error(first) == ("KeyError", "'***@example.com is no number'")
    assert first["extra"]["task"] == {"name": "probe.fail", "args": ["***@example.com is no number"], "kwargs": {}}
    assert (first["tags"]["task_id"], first["tags"]["request_id"]) == (failed.id, "from-the-edge")
    assert (first["release"], first["environment"]) == ("1.2.3", "test")
    second = by_task["probe.retry_by_itself"]
    assert error(second) == ("ConnectionError", "as ever")
    assert second["extra"]["task"]["args"] == [effects]
    assert second["tags"]["task_id"] == given_up.id
    assert TaskRun.of(recovers).status == Status.SUCCEEDED


def test_a_run_whose_workers_died_is_one_event_when_it_is_given_up(stack: Stack, sentry: Web, effects: str) -> None:
    """Five children die, each telling the worker's main process; only the last is the end."""
    stack.relay(**dsn(sentry))
    stack.worker(**dsn(sentry))
    result = tasks.suicide.delay(effects)
    until(done, "it is given up")
    [event] = until(lambda: events(sentry), "it is told")

    assert error(event)[0] == "WorkerLostError"
    assert (event["tags"]["task"], event["tags"]["task_id"]) == ("probe.suicide", result.id)
    assert event["extra"]["task"]["args"] == [effects]


def test_a_run_whose_last_worker_vanished_is_told_by_the_relay(
    stack: Stack, sentry: Web, effects: str, gate: Path
) -> None:
    stack.relay(**dsn(sentry))
    worker = stack.worker(**dsn(sentry))
    result = tasks.hold.delay(effects, "job", str(gate))
    until(lambda: tasks.noted(effects), "it runs")
    LiveRun.objects.update(losses=4)
    worker.kill()
    until(done, "it is given up")
    [event] = until(lambda: events(sentry), "it is told")

    assert (error(event)[0], event["tags"]["task_id"]) == ("WorkerLostError", result.id)


def test_a_request_that_failed_is_one_event_with_its_id(stack: Stack, sentry: Web) -> None:
    port = free_port()
    command = [part if part != "app.wsgi" else "tests.support.probes.wsgi" for part in gunicorn(port)]
    served = stack.start(command, "Listening at", **dsn(sentry))
    address = f"http://127.0.0.1:{port}"
    request = urllib.request.Request(
        f"{address}/broken/hush-hush/?q=hush-hush", headers={"X-Request-ID": "from-the-edge"}
    )
    for wanted in (request, f"{address}/api/nowhere/", f"{address}/api/auth/me/"):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(wanted)
    served.stop()

    [event] = events(sentry)
    assert error(event) == ("RuntimeError", "a bug")
    assert event["tags"]["request_id"] == "from-the-edge"
    assert event["transaction"] == "/broken/{token}/"
    assert "hush-hush" not in json.dumps(event)


def test_without_an_address_the_library_is_not_even_loaded(stack: Stack, effects: str) -> None:
    code = "import django, sys; django.setup(); import app.wsgi; print('sentry_sdk' in sys.modules)"
    for extra, told in (({}, "False"), ({"SENTRY_DSN": "http://key@127.0.0.1:1/1"}, "True")):
        stack.start([sys.executable, "-c", code], told, DJANGO_SETTINGS_MODULE="app.settings", **extra)
