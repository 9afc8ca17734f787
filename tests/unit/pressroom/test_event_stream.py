"""A run's progress as Server-Sent Events: what is sent, when it ends, and how many there are at once."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from rest_framework.test import APIClient

from app.accounts.models import User
from pressroom.enqueue.ownership import owned_by
from pressroom.http import event_stream
from pressroom.models import LiveRun, TaskRun
from pressroom.sql import runs, workers
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db

EVENTS = {"HTTP_ACCEPT": "text/event-stream"}


@pytest.fixture
def run(author: User) -> TaskRun:
    with owned_by(author):
        return TaskRun.of(tasks.effect.delay("/dev/null", "x"))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happens to the run before each further look at it, in turn; then the stream is at its end."""
    happens: list[Any] = []

    def pause(_: float) -> None:
        if not happens:
            monkeypatch.setattr(event_stream, "stopping", lambda: True)
        else:
            happens.pop(0)()

    monkeypatch.setattr(event_stream.time, "sleep", pause)
    return happens


def open_stream(client: APIClient, run: TaskRun, last: str | None = None) -> Any:
    headers = EVENTS if last is None else EVENTS | {"HTTP_LAST_EVENT_ID": last}
    return client.get(f"/api/tasks/{run.pk}/", **headers)


def events(answer: Any) -> list[dict[str, Any]]:
    """As an EventSource reads them, its data parsed; comments by the name ``""``."""
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/event-stream"
    text = b"".join(answer.streaming_content).decode()
    assert text.endswith("\n\n")
    read = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        read.append(fields | ({"data": json.loads(fields["data"])} if "data" in fields else {}))
    return read


def claim(run: TaskRun) -> runs.Claim:
    claimed = runs.claim(run.pk, uuid.uuid4(), workers.register("test@here", "[]", 1))
    assert claimed is not None
    return claimed


def column(run: TaskRun, **values: Any) -> Any:
    return lambda: change_run(run.pk, **values)


def test_each_change_is_told_once_and_the_end_ends_it(as_author: APIClient, run: TaskRun, looks: list[Any]) -> None:
    looks += [
        lambda: None,
        lambda: claim(run),
        column(run, progress_current=1, progress_total=3, progress_message="half\r\ndata: way\u2028"),
        lambda: None,
        column(run, progress_current=2),
        column(run, status="succeeded", result='{"url": "/x/"}'),
        lambda: pytest.fail("the run has ended"),
    ]
    answer = open_stream(as_author, run)
    assert answer["Cache-Control"] == "private, no-store"
    assert answer["X-Accel-Buffering"] == "no"
    first, *told = events(answer)
    assert first == {"retry": "2000"}
    assert [(event["event"], event["data"]["status"], event["data"]["progress"]["current"]) for event in told] == [
        ("status", "queued", None), ("status", "running", None), ("progress", "running", 1), ("progress", "running", 2),
        ("status", "succeeded", 2),
    ]  # fmt: skip
    assert len({event["id"] for event in told}) == 5
    assert told[-1]["data"] == as_author.get(f"/api/tasks/{run.pk}/").json()


def test_who_comes_back_hears_only_what_is_new(as_author: APIClient, run: TaskRun, looks: list[Any]) -> None:
    last = events(open_stream(as_author, run))[-1]["id"]
    event_stream.stopping = lambda: False
    looks.append(column(run, progress_current=7))
    [_, event] = events(open_stream(as_author, run, last))
    assert (event["event"], event["data"]["progress"]["current"]) == ("progress", 7)
    claim(run)
    [_, event] = events(open_stream(as_author, run, event["id"]))
    assert event["event"] == "status"


def test_an_end_that_is_known_is_204(as_author: APIClient, run: TaskRun) -> None:
    """So that an EventSource does not come back for ever."""
    change_run(run.pk, status="cancelled")
    last = events(open_stream(as_author, run))[-1]["id"]
    answer = open_stream(as_author, run, last)
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("last", ["", "x", ".", "a.b", "\x00", "\xff" * 3000, "1" * 8000])
def test_an_odd_last_id_is_as_none(as_author: APIClient, run: TaskRun, looks: list[Any], last: str) -> None:
    assert events(open_stream(as_author, run, last))[1]["event"] == "status"


def test_silence_is_filled_with_comments(
    as_author: APIClient, run: TaskRun, looks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT", 0.0)
    looks += [lambda: None] * 3
    assert [event.get("event", "") for event in events(open_stream(as_author, run))] == ["", "status", "", "", "", ""]


def test_it_lasts_as_long_as_the_setting_says(
    as_author: APIClient, run: TaskRun, looks: list[Any], settings: Any
) -> None:
    settings.TASKRUNS_EVENT_STREAM_LIFETIME = 0
    looks.append(lambda: pytest.fail("its time is over"))
    assert len(events(open_stream(as_author, run))) == 2


def test_beyond_the_bound_the_state_is_told_and_the_stream_ends(
    as_author: APIClient, run: TaskRun, settings: Any
) -> None:
    settings.TASKRUNS_EVENT_STREAMS = 2
    state = as_author.get(f"/api/tasks/{run.pk}/").json()
    held = [event_stream.events(lambda: state, lambda _: True, "") for _ in range(2)]
    for stream in held:
        next(stream)
    assert [event.get("event") for event in events(open_stream(as_author, run))] == [None, "status"]
    for stream in held:
        stream.close()
    assert event_stream._open == 0


def test_a_stream_that_nobody_reads_holds_no_place(as_author: APIClient, run: TaskRun) -> None:
    event_stream.events(lambda: None, lambda _: True, "").close()
    as_author.head(f"/api/tasks/{run.pk}/", **EVENTS)
    assert event_stream._open == 0


def test_it_ends_where_the_run_is_gone(as_author: APIClient, run: TaskRun, looks: list[Any]) -> None:
    looks.append(LiveRun.objects.filter(pk=run.pk).delete)
    assert len(events(open_stream(as_author, run))) == 2


def test_it_ends_where_postgres_gives_no_answer(as_author: APIClient, run: TaskRun, looks: list[Any]) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("away")

    with contextlib.ExitStack() as until_end:
        looks.append(lambda: until_end.enter_context(connection.execute_wrapper(away)))
        assert len(events(open_stream(as_author, run))) == 2
    assert event_stream._open == 0


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = event_stream.stopping
    yield
    event_stream.stopping = before


def test_a_foreign_run_is_not_found_and_nobody_is_401(as_reader: APIClient, anonymous: APIClient, run: TaskRun) -> None:
    for client, status in ((as_reader, 404), (anonymous, 401)):
        answer = open_stream(client, run)
        assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"), ("application/json, text/event-stream", "application/json"),
        ("text/event-stream, */*;q=0.1", "text/event-stream"), ("text/*", "text/event-stream"),
    ],
)  # fmt: skip
def test_a_stream_is_for_those_who_ask_for_one(as_author: APIClient, run: TaskRun, accept: str, kind: str) -> None:
    answer = as_author.get(f"/api/tasks/{run.pk}/", HTTP_ACCEPT=accept)
    assert answer["Content-Type"] == kind
    assert as_author.get("/api/tasks/", **EVENTS).status_code == 406


class TestReplaced:
    """A run whose place others took keeps its name and its one progress under the address that the client knows."""

    @pytest.fixture
    def successor(self, run: TaskRun, author: User) -> TaskRun:
        with owned_by(author):
            other = TaskRun.of(tasks.hold.delay("/dev/null", "x", "/dev/null"))
        change_run(run.pk, status="replaced", progress_current=4, progress_total=5)
        change_run(other.pk, celery_id=run.celery_id, status="running", progress_current=1, progress_total=1)
        return other

    def test_it_is_shown_as_it_was_called(
        self, as_author: APIClient, run: TaskRun, successor: TaskRun, looks: list[Any]
    ) -> None:
        told = as_author.get(f"/api/tasks/{run.pk}/").json()
        assert (told["name"], told["status"]) == ("probe.effect", "running")
        assert told["progress"] == {"current": 4, "total": 5, "message": ""}
        assert events(open_stream(as_author, run))[1]["data"]["name"] == "probe.effect"

    def test_the_progress_of_what_took_its_place_is_its_own_where_it_has_said_none(
        self, as_author: APIClient, run: TaskRun, successor: TaskRun
    ) -> None:
        change_run(run.pk, progress_current=None, progress_total=None)
        assert as_author.get(f"/api/tasks/{run.pk}/").json()["progress"]["total"] == 1

    def test_it_has_not_ended_while_what_took_its_place_is_still_to_come(
        self, as_author: APIClient, run: TaskRun
    ) -> None:
        change_run(run.pk, status="replaced", finished_at=timezone.now())
        told = as_author.get(f"/api/tasks/{run.pk}/").json()
        assert (told["status"], told["finished_at"]) == ("running", None)
