"""Odd values at the entrances of flow control: a clear error that changes nothing, and no process that stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from celery import chain, shared_task
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.urls import path
from django.utils import timezone
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient

from app.accounts.models import User
from app.celery import app
from pressroom import checks, operator_actions
from pressroom.beat.entry import read_schedules
from pressroom.bulk import orders
from pressroom.bulk.executor import work_once
from pressroom.enqueue import limits as limit_options
from pressroom.models import BulkAction, Limit, LiveRun, Pause, Start, TaskRun
from pressroom.operator_actions import NotPossible
from pressroom.process import user_code
from pressroom.sql import dispatch, limits
from pressroom.sql.run_filter import RunFilter
from tests.support.probes import here, tasks

pytestmark = pytest.mark.django_db(transaction=True)
LIMITED = "probe.limited_effect"


class OfAProject(BaseException):
    pass


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError


def key_of(kind: str) -> Any:
    errors = {"error": KeyError("x" * 10_000), "cancelled": asyncio.CancelledError(), "own": OfAProject()}
    if kind in errors:
        raise errors[kind]
    if kind == "exit":
        raise SystemExit(3)
    if kind == "interrupt":
        raise KeyboardInterrupt
    return {"set": {1}, "object": object(), "no name": {object(): 1}, "huge": "x" * 9_000_000}.get(kind, kind)


@shared_task(name="odd.keyed", concurrency=1, key=key_of)
def keyed(kind: str) -> str:
    return kind


@shared_task(name="odd.more", unique="until done", unique_by=("name",))
def more(name: str, **rest: Any) -> None:
    """Does nothing."""


@shared_task(name="odd.loose", durable=False)
def loose(number: int) -> None:
    """Does nothing."""


@pytest.fixture
def anna() -> User:
    return User.objects.create_superuser("anna", "anna@example.com")


@pytest.fixture
def in_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_code, "_process", {})
    user_code.no_exit()


# ---- Options of tasks and calls --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"unique": 0}, {"unique": -0.0}, {"unique": ""}, {"unique": []}, {"unique": {}}, {"unique": NoRepr()},
        {"unique": 10**5000}, {"unique": "until done\u200b"}, {"unique": "until d\u043ene"}, {"unique_by": "path"},
        {"unique_by": 5}, {"unique": False, "unique_by": "path"}, {"unique": 1, "unique_by": NoRepr()},
        {"unique": 1, "unique_by": [NoRepr()]}, {"unique": 1, "unique_by": ["\ud800" * 10_000]},
    ],
    ids=range(15),
)  # fmt: skip
def test_what_cannot_make_a_call_unique_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unique") as refused:
        tasks.effect.apply_async(("/dev/null", "x"), **options)
    assert len(str(refused.value)) < 1_000
    str(refused.value).encode()
    assert not TaskRun.objects.exists()


def test_the_calls_of_a_task_with_any_arguments_are_told_apart() -> None:
    assert more.delay("a", b=1).id == more.delay("a", b=2).id
    with pytest.raises(ValueError, match="no argument of the task: rest"):
        more.apply_async(("a",), unique_by="rest")
    by_more = [more.apply_async(("x",), {"b": number}, unique_by="b").id for number in (1, 2)]
    assert len(set(by_more)) == 2


def test_a_call_keeps_the_arguments_of_its_task_by_which_it_is_unique() -> None:
    first = more.apply_async(("a",), {"b": 1}, unique="while waiting")
    assert more.apply_async(("a",), {"b": 2}, unique="while waiting").id == first.id


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"concurrency": 10**5000}, "concurrency=<no repr: ValueError of int>"),
        ({"concurrency": NoRepr()}, "concurrency=<no repr"), ({"concurrency": 1.0}, "concurrency=1.0"),
        ({"rate": NoRepr()}, "rate=a NoRepr"), ({"rate": "１/m"}, "rate="), ({"rate": "1/m\x00"}, "rate="),
        ({"concurrency": 1, "key": NoRepr()}, "key=<no repr"), ({"concurrency": 1, "key": ""}, "no argument"),
        ({"concurrency": 1, "key": "\ud800" * 1_000}, "no argument"), ({"unique": NoRepr()}, "unique=<no repr"),
        ({"unique": 0}, "unique=0"), ({"unique": False}, "unique=False"),
        ({"unique": 1, "unique_by": {1}}, "unique_by="),
    ],
)  # fmt: skip
def test_the_check_at_start_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], text: str
) -> None:
    task = app.tasks[LIMITED]
    for name in ("concurrency", "rate", "key", "unique", "unique_by"):
        monkeypatch.setattr(task, name, options.get(name))
    [found] = [one for one in (*checks.task_limits(), *checks.task_unique_calls()) if LIMITED in one.msg]
    assert text in found.msg
    assert len(found.msg) < 500


@pytest.mark.parametrize("kind", ["error", "cancelled", "own", "exit", "set", "object", "no name", "huge"])
def test_a_key_that_fails_is_an_error_of_the_call(kind: str) -> None:
    with pytest.raises(Exception, match=r"x{100}|odd\.keyed"):  # and no BaseException
        keyed.delay(kind)
    assert not TaskRun.objects.exists()


@api_view(["POST"])
@authentication_classes([])
@permission_classes([])
def ask(request: Request, kind: str) -> Response:
    return Response({"id": keyed.delay(kind).id})


urlpatterns = [path("ask/<kind>/", ask)]


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("kind", ["error", "exit", "own", "cancelled"])
def test_a_view_whose_call_has_such_a_key_answers_500_as_for_any_other_error(kind: str) -> None:
    client = APIClient(raise_request_exception=False)
    assert client.post(f"/ask/{kind}/").status_code == 500
    assert not TaskRun.objects.exists()
    assert client.post("/ask/fine/").status_code == 200


@pytest.mark.urls(__name__)
def test_ctrl_c_in_a_key_still_ends_the_process() -> None:
    with pytest.raises(KeyboardInterrupt):
        APIClient(raise_request_exception=False).post("/ask/interrupt/")


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
@pytest.mark.parametrize("kind", ["error", "own", "exit", "set"])
def test_a_key_that_fails_within_a_worker_makes_a_dead_letter_that_says_so(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    last = chain(tasks.effect.si("/dev/null", "x"), keyed.si(kind)).apply_async()
    [first] = TaskRun.objects.all()
    run = here.execute(first)
    assert run.status == "dead"
    assert "x" * 100 in run.error or "odd.keyed" in run.error
    assert last.state == "FAILURE"


def test_a_call_that_is_not_durable_waits_for_its_queues_limit(settings: Any) -> None:
    loose.delay(1)
    assert not TaskRun.objects.exists()
    queues = {queue.name: queue for queue in settings.TASKRUNS_QUEUES}
    limited = type(queues["default"])("default", "prefork", 2, 60, 90, max_attempts=5, max_wait=60, most_at_once=1)
    settings.TASKRUNS_QUEUES = [*(queues | {"default": limited}).values()]
    assert LiveRun.objects.get(pk=TaskRun.of(loose.delay(2)).pk).lane is not None


# ---- Pauses and limits -----------------------------------------------------------------------------------------------


def test_a_task_whose_calls_are_not_stored_cannot_be_paused() -> None:
    with pytest.raises(NotPossible, match="not stored"):
        operator_actions.pause(kind="task", name="odd.loose", user=None)


@pytest.mark.parametrize("key", ["\ud800", "\x00", "\u202e\u200b", "\x85\x9b", None, 0, True, 1e308, {"a": ["\udfff"]}])
def test_whoever_pauses_an_odd_key_is_recorded(anna: User, key: Any) -> None:
    operator_actions.pause(kind="key", name=LIMITED, key=key, user=anna)
    operator_actions.resume(kind="key", name=LIMITED, key=key, user=anna)
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == ["paused", "resumed"]


@pytest.mark.parametrize(
    "act",
    [
        lambda name: operator_actions.pause(kind="task", name=name, user=None),
        lambda name: operator_actions.pause(kind="key", name=name, key=1, user=None),
        lambda name: operator_actions.resume(kind=name, name=name, user=None),
        lambda name: operator_actions.resume(kind="key", name=name, key=1, user=None),
        lambda name: operator_actions.limit_set(kind=name, name=name, concurrency=1, user=None),
        lambda name: operator_actions.limit_reset(kind="queue", name=name, user=None),
    ],
)
@pytest.mark.parametrize(
    "name", ["x" * 1_000_000, "\ud800", "\x00", "%", "'\"", "prоbe.limited_effect", "emails\u200b"]
)
def test_what_does_not_exist_is_refused_in_few_words(act: Callable[[str], Any], name: str) -> None:
    with pytest.raises(NotPossible) as refused:
        act(name)
    assert len(str(refused.value)) < 700


def test_a_paused_key_that_is_long_holds_all_its_runs() -> None:
    limits.sync(limit_options.limits_of([keyed]))
    with transaction.atomic():
        for _ in range(300):
            keyed.delay("9" * 1_000)
    operator_actions.pause(kind="key", name="odd.keyed", key="9" * 1_000, user=None)
    assert not dispatch.take_due({"default": 100})
    operator_actions.resume(kind="key", name="odd.keyed", key="9" * 1_000, user=None)
    assert len(dispatch.take_due({"default": 100})) == 1


def test_two_who_change_parts_of_a_limit_at_the_same_time_change_both(anna: User) -> None:
    limits.sync(limit_options.limits_of([keyed]))
    begun, errors = threading.Event(), []

    def change() -> None:
        try:
            begun.set()
            operator_actions.limit_set(kind="task", name="odd.keyed", rate="7/m", user=anna)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    other = threading.Thread(target=change)
    with transaction.atomic():
        operator_actions.limit_set(kind="task", name="odd.keyed", concurrency=9, user=anna)
        other.start()
        assert begun.wait(60)
    other.join(60)
    assert (errors, Limit.objects.get(name="odd.keyed").in_force) == ([], "9 at once, 7/m")


def test_a_pause_that_is_over_when_somebody_pauses_again_is_no_error(
    anna: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the refused insert and the look at the pause that stands, it was resumed."""
    monkeypatch.setattr("pressroom.sql.pauses.pause", lambda *_: False)
    with pytest.raises(NotPossible, match="The queue emails is paused already"):
        operator_actions.pause(kind="queue", name="emails", user=anna)


def test_a_rate_by_the_day_keeps_no_starts_of_other_limits() -> None:
    limits.sync([limits.Limit("task", "slow", None, 5, 86400.0), limits.Limit("queue", "fast", None, 5, 1.0)])
    operator_actions.limit_set(kind="task", name="slow", rate="5/s", user=None)
    hour_ago = timezone.now() - timezone.timedelta(hours=1)
    for lane in ("slow\x1f7", "slow\x1f", "\x1ffast", "\x1fgone", "gone\x1f", "\x1fslow", "\x1f"):
        Start.objects.create(lane=lane, at=hour_ago)
    kept = Start.objects.create(lane="\x1ffast", at=timezone.now())
    assert limits.forget_starts() == 5
    assert set(Start.objects.values_list("lane", flat=True)) == {"slow\x1f7", "slow\x1f", kept.lane}


def test_a_schedule_whose_option_can_not_be_is_found_before_it_is_due(settings: Any) -> None:
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    every = IntervalSchedule.objects.create(every=60, period="seconds")
    for name, options in (("a", {"unique": "for ever"}), ("b", {"unique_by": ["path"]}), ("c", {"unique": 60})):
        PeriodicTask.objects.create(name=name, task="probe.effect", interval=every)
        settings.CELERY_BEAT_SCHEDULE = settings.CELERY_BEAT_SCHEDULE | {name: {"options": options}}
    found = {read.name: read.error for read in read_schedules(PeriodicTask.objects.filter(name__in="abc"), app)}
    assert "unique='for ever'" in str(found["a"])
    assert "unique_by needs unique" in str(found["b"])
    assert found["c"] is None


# ---- Bulk actions ----------------------------------------------------------------------------------------------------


def finished(action: BulkAction) -> BulkAction:
    for _ in range(10):
        work_once()
    action.refresh_from_db()
    return action


def test_an_order_whose_account_is_gone_is_carried_out_and_stops_no_other(anna: User) -> None:
    """The account was deleted while its order was written: no constraint keeps its key."""
    first, second = (TaskRun.of(tasks.effect.apply_async(("/dev/null", "x"), queue=q)) for q in ("default", "emails"))
    gone = orders.order(kind="cancel", wanted=RunFilter(queue="default"), user=None)
    BulkAction.objects.filter(pk=gone.pk).update(by_id=987_654_321)
    other = orders.order(kind="cancel", wanted=RunFilter(queue="emails"), user=anna)
    assert (finished(gone).state, finished(other).state) == ("done", "done")
    assert not LiveRun.objects.filter(pk__in=[first.pk, second.pk]).exists()


@pytest.mark.parametrize("change", [{"filter": []}, {"filter": {"names": [1]}}, {"filter": {"since": 5}},
                                    {"filter": {"since": "x"}}, {"filter": {"owner_id": "1"}}, {"kind": "explode"},
                                    {"filter": {"names": "probe.effect"}}, {"filter": "all"}])  # fmt: skip
def test_an_order_of_a_later_release_changes_nothing(anna: User, change: dict[str, Any]) -> None:
    TaskRun.of(tasks.effect.delay("/dev/null", "x"))
    action = orders.order(kind="cancel", wanted=RunFilter(queue="default"), user=anna)
    BulkAction.objects.filter(pk=action.pk).update(**change)
    action = finished(action)
    assert (action.state, action.done, LiveRun.objects.count()) == ("failed", 0, 1)
    assert LogEntry.objects.order_by("-pk")[0].change_message.startswith("failed: ")


@pytest.mark.parametrize("kind", ["error", "exit", "own"])
def test_a_key_that_fails_skips_its_run_alone(
    anna: User, monkeypatch: pytest.MonkeyPatch, kind: str, in_relay: None
) -> None:
    bad, good = TaskRun.of(keyed.delay("a")), TaskRun.of(keyed.delay("b"))
    monkeypatch.setattr(keyed, "key", lambda name: key_of(kind if name == "a" else name))
    action = finished(orders.order(kind="move", wanted=RunFilter(names=("odd.keyed",)), user=anna, priority=5))
    assert (action.state, action.done, action.skipped) == ("done", 1, 1)
    assert all(len(reason) <= 400 for reason in action.reasons)
    assert {run.pk: run.priority for run in LiveRun.objects.all()} == {bad.pk: 0, good.pk: 5}
    if kind == "error":
        with pytest.raises(NotPossible, match="key of its limit") as refused:
            operator_actions.run_move(run=bad, user=anna, priority=9)
        assert len(str(refused.value)) < 500


def test_an_action_that_loses_its_connection_each_time_holds_up_no_other(
    anna: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed.delay("a")
    odd = orders.order(kind="move", wanted=RunFilter(names=("odd.keyed",)), user=anna, priority=5)
    good = orders.order(kind="cancel", wanted=RunFilter(queue="emails"), user=anna)

    def closes(name: str) -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return name

    monkeypatch.setattr(keyed, "key", closes)
    for _ in range(6):
        with suppress(Exception):
            work_once()
    good.refresh_from_db()
    odd.refresh_from_db()
    assert (good.state, odd.done, LiveRun.objects.get().priority) == ("done", 0, 0)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("cancel", RunFilter(status="succeeded")), ("discard", RunFilter(status="queued")),
     ("run-now", RunFilter(status="running")), ("run-again", RunFilter(status="held")),
     ("move", RunFilter(result="x")), ("discard", RunFilter(status="later"))],
)  # fmt: skip
def test_what_can_match_nothing_is_refused(anna: User, kind: str, wanted: RunFilter) -> None:
    target = {"priority": 1} if kind == "move" else {}
    with pytest.raises(ValueError, match="changes only runs that are"):
        orders.order(kind=kind, wanted=wanted, user=anna, **target)
    assert not BulkAction.objects.exists()


def test_who_ordered_an_action_and_how_it_ended_is_recorded_once_each(anna: User) -> None:
    with transaction.atomic():
        for number in range(20):
            tasks.effect.delay("/dev/null", str(number))
    finished(orders.order(kind="cancel", wanted=RunFilter(queue="default"), user=anna))
    log = list(LogEntry.objects.order_by("pk").values_list("user", "change_message"))
    assert log == [(anna.pk, "ordered: Cancel: queue default"),
                   (anna.pk, "cancelled, or asked to stop: 20 changed")]  # fmt: skip


# ---- Commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("flow", "pause", "queue", "\udcff"), ("flow", "resume", "queue", "\udcff"), ("flow", "pause", "key", LIMITED),
        ("flow", "limit", "queue", "\udcff", "--concurrency", "1"), ("flow", "reset", "task", "\udcff"),
        ("flow", "limit", "task", LIMITED, "--concurrency", "0"),
        ("flow", "limit", "task", LIMITED, "--rate", "\udcff"),
        ("flow", "limit", "task", LIMITED, "--concurrency", "9" * 5_000), ("flow", "limit", "task", LIMITED),
        ("flow", "pause", "queue", "emails", "7"), ("flow", "pause", "task", "odd.loose"),
        ("flow", "pause", "key", LIMITED, "x" * 9_000_000), ("tasks", "cancel", "--name", "\udcff"),
        ("tasks", "cancel", "--name", "x", "--to-queue", "emails"),
        ("tasks", "count", "--name", "x", "--to-priority", "5"),
        ("tasks", "discard", "--status", "queued"),
        ("tasks", "cancel", "--since", "2026-01-02", "--until", "2026-01-01"),
        ("deadletters", "list", "--limit", "-1"), ("deadletters", "list", "--limit", "9" * 30),
        ("deadletters", "list", "--queue", "\udcff"), ("deadletters", "retry", "--all", "--name", "\udcff"),
        ("deadletters", "discard", "--all", "--error", "\udcff"),
    ],
    ids=lambda arguments: " ".join(arguments)[:40].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_a_wrong_command_says_so_and_changes_nothing(arguments: tuple[str, ...]) -> None:
    limits.sync(limit_options.limits_of([app.tasks[LIMITED]]))
    with pytest.raises(CommandError):
        call_command(*arguments)
    assert not Pause.objects.exists()
    assert not BulkAction.objects.exists()
    assert Limit.objects.get().set_at is None
