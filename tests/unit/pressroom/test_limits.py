"""Limits: never more at once or in a period than they say, and nobody waits who need not."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app, shared_task
from django.db import connection, transaction
from django.utils import timezone

from pressroom import checks, operator_actions, sql
from pressroom.enqueue import limits as limit_options
from pressroom.models import FreedPlace, Held, Lane, Limit, LiveRun, Start, Status, TaskRun
from pressroom.monitoring.queue_stats import read_ledger
from pressroom.operator_actions import NotPossible
from pressroom.sql import dispatch, ends, functions, limits, lost_attempts, runs, workers
from tests.support.ledger_rows import change_run
from tests.support.probes import here, tasks
from tests.unit.pressroom.test_bundle import Slot, ids

pytestmark = pytest.mark.django_db(transaction=True)
WINDOW = 100


@shared_task(name="probe.limited", concurrency=2, key="account")
def limited(account: Any, note: str = "", *, path: str = "/dev/null") -> str:
    tasks.note(path, note)
    return note


@shared_task(name="probe.rated", rate="3/m", key=lambda account, **_: account // 10, queue="emails")
def rated(account: int) -> None:
    """Does nothing."""


@shared_task(name="probe.alone", concurrency=1, rate="5/m")
def alone() -> None:
    """Does nothing."""


@pytest.fixture(autouse=True)
def _synced(transactional_db: None) -> None:
    limits.sync(limit_options.limits_of([limited, rated, alone]))


def publish(window: int = WINDOW) -> list[uuid.UUID]:
    return [row.run_id for row in dispatch.take_due({"default": window, "emails": window})]


def claim(run_id: uuid.UUID) -> runs.Claim:
    found = runs.claim(run_id, uuid.uuid4(), workers.register("w@h", "[]", 1))
    assert found is not None
    return found


def called(*accounts: Any, task: Any = limited, **options: Any) -> list[uuid.UUID]:
    with transaction.atomic():
        results = [task.apply_async((account,), **options) for account in accounts]
    return [TaskRun.of(result).pk for result in results]


# ---- At once ---------------------------------------------------------------------------------------------------------


def test_what_waits_is_not_published_and_cannot_be_claimed() -> None:
    first, second, third = called(1, 1, 1)
    assert runs.claim(first, uuid.uuid4(), workers.register("w@h", "[]", 1)) is None
    assert publish() == [first, second]
    assert not publish()
    assert runs.claim(third, uuid.uuid4(), workers.register("w@h", "[]", 1)) is None
    assert LiveRun.objects.get(pk=third).held == Held.IN_LANE
    assert ends.succeed(claim(first), "null")
    assert publish() == [third]


def test_each_key_has_places_of_its_own() -> None:
    one = called(1, 1, 1)
    other = called("1", "1", "1")
    assert set(publish()) == {*one[:2], *other[:2]}


def test_a_task_without_a_limit_is_published_beside_it() -> None:
    called(1, 1, 1)
    plain = TaskRun.of(tasks.effect.delay("nowhere", "x")).pk
    assert plain in publish()
    assert LiveRun.objects.get(pk=plain).lane is None


def end_by_success(claimed: runs.Claim) -> None:
    assert ends.succeed(claimed, "null")


def end_by_failure(claimed: runs.Claim) -> None:
    assert ends.fail(claimed, runs.LOST, None)


def end_by_loss(claimed: runs.Claim) -> None:
    assert lost_attempts.lose_claim(claimed.run_id, claimed.token)


def end_by_release(claimed: runs.Claim) -> None:
    assert runs.release(LiveRun.objects.values_list("worker_id", flat=True).get(pk=claimed.run_id), token=claimed.token)


def end_by_dead_worker(claimed: runs.Claim) -> None:
    workers.end([LiveRun.objects.values_list("worker_id", flat=True).get(pk=claimed.run_id)], lost=True)
    assert lost_attempts.lose_orphans()


def end_by_cancel(claimed: runs.Claim) -> None:
    operator_actions.run_cancel(run=TaskRun.objects.get(pk=claimed.run_id), user=None)
    assert ends.cancel_claim(claimed.run_id, claimed.token)


def end_by_retry(claimed: runs.Claim) -> None:
    run = TaskRun.objects.get(pk=claimed.run_id)
    message = runs.Message(
        run.celery_id, run.name, run.queue, 0, run.headers, run.body, run.properties, countdown=3600.0,
        lane=LiveRun.objects.get(pk=run.pk).lane,
    )  # fmt: skip
    assert ends.reschedule(claimed, message, runs.LOST)


def end_by_replacement(claimed: runs.Claim) -> None:
    """Another task, which has no limit, goes on in its place."""
    run = TaskRun.objects.get(pk=claimed.run_id)
    message = runs.Message(run.celery_id, run.name, run.queue, 0, run.headers, run.body, run.properties, countdown=3600)
    assert ends.reschedule(claimed, message, None)


def end_unnoted(claimed: runs.Claim) -> None:
    """Code of an earlier release ended it, and no trigger noted the place."""
    end_by_success(claimed)
    FreedPlace.objects.all().delete()
    assert not publish()
    assert limits.reopen_lanes() == 1
    assert limits.reopen_lanes() == 0


@pytest.mark.parametrize(
    "end",
    [
        end_by_success,
        end_by_failure,
        end_by_loss,
        end_by_release,
        end_by_dead_worker,
        end_by_cancel,
        end_by_retry,
        end_by_replacement,
        end_unnoted,
    ],
    ids=lambda end: end.__name__,
)
def test_the_place_is_free_exactly_when_the_attempt_has_ended(end: Callable[[runs.Claim], None]) -> None:
    one, two, three, _ = called(1, 1, 1, 1)
    publish()
    claims = [claim(one), claim(two)]
    assert not publish()
    end(claims[0])
    came = publish()
    # A run that was lost or given back is the longest due, and goes first.
    assert came == ([one] if end in (end_by_loss, end_by_release, end_by_dead_worker) else [three])
    end_by_success(claims[1])
    assert len(publish()) == 1
    assert LiveRun.objects.filter(held=None, lane__isnull=False, run_at__lte=timezone.now()).count() == 2


@pytest.mark.parametrize("published", [True, False])
def test_a_run_that_never_begins_frees_its_place(published: bool) -> None:
    one, two, three = called(1, 1, 1)
    if published:
        publish()
    operator_actions.run_cancel(run=TaskRun.objects.get(pk=one), user=None)
    change_run(two, expires_at=timezone.now() - timedelta(seconds=1))
    assert ends.expire()
    assert publish() == [three]
    end_by_success(claim(three))
    publish()
    assert not LiveRun.objects.exists()
    assert not Lane.objects.exists()
    called(2)
    publish()
    assert not FreedPlace.objects.exists()


def test_a_run_that_never_had_a_place_frees_none() -> None:
    *_, waits = called(1, 1, 1)
    publish()
    operator_actions.run_cancel(run=TaskRun.objects.get(pk=waits), user=None)
    assert not FreedPlace.objects.exists()


def test_lanes_without_a_free_place_stay_closed() -> None:
    called(1, 1, 1)
    called(11, 12, 13, 14, task=rated)
    publish()
    assert Lane.objects.filter(is_ready=False).count() == 2
    assert limits.reopen_lanes() == 0
    # A limit that somebody took away without the library.
    Limit.objects.filter(name="probe.limited").update(concurrency=None)
    assert limits.reopen_lanes() == 1
    assert len(publish()) == 1


def test_an_end_that_is_rolled_back_frees_nothing() -> None:
    one, two, _ = called(1, 1, 1)
    publish()
    claims = [claim(one), claim(two)]
    with transaction.atomic():
        end_by_success(claims[0])
        transaction.set_rollback(True)
    assert not publish()


def test_a_run_that_is_due_later_waits_outside_of_the_lane() -> None:
    called(1, countdown=3600)
    [now] = called(1)
    assert publish() == [now]
    assert not Lane.objects.exists()


def test_the_most_urgent_first_within_a_key_then_first_come() -> None:
    first, second = called(1, 1, priority=5)
    [urgent] = called(1, priority=0)
    assert set(publish()) == {urgent, first}
    end_by_success(claim(urgent))
    assert publish() == [second]


def test_keys_take_turns() -> None:
    """A key with many waiting does not delay the others, however old its runs are."""
    called(*[1] * 50)
    others = called(2, 3, 4)
    order = publish(4)
    assert len(order) == 4
    assert set(others) <= set(order)


def test_more_keys_than_the_window_has_room_for_are_served_in_turn() -> None:
    accounts = list(range(12))
    called(*accounts * 4)
    turns = []
    for _ in range(12):
        taken = publish(4)
        turns.append([TaskRun.objects.get(pk=one).arguments[0][0] for one in taken])
        for one in taken:
            end_by_success(claim(one))
    flat = [account for turn in turns for account in turn]
    assert len(flat) == 48
    for start in range(0, 48, 12):
        assert sorted(flat[start : start + 12]) == accounts


def test_a_slot_takes_no_run_with_a_limit_from_the_ledger() -> None:
    slot = Slot()
    called(1)
    [plain] = [TaskRun.of(tasks.effect.delay("nowhere", "x")).pk]
    dispatch.take_due({"default": 0})
    assert ids(slot.take()) == [plain]


def test_a_paused_task_holds_no_places_and_goes_on_afterwards() -> None:
    one, two, three = called(1, 1, 1)
    publish()
    operator_actions.pause(kind="task", name="probe.limited", user=None)
    assert LiveRun.objects.filter(held=Held.PAUSED).count() == 2
    assert not publish()
    operator_actions.resume(kind="task", name="probe.limited", user=None)
    publish()
    Lane.objects.update(is_ready=True)
    publish()
    now = set(LiveRun.objects.filter(held=None).values_list("pk", flat=True))
    assert len(now) == 2
    assert now <= {one, two, three}


def test_run_again_waits_for_its_limit() -> None:
    one, two, three = called(1, 1, 1)
    publish()
    end_by_failure(claim(one))
    assert publish() == [three]
    again = operator_actions.run_again(run=TaskRun.objects.get(pk=one), user=None)
    assert not publish()
    end_by_success(claim(two))
    assert publish() == [again.pk]


def test_an_admitted_run_executes(tmp_path: Any) -> None:
    result = limited.apply_async((7, "x"), {"path": str(tmp_path / "noted")})
    run = TaskRun.of(result)
    publish()
    here.execute(run)
    assert TaskRun.of(result).status == Status.SUCCEEDED


def test_a_unique_call_waits_for_its_limit_too() -> None:
    called(1, 1)
    first = limited.apply_async((1,), unique="until done")
    assert limited.apply_async((1,), unique="until done").id == first.id
    assert len(publish()) == 2
    assert LiveRun.objects.get(celery_id=first.id).held == Held.IN_LANE


def test_a_lower_limit_stops_the_next_and_a_limit_that_is_gone_holds_nobody() -> None:
    six = called(*[1] * 6)
    limits.sync([limits.Limit("task", "probe.limited", 4, None, None)])
    assert publish() == six[:4]
    limits.sync([limits.Limit("task", "probe.limited", 1, None, None)])
    for one in six[:3]:
        end_by_success(claim(one))
        assert not publish()
    end_by_success(claim(six[3]))
    assert publish() == [six[4]]
    Limit.objects.update(seen_at=timezone.now() - timedelta(hours=1))
    limits.sync([])
    assert publish() == [six[5]]


def test_code_of_two_releases_keeps_both_limits() -> None:
    limits.sync([limits.Limit("task", "probe.new", 1, None, None)])
    limits.sync(limit_options.limits_of([limited]))
    assert Limit.objects.filter(name__in=["probe.new", "probe.limited"]).count() == 2


def test_the_figures_leave_out_what_waits_for_a_limit() -> None:
    called(*[1] * 5)
    publish()
    queue = read_ledger().queues["default"]
    assert (queue.due, queue.held, queue.depth) == (2, 3, 2)


def test_two_relays_and_many_slots_at_once_never_exceed_the_limit() -> None:
    """Real transactions against one another; the judge reads claims and ends, not the library's count."""
    accounts = [1, 2, 3]
    called(*accounts * 40)
    stop = threading.Event()
    lock = threading.Lock()
    running: Counter[int] = Counter()
    most: Counter[int] = Counter()
    queue: list[uuid.UUID] = []
    errors: list[Exception] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                work()
        except Exception as error:
            errors.append(error)
            stop.set()
        finally:
            connection.close()

    def relay() -> None:
        taken = publish(10)
        with lock:
            queue.extend(taken)

    def slot() -> None:
        with lock:
            one = queue.pop(0) if queue else None
        if one is None:
            return
        account = TaskRun.objects.get(pk=one).arguments[0][0]
        claimed = claim(one)
        with lock:
            running[account] += 1
            most[account] = max(most[account], running[account])
        time.sleep(0.002)  # the work
        end = random.choice([end_by_success, end_by_success, end_by_loss, end_by_failure])
        with lock:
            running[account] -= 1
        end(claimed)
        if not LiveRun.objects.exists():
            stop.set()

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (relay, relay, *[slot] * 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert not errors
    assert stop.is_set()
    assert all(most[account] <= 2 for account in accounts)
    assert not Lane.objects.exists() or not LiveRun.objects.exists()


# ---- In a period -----------------------------------------------------------------------------------------------------


def test_a_rate_counts_starts_and_what_is_admitted() -> None:
    five = called(*[1] * 5, task=rated)
    assert publish() == five[:3]
    assert not Start.objects.exists()
    Lane.objects.update(is_ready=True)
    assert not publish()
    for one in five[:3]:
        end_by_success(claim(one))
    assert Start.objects.count() == 3
    assert not publish()
    # The first two starts leave the period.
    for start in Start.objects.order_by("pk")[:2]:
        Start.objects.filter(pk=start.pk).update(at=timezone.now() - timedelta(seconds=61))
    Lane.objects.update(ready_at=timezone.now())
    assert publish() == five[3:]


def test_a_lane_knows_when_its_next_run_may_start() -> None:
    one, two, three, four = called(*[1] * 4, task=rated)
    publish()
    for run in (one, two, three):
        end_by_success(claim(run))
    first = Start.objects.earliest("at").at
    publish()
    lane = Lane.objects.get()
    assert not lane.is_ready
    assert lane.ready_at == first + timedelta(minutes=1)
    assert LiveRun.objects.get(pk=four).held == Held.IN_LANE


def test_a_function_of_the_arguments_is_a_key() -> None:
    called(*[11] * 3, *[12] * 3, *[21] * 3, task=rated)
    assert len(publish()) == 6


def test_both_limits_hold() -> None:
    six = [TaskRun.of(alone.delay()).pk for _ in range(6)]
    for one in six[:5]:
        assert publish() == [one]
        end_by_success(claim(one))
    assert not publish()
    Start.objects.update(at=timezone.now() - timedelta(seconds=61))
    Lane.objects.update(ready_at=timezone.now())
    assert publish() == [six[5]]


def test_old_starts_are_forgotten() -> None:
    Start.objects.create(lane="x", at=timezone.now() - timedelta(minutes=2))
    Start.objects.create(lane="x", at=timezone.now())
    assert limits.forget_starts() == 1


# ---- Keys and options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["\ud800", "\x00", "\x1f", "x" * 100_000, None, {"a": [1]}, 10**400, -1, 1.5, ""])
def test_odd_keys(account: Any) -> None:
    one, two, three = called(account, account, account)
    assert publish() == [one, two]
    assert len(LiveRun.objects.get(pk=three).lane or "") < 300


def test_a_key_that_fails_fails_the_call_and_stores_nothing() -> None:
    with pytest.raises(TypeError):
        rated.delay("not a number")
    with pytest.raises(TypeError):
        current_app.send_task("probe.limited", kwargs={"no": 1})
    assert not TaskRun.objects.exists()


def test_run_again_with_a_key_that_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    [one] = called(1, task=rated)
    publish()
    end_by_failure(claim(one))
    monkeypatch.setattr(rated, "key", lambda account: 1 // 0)
    with pytest.raises(NotPossible, match="key of its limit"):
        operator_actions.run_again(run=TaskRun.objects.get(pk=one), user=None)


@pytest.mark.parametrize(
    ("rate", "parsed"),
    [("100/m", (100, 60.0)), ("5/10s", (5, 10.0)), ("1/h", (1, 3600.0)), ("7/2d", (7, 172800.0))],
)
def test_rates(rate: str, parsed: tuple[int, float]) -> None:
    assert limit_options.parsed_rate(rate) == parsed


@pytest.mark.parametrize("rate", ["", "0/m", "m", "1", "1/0s", "-1/s", "1/w", "1 / m", "99999999/s", 5, None, "1/m\n"])
def test_what_is_no_rate(rate: Any) -> None:
    with pytest.raises(ValueError, match="rate="):
        limit_options.parsed_rate(rate)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"concurrency": 0}, "concurrency=0"),
        ({"concurrency": True}, "concurrency=True"),
        ({"concurrency": "2"}, "concurrency='2'"),
        ({"rate": "fast"}, "rate='fast'"),
        ({"concurrency": 1, "key": "no"}, "no argument of the task: no"),
        ({"concurrency": 1, "key": 5}, "key=5"),
        ({"key": "account"}, "key needs concurrency or rate"),
        ({"concurrency": 1, "durable": False}, "durable=False"),
    ],
)
def test_the_check_at_start(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], text: str) -> None:
    assert not [*checks.task_limits()]
    for name in ("concurrency", "rate", "key"):
        monkeypatch.setattr(limited, name, None)
    for name, value in options.items():
        monkeypatch.setattr(limited, name, value)
    [found] = checks.task_limits()
    assert (found.id, found.is_serious()) == ("pressroom.E099", True)
    assert text in found.msg


def test_each_statement_that_ends_runs_frees_their_places() -> None:
    """No trigger does it: every run would pay for that."""
    folder = Path(sql.__file__).parent
    ending = [
        path for path in (*folder.glob("*.py"), *folder.glob("functions/*.sql"))
        if "DELETE FROM taskruns_liverun" in path.read_text()
    ]  # fmt: skip
    assert len(ending) >= 3
    silent = [path.name for path in ending if "INSERT INTO taskruns_freedplace" not in path.read_text()]
    assert silent == ["finish_and_claim.sql"]
    # It ends what it has claimed, and that has no place.
    assert "head.lane IS NULL" in functions.source("finish_and_claim")
