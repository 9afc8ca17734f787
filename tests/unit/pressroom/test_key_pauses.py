"""A paused key of a task starts nothing, and the task's other keys go on."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from rest_framework.test import APIClient

from app.celery import app
from pressroom import operator_actions
from pressroom.enqueue.limits import lane_of_key, read_key, sync
from pressroom.models import Held, LiveRun, Pause, Status, TaskRun
from pressroom.monitoring.queue_stats import read_ledger
from pressroom.operations.held import waits_for
from pressroom.operator_actions import NotPossible
from pressroom.sql import dispatch, ends, pauses, runs, workers
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "probe.limited_effect"
WINDOWS = {"default": 100, "emails": 100}
LONG = "x" * 100_000


@pytest.fixture(autouse=True)
def _limits() -> None:
    sync([app.tasks[NAME]])


def call(key: Any, count: int = 1) -> list[TaskRun]:
    return [TaskRun.of(tasks.limited_effect.delay("nowhere", key, number)) for number in range(count)]


def pause(key: Any, name: str = NAME, user: Any = None) -> Pause:
    return operator_actions.pause(kind="key", name=name, key=key, user=user)


def resume(key: Any, name: str = NAME) -> None:
    operator_actions.resume(kind="key", name=name, key=key, user=None)


def taken() -> set[uuid.UUID]:
    return {row.run_id for row in dispatch.take_due(WINDOWS)}


def claim(run: TaskRun) -> runs.Claim | None:
    return runs.claim(run.pk, uuid.uuid4(), workers.register("w@h", '["default"]', 1))


def test_its_runs_wait_and_those_of_other_keys_and_tasks_go_on() -> None:
    before, other = call("a"), call("b")
    plain = TaskRun.of(tasks.insert.delay("nowhere", "x"))
    pause("a")
    after = call("a")
    assert taken() == {other[0].pk, plain.pk}
    assert not taken()
    resume("a")
    assert taken() == {run.pk for run in before + after}  # two at once


def test_a_published_message_is_refused_and_its_run_waits_without_a_miss() -> None:
    [run] = call("a")
    assert taken() == {run.pk}
    pause("a")
    assert claim(run) is None
    run = TaskRun.objects.get(pk=run.pk)
    assert (run.status, run.published_at, run.misses, run.losses, run.attempt) == (Status.QUEUED, None, 0, 0, 0)
    assert not taken()
    resume("a")
    assert taken() == {run.pk}
    assert claim(run) is not None


def test_what_runs_goes_on_and_its_retry_waits() -> None:
    first, second = call("a", 2)
    assert taken() == {first.pk, second.pk}
    done, again = claim(first), claim(second)
    pause("a")
    assert done is not None
    assert again is not None
    assert ends.succeed(done, "null")
    message = runs.Message(
        second.celery_id, NAME, "default", 0, second.headers, second.body, second.properties,
        lane=lane_of_key(app.tasks[NAME], "a"),
    )  # fmt: skip
    assert ends.reschedule(again, message, runs.LOST)
    assert not taken()
    resume("a")
    assert taken() == {second.pk}


ODD = [
    None,
    "",
    "7",
    7,
    "\0",
    "\ud800",
    "é",
    "e\u0301",
    "А",
    "A",
    LONG,
    LONG + "y",
    1.5,
    True,
    [1, {"a": None}],
    "null",
]


@pytest.mark.parametrize("key", ODD, ids=lambda key: repr(key)[:20])
def test_only_the_same_key_is_paused(key: Any) -> None:
    called = {index: call(one)[0].pk for index, one in enumerate(ODD)}
    pause(key)
    index = next(index for index, one in enumerate(ODD) if type(one) is type(key) and one == key)
    assert taken() == {pk for other, pk in called.items() if other != index}
    assert LiveRun.objects.get(pk=called[index]).held == Held.IN_LANE
    with pytest.raises(NotPossible, match="is paused already"):
        pause(key)
    resume(key)
    assert taken() == {called[index]}
    with pytest.raises(NotPossible, match="is not paused"):
        resume(key)


@pytest.mark.parametrize(
    ("name", "key", "text"),
    [
        ("no.such", 1, "no task no.such"), ("\0", 1, "no task"), ("probe.effect", 1, "probe.effect has no key"),
        (NAME, object(), "cannot be a key"), (NAME, {1, object()}, "cannot be a key"),
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused(name: str, key: Any, text: str) -> None:
    with pytest.raises(NotPossible, match=text):
        pause(key, name)
    with pytest.raises(NotPossible):
        resume(key, name)
    assert not Pause.objects.exists()


def test_a_task_whose_limit_has_no_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.tasks[NAME], "key", None)
    with pytest.raises(NotPossible, match="has no key"):
        pause(1)


def test_a_key_that_is_a_function_of_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.tasks[NAME], "key", lambda path, key, number: number % 2)
    even, odd = call("a", 2)
    pause(0)
    assert taken() == {odd.pk}
    resume(0)
    assert taken() == {even.pk}


def test_pauses_of_the_key_the_task_and_the_queue_hold_until_all_are_over() -> None:
    [run] = call("a")
    taken()
    for kind, name in (("queue", "default"), ("task", NAME)):
        operator_actions.pause(kind=kind, name=name, user=None)
    pause("a")
    assert len(waits_for(run)) == 3
    operator_actions.resume(kind="queue", name="default", user=None)
    assert not taken()
    resume("a")
    assert not taken()
    operator_actions.resume(kind="task", name=NAME, user=None)
    LiveRun.objects.get(pk=run.pk)
    with connection.cursor() as cursor:  # what the relay does after half a second
        cursor.execute("UPDATE taskruns_lane SET is_ready = true")
    assert taken() == {run.pk}


def test_a_pause_that_is_rolled_back_holds_nothing() -> None:
    [run] = call("a")
    taken()
    with transaction.atomic():
        assert pauses.pause("key", NAME, None, lane_of_key(app.tasks[NAME], "a"))
        transaction.set_rollback(True)
    assert claim(run) is not None


def test_what_waits_expires_and_is_cancelled_as_ever() -> None:
    expired, cancelled, kept = call("a", 3)
    pause("a")
    taken()
    change_run(expired.pk, expires_at="2026-01-01T00:00Z")
    operator_actions.run_cancel(run=cancelled, user=None)
    assert [run.run_id for run in ends.expire()] == [expired.pk]
    assert [*LiveRun.objects.values_list("pk", flat=True)] == [kept.pk]


def test_the_figures_count_it_as_paused() -> None:
    call("a", 3)
    call("b")
    pause("a")
    taken()
    told = read_ledger()
    queue = told.queues["default"]
    assert (queue.paused, queue.held, queue.held_oldest, queue.due) == (3, 0, 0, 1)
    [one] = told.pauses
    assert (one.kind, one.name) == ("key", f'{NAME}: "a"')


def test_the_page_of_a_run_says_so() -> None:
    (run,), (other,) = call("a"), call("b")
    pause("a", user=get_user_model().objects.create_user("op", "op@example.com", "a-long-passphrase-1"))
    taken()
    [text] = waits_for(run)
    assert text.startswith("the key is paused since ")
    assert text.endswith(" by op")
    assert waits_for(other) == []


def test_a_pause_of_a_task_that_the_code_has_no_more_can_end(monkeypatch: pytest.MonkeyPatch) -> None:
    paused = pause("a")
    monkeypatch.delitem(app.tasks, NAME)
    with pytest.raises(NotPossible, match="no task"):
        resume("a")
    operator_actions.pause_end(pause=paused, user=None)
    assert not Pause.objects.exists()
    with pytest.raises(NotPossible, match="is not paused"):
        operator_actions.pause_end(pause=paused, user=None)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("7", 7), ('"7"', "7"), ("acme", "acme"), ("null", None), ('""', ""), ("NaN", "NaN"), ("é", "é"),
        ("[" * 100_000, "[" * 100_000), ('{"a": 1}', {"a": 1}), ("1e999", float("inf")),
    ],
)  # fmt: skip
def test_a_read_key(text: str, key: Any) -> None:
    assert read_key(text) == key


def test_the_command(capsys: Any) -> None:
    call_command("flow", "pause", "key", NAME, "7")
    call_command("flow", "pause", "key", NAME, '"7"')
    call_command("flow", "pause", "key", NAME, LONG)
    with pytest.raises(CommandError, match="is paused already"):
        call_command("flow", "pause", "key", NAME, "7")
    for wrong in (["key", NAME], ["queue", "emails", "7"], ["key", "probe.effect", "7"]):
        with pytest.raises(CommandError):
            call_command("flow", "pause", *wrong)
    with pytest.raises(CommandError):
        call_command("flow", "limit", "key", NAME, "--concurrency", "1")
    capsys.readouterr()
    call_command("flow", "list")
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("key")]
    assert len(told) == 3
    assert f"key  {NAME}  7  paused since" in "\n".join(told)
    assert f'key  {NAME}  "7"  paused since' in "\n".join(told)
    call_command("flow", "resume", "key", NAME, "7")
    call_command("flow", "resume", "key", NAME, LONG)
    assert Pause.objects.get().key_text == '"7"'


# ---- By API and page -----------------------------------------------------------------------------------------------


@pytest.fixture
def anna() -> Any:
    return get_user_model().objects.create_superuser("anna", "anna@example.com")


@pytest.fixture
def api(anna: Any) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(anna)
    return client


@pytest.mark.parametrize("key", [None, "", 7, "7", "\0", [1], {"a": 1}, "é", False, "null"], ids=repr)
def test_by_api(api: APIClient, key: Any) -> None:
    [run] = call(key)
    body = {"kind": "key", "name": NAME, "key": key}
    made = api.post("/api/pauses/", body, format="json")
    assert made.status_code == 201, made.content
    assert {name: made.json()[name] for name in body} == body
    assert api.get("/api/pauses/").json()["results"] == [made.json()]
    assert api.post("/api/pauses/", body, format="json").status_code == 409
    assert not taken()
    assert api.delete(made.json()["url"]).status_code == 204
    assert taken() == {run.pk}
    assert list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True)) == ["paused", "resumed"]


def test_by_api_a_key_that_json_does_not_have_is_shown_as_text(api: APIClient) -> None:
    body = f'{{"kind": "key", "name": "{NAME}", "key": 1e999}}'
    assert api.post("/api/pauses/", body, content_type="application/json").status_code == 400
    pause(float("nan"))
    assert [one["key"] for one in api.get("/api/pauses/").json()["results"]] == ["NaN"]


def test_by_api_a_long_key_is_shown_as_its_digest(api: APIClient) -> None:
    made = api.post("/api/pauses/", {"kind": "key", "name": NAME, "key": LONG}, format="json")
    assert (made.status_code, len(made.json()["key"])) == (201, 64)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kind": "key", "name": NAME}, 400), ({"kind": "queue", "name": "emails", "key": None}, 400),
        ({"kind": "task", "name": NAME, "key": 1}, 400), ({"kind": "key", "name": "probe.effect", "key": 1}, 409),
        ({"kind": "key", "name": "no.such", "key": 1}, 409), ({"kind": "key", "key": 1}, 400),
    ],
)  # fmt: skip
def test_by_api_what_is_no_key_changes_nothing(api: APIClient, body: Any, status: int) -> None:
    answer = api.post("/api/pauses/", body, format="json")
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json"), answer.content
    assert not Pause.objects.exists()


def test_on_the_overview(client: Client, anna: Any) -> None:
    client.force_login(anna)
    act, overview = "/admin/operations/flow/act/", "/admin/operations/"
    for key in ("acme", LONG):
        client.post(act, {"action": "pause", "kind": "task", "name": NAME, "key": key})
    first, second = Pause.objects.order_by("pk")
    assert (first.kind, first.key_text) == ("key", '"acme"')
    page = client.get(overview).content.decode()
    assert "key &quot;acme&quot;" in page
    assert "key with the digest" in page
    assert f'name="name" value="{second.pk}"' in page
    for paused in (first, second):
        client.post(act, {"action": "resume", "kind": "key", "name": paused.pk})
    for name in (first.pk, "", "x", "9" * 30, "-1", "\0"):
        client.post(act, {"action": "resume", "kind": "key", "name": name})
    client.post(act, {"action": "pause", "kind": "task", "name": "probe.effect", "key": "1"})
    assert not Pause.objects.exists()
    assert "has no key" in client.get(overview).content.decode()
