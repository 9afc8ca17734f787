"""Calls to other services by real workers: what is tried again, when, and how often."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest
from django.utils import timezone

from app.integrations.models import Ping
from app.integrations.tasks import BACKOFF, RETRIES, call_external_api, notify_slack, ping_external
from pressroom.models import Status, TaskRun
from tests.support.ledger_rows import change_run
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until
from tests.support.web import Web, web


@pytest.fixture
def server() -> Iterator[Web]:
    with web(lambda exchange, asked: exchange.reply(200, b"hello")) as server:
        yield server


def start(stack: Stack, server: Web) -> None:
    stack.relay()
    stack.worker(
        EXTERNAL_ALLOWED_NETWORKS="127.0.0.1/32",
        PING_URLS=f"{server.url}/ping",
        SLACK_WEBHOOK_URL=f"{server.url}/slack",
    )


def retrying(run: TaskRun, attempt: int) -> datetime.timedelta:
    """Wait until the run waits for its next attempt; how long after the last one it is due. It is due at once then."""

    def waits() -> bool:
        run.refresh_from_db()
        return run.status == Status.RETRYING and run.attempt == attempt

    until(waits, f"attempt {attempt} has failed")
    pause = run.run_at - run.attempts.get(number=attempt).finished_at
    change_run(run.pk, run_at=timezone.now())
    return pause


def test_retries_until_it_works(stack: Stack, server: Web) -> None:
    answers = iter([(500, {}), (429, {"Retry_After": "120"}), (429, {"Retry_After": "86400"}), (200, {})])

    def answer(exchange, asked) -> None:  # type: ignore[no-untyped-def]
        status, headers = next(answers)
        exchange.reply(status, b"hello", **headers)

    server.answer = answer
    start(stack, server)
    run = TaskRun.of(call_external_api.delay(server.url))
    second = datetime.timedelta(seconds=1)
    assert -second <= retrying(run, 1) <= BACKOFF * second + second
    assert abs(retrying(run, 2) - 120 * second) <= second
    assert abs(retrying(run, 3) - 600 * second) <= second
    until(done, "it has worked")
    run.refresh_from_db()
    assert (run.status, run.attempt, run.losses) == (Status.SUCCEEDED, 4, 0)
    assert '"bytes": 5' in str(run.result)


def test_five_retries_and_then_a_dead_letter(stack: Stack, server: Web) -> None:
    server.answer = lambda exchange, asked: exchange.reset()
    start(stack, server)
    run = TaskRun.of(call_external_api.delay(server.url))
    for attempt in range(1, RETRIES + 1):
        assert retrying(run, attempt) <= datetime.timedelta(seconds=min(600, BACKOFF * 2 ** (attempt - 1)) + 1)
    until(done, "it is given up")
    run.refresh_from_db()
    assert (run.status, run.error_type, run.attempt) == (Status.DEAD, "Unavailable", 6)
    assert len(server.asked) == 6


def test_what_is_refused_is_not_tried_again(stack: Stack, server: Web) -> None:
    server.answer = lambda exchange, asked: exchange.reply(302, Location=f"http://127.0.0.2:{server.port}/")
    start(stack, server)
    run = TaskRun.of(call_external_api.delay(server.url))
    until(done, "it is given up")
    run.refresh_from_db()
    assert (run.status, run.error_type, run.attempt) == (Status.DEAD, "Refused", 1)


def test_slack_and_pings(stack: Stack, server: Web) -> None:
    start(stack, server)
    told, pinged = TaskRun.of(notify_slack.delay("hello")), TaskRun.of(ping_external.delay())
    until(done, "both are done")
    for run in (told, pinged):
        run.refresh_from_db()
    assert (told.result, pinged.result) == ("true", "1")
    assert {asked.path for asked in server.asked} == {"/slack", "/ping"}
    assert Ping.objects.get().status == 200
