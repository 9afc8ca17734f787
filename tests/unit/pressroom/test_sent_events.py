"""Celery's ``task-sent`` events: before the message, and never in its way."""

from __future__ import annotations

from typing import Any

import pytest

from pressroom.enqueue.broker import broker_client, prefixed
from pressroom.monitoring.counters import RelayMetrics
from pressroom.relay import sent_events
from pressroom.relay.publisher import Publisher
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def publisher(settings: Any, redis_server: Any) -> Publisher:
    settings.CELERY_TASK_SEND_SENT_EVENT = True
    return Publisher(broker_client(socket_timeout=5), RelayMetrics("relay@host"))


def length() -> int:
    return int(broker_client(socket_timeout=5).llen(prefixed("default")))


def test_an_event_is_sent_before_its_message(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer of events learns the queue of a run from this one, and the worker's own follow at once."""
    before = []

    def fields(row: Any) -> dict[str, Any]:
        before.append(length())
        return {"uuid": "x"}

    monkeypatch.setattr(sent_events, "fields", fields)
    tasks.effect.delay("/dev/null", "one")
    tasks.effect.delay("/dev/null", "two")
    assert publisher.publish({"default": 10}) == 2
    assert before == [0, 0]
    assert length() == 2


def test_many_events_share_a_message(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_events, "TOGETHER", 2)
    client = broker_client(socket_timeout=5)
    with client.monitor() as monitor:
        for number in range(5):
            tasks.effect.delay("/dev/null", str(number))
        assert publisher.publish({"default": 10}) == 5
        client.set("end", "")
        commands = list(iter(lambda: monitor.next_command()["command"], "SET end "))
    events = [command for command in commands if command.startswith("PUBLISH") and "task.multi" in command]
    assert len(events) == 3
    [pushed] = [command for command in commands if command.startswith(f"LPUSH {prefixed('default')} ")]
    assert commands.index(events[-1]) < commands.index(pushed)


def test_a_dispatcher_that_cannot_be_made_stops_no_message(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connection() -> Any:
        raise RuntimeError("no connection")

    monkeypatch.setattr(sent_events.current_app, "connection_for_write", connection)
    tasks.effect.delay("/dev/null", "one")
    assert publisher.publish({"default": 10}) == 1
    assert length() == 1


@pytest.mark.parametrize("error", [ValueError("not to be read"), OSError("away")])
def test_an_event_that_cannot_be_sent_stops_no_message(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fields(row: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(sent_events, "fields", fields)
    tasks.effect.delay("/dev/null", "one")
    assert publisher.publish({"default": 10}) == 1
    assert length() == 1
