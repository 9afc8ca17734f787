"""Traces by OpenTelemetry: one for a request and all that follows, through a killed worker and a retry."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import chord
from django.conf import settings

from pressroom.models import TaskRun
from tests.support.collector import Collector, Span, collector
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Process, Stack
from tests.support.waiting import until

POOLS = {"prefork": 2, "threads": 4, "gevent": 4}


@pytest.fixture
def collected() -> Iterator[Collector]:
    with collector() as running:
        yield running


def web(stack: Stack, **environment: str) -> str:
    command = [sys.executable, "-m", "gunicorn", "tests.support.probes.wsgi", "--bind", "127.0.0.1:0"]
    process = stack.start(
        [*command, "--worker-tmp-dir", str(stack.folder)], "Listening at", SECRET_KEY=settings.SECRET_KEY, **environment
    )
    found = re.search(r"Listening at:? .*?(http://127\.0\.0\.1:\d+)", process.output())
    assert found, process.output()
    return found[1]


def messaging(span: Span) -> tuple[Any, ...]:
    return tuple(
        span.attributes.get(f"messaging.{name}")
        for name in ("system", "operation.name", "operation.type", "destination.name", "message.id")
    )


@pytest.mark.parametrize("pool", POOLS)
def test_one_trace_from_a_request_through_a_killed_worker_and_a_retry(
    stack: Stack, collected: Collector, effects: str, gate: Path, pool: str
) -> None:
    on = collected.environment() | {"LOG_FORMAT": "json"}
    stack.relay(**on)

    def worker() -> Process:
        return stack.worker(f"--pool={pool}", f"--concurrency={POOLS[pool]}", **on)

    first = worker()
    answer = httpx.get(f"{web(stack, **on)}/traced/", params={"effects": effects, "gate": str(gate)}, timeout=60)
    celery_id = answer.text
    until(lambda: noted(effects), "the first attempt runs")
    until(lambda: collected.named("wait probe.traced"), "what had ended is sent")
    first.kill()
    second = worker()
    until(done, "all is done")
    until(lambda: collected.named("finish probe.effect"), "its spans have arrived")
    until(lambda: len(collected.named("finish probe.traced")) == 2, "all have")

    [request] = collected.named("GET traced/")
    assert (request.kind, request.parent, request.links) == ("SERVER", "", [])
    [send] = collected.named("send probe.traced")
    assert (send.kind, send.parent) == ("PRODUCER", request.id)
    assert messaging(send) == ("pressroom", "send", "send", "default", celery_id)

    killed, retried, succeeded = attempts = collected.named("process probe.traced")
    waits = sorted(collected.named("wait probe.traced"), key=lambda span: span.end)
    assert len(waits) == 3
    for number, attempt in enumerate(attempts, 1):
        assert (attempt.kind, attempt.parent) == ("CONSUMER", send.id)
        assert messaging(attempt) == ("pressroom", "process", "process", "default", celery_id)
        assert attempt.attributes["pressroom.attempt"] == number
        assert attempt.attributes["pressroom.run.id"] == str(TaskRun.objects.get(celery_id=celery_id).pk)
        assert attempt.attributes["celery.task_name"] == "probe.traced"
    for waited, attempt in zip(waits, attempts, strict=True):
        assert waited.parent == send.id
        # The clock is the database's for the killed one, and else the worker's.
        assert abs(waited.end - attempt.start) < 1e9
    assert (killed.error, killed.attributes["error.type"]) == (True, "WorkerLostError")
    assert (retried.error, retried.attributes["celery.state"], retried.events) == (False, "RETRY", ["exception"])
    assert (succeeded.error, succeeded.attributes["celery.state"]) == (False, "SUCCESS")
    assert (killed.links, retried.links, succeeded.links) == ([], [killed.id], [retried.id])
    assert [finish.parent for finish in collected.named("finish probe.traced")] == [retried.id, succeeded.id]

    [next_send] = collected.named("send probe.effect")
    [next_attempt] = collected.named("process probe.effect")
    assert (next_send.parent, next_attempt.parent) == (succeeded.id, next_send.id)
    statements = [span.name for span in collected.spans() if (span.kind, span.parent) == ("CLIENT", succeeded.id)]
    assert "INSERT" in statements

    # Everything is of this one trace: no loop's statement has made one of its own.
    assert {span.trace_id for span in collected.spans()} == {request.trace_id}
    assert {span.service for span in collected.spans()} == {"pressroom"}
    lines = [json.loads(line) for line in second.output().splitlines() if line.startswith("{")]
    ended = [line for line in lines if line.get("event") == "task_succeeded" and line.get("task") == "probe.traced"]
    assert [(line["trace_id"], line["span_id"]) for line in ended] == [(request.trace_id, succeeded.id)]


CHORD = """
from celery import chord
from tests.support.probes import tasks
parts = [tasks.effect.s("/dev/null", str(number)) for number in range(3)]
print(chord(parts, tasks.effect.si("/dev/null", "body")).delay().get(timeout=240), "called")
"""


def test_a_chords_body_is_linked_to_its_parts(stack: Stack, collected: Collector) -> None:
    on = collected.environment()
    stack.relay(**on)
    stack.worker("--concurrency=2", **on)
    stack.start([sys.executable, "manage.py", "shell", "-v0", "-c", CHORD], "body called", **on)
    until(lambda: len(collected.named("process probe.effect")) == 4, "all spans have arrived")
    *parts, body = sorted(collected.named("process probe.effect"), key=lambda span: len(span.links))
    assert [part.links for part in parts] == [[], [], []]
    assert sorted(body.links) == sorted(part.id for part in parts)
    [send] = [span for span in collected.named("send probe.effect") if span.id == body.parent]
    assert send.parent in {part.id for part in parts}
    assert sorted(send.links) == sorted(body.links)


def test_without_an_endpoint_a_call_carries_nothing(stack: Stack, effects: str) -> None:
    stack.relay()
    stack.worker()
    result = tasks.effect.delay(effects, "untraced")
    assert result.get(timeout=60) == "untraced"
    assert "traceparent" not in TaskRun.of(result).headers


def test_a_collector_that_is_away_costs_no_task(stack: Stack, effects: str) -> None:
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    stack.relay(**away)
    worker = stack.worker(**away)
    body = chord([tasks.effect.s(effects, str(number)) for number in range(3)], tasks.effect.si(effects, "body"))
    assert body.delay().get(timeout=60) == "body"
    assert worker.stop() == 0
