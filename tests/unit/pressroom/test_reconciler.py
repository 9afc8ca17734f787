"""How long the reconciler watches a silent worker."""

import datetime
from typing import Any

import pytest

from pressroom.models import Worker
from pressroom.relay.reconciler import Reconciler
from pressroom.sql import workers

pytestmark = pytest.mark.django_db
SILENCE, HEARTBEAT = 20.0, 5.0
AFTER_GAP = Reconciler.HEARTBEATS_AFTER_GAP * HEARTBEAT


class Relay:
    """A reconciler at a time that the test sets, in seconds. It looks every second unless the test says otherwise."""

    def __init__(self) -> None:
        self._made: Any = Reconciler(None)  # type: ignore[arg-type]  # Redis is not asked
        self.now = 1_000.0

    def watch(self, seconds: float, beats: bool = False) -> None:
        for _ in range(int(seconds)):
            self.now += 1
            if beats:
                age_heartbeat(0.0)
            self.look()

    def look(self) -> None:
        self._made.watch_workers(self.now)
        self._made._last_pass = self.now


def age_heartbeat(seconds: float) -> None:
    """Write the heartbeat of the worker so long ago."""
    now = datetime.datetime.now(datetime.UTC)
    Worker.objects.update(heartbeat_at=now - datetime.timedelta(seconds=seconds))


def is_lost() -> bool:
    return Worker.objects.get().lost


@pytest.fixture(autouse=True)
def _worker(settings: Any) -> None:
    settings.TASKRUNS_SILENCE, settings.TASKRUNS_HEARTBEAT = SILENCE, HEARTBEAT
    workers.register("one@here", '["default"]', 2)


def test_a_silent_worker_is_dead_after_the_silence_and_one_that_beats_is_not() -> None:
    relay = Relay()
    relay.watch(3 * SILENCE, beats=True)
    assert not is_lost()
    relay.watch(SILENCE - 1)
    assert not is_lost()
    relay.watch(1)
    assert is_lost()


def test_after_a_gap_a_worker_has_time_for_a_heartbeat() -> None:
    relay = Relay()
    relay.watch(SILENCE - 1)
    relay.now += 100
    relay.watch(AFTER_GAP - 1)
    assert not is_lost()
    relay.watch(3)
    assert is_lost()


def test_a_gap_itself_does_not_count() -> None:
    relay = Relay()
    relay.watch(3)
    relay.now += 100
    relay.watch(SILENCE - 4)
    assert not is_lost()
    relay.watch(3)
    assert is_lost()


def test_a_worker_that_beats_after_each_gap_is_never_dead() -> None:
    relay = Relay()
    for _ in range(10):
        relay.watch(AFTER_GAP - 1)
        relay.watch(1, beats=True)
        relay.now += 100
    assert not is_lost()


@pytest.mark.parametrize("age", [SILENCE - AFTER_GAP, 10_000.0])
def test_a_relay_that_starts_counts_what_postgres_says_but_waits_for_a_heartbeat(age: float) -> None:
    age_heartbeat(age)
    relay = Relay()
    relay.look()
    relay.watch(AFTER_GAP - 1)
    assert not is_lost()
    relay.watch(3)
    assert is_lost()


def test_a_clock_of_postgres_that_was_set_back_hastens_nothing() -> None:
    age_heartbeat(-3_600.0)
    relay = Relay()
    relay.look()
    relay.watch(SILENCE - 1)
    assert not is_lost()
