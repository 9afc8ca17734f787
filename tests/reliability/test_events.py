"""Celery's event stream, for who still watches it: every task's life, from sent to its end."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from django.db import transaction

from app.celery import app
from tests.reliability.loads import BUNDLED, FOLLOWING, narrow_relay
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until

EVENTS = {"CELERY_SEND_EVENTS": "1"}
SUCCEED, FAIL, RETRY = 20, 5, 5


class Listener(threading.Thread):
    """Counts events by type and by the task's name, as celery-exporter does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[str, str]] = Counter()
        self.names: dict[str, str] = {}
        self.receiver: Any = None

    def run(self) -> None:
        with app.connection_for_read() as connection:
            self.receiver = app.events.Receiver(connection, handlers={"*": self.see})
            self.receiver.capture(wakeup=False)

    def see(self, event: dict[str, str]) -> None:
        if event["type"].startswith("task-"):
            name = self.names.setdefault(event["uuid"], event.get("name", "?"))
            self.seen[event["type"], name] += 1


@pytest.mark.parametrize("include", [None, FOLLOWING, BUNDLED], ids=["messages", "following", "bundled"])
def test_events_of_every_task(stack: Stack, effects: str, include: str | None) -> None:
    listener = Listener()
    listener.start()
    try:
        if include:
            narrow_relay(stack, **EVENTS)
            stack.worker(include=include, **EVENTS)
        else:
            stack.relay(**EVENTS)
            stack.worker(**EVENTS)
        with transaction.atomic():
            for number in range(SUCCEED):
                tasks.effect.delay(effects, str(number))
            for _ in range(FAIL):
                tasks.fail.delay("gone")
            for _ in range(RETRY):
                tasks.retry_by_hand.delay(effects, 1)
        until(done, "all tasks end")
        until(lambda: listener.seen["task-succeeded", "probe.retry_by_hand"] == RETRY, "the last event")
        until(lambda: listener.seen["task-succeeded", "probe.effect"] == SUCCEED, "the last event")
    finally:
        listener.receiver.should_stop = True
        listener.join()
    life = ("task-sent", "task-received", "task-started")
    assert listener.seen == {
        **{(event, "probe.effect"): SUCCEED for event in (*life, "task-succeeded")},
        **{(event, "probe.fail"): FAIL for event in (*life, "task-failed")},
        **{(event, "probe.retry_by_hand"): 2 * RETRY for event in life},
        ("task-retried", "probe.retry_by_hand"): RETRY,
        ("task-succeeded", "probe.retry_by_hand"): RETRY,
    }


def test_none_unless_asked_for(stack: Stack, effects: str) -> None:
    listener = Listener()
    listener.start()
    try:
        stack.relay()
        stack.worker()
        tasks.effect.delay(effects, "one")
        until(done, "the task ends")
    finally:
        listener.receiver.should_stop = True
        listener.join()
    assert not listener.seen
