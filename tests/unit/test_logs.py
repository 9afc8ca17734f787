"""What a log line holds, and what it never does."""

from __future__ import annotations

import json
import logging
import logging.config
import time
from typing import Any

import pytest
import structlog
from django.test import Client
from rest_framework.test import APIClient

from app.checks import external_services as checks
from app.observability.logs import FORMATS, LEVELS, logging_config
from pressroom.models import TaskRun
from tests.support.probes import tasks
from tests.unit.test_checks import ids


def test_a_line_is_one_json_object_also_with_a_traceback(lines: Any) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("app.somewhere").exception("it went %s", "wrong")
    [line] = lines()
    assert (line["event"], line["level"], line["logger"]) == ("it went wrong", "error", "app.somewhere")
    assert "two\nlines" in line["exception"]
    assert line["time"].endswith("Z")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("refused: kim.lee+x@mail.example.com (550)", "refused: ***@mail.example.com (550)"),
        ("line\nkim@example.com", "line\n***@example.com"),
        ("\u001f001fkim@example.com", "�***@example.com"),
        ("Bearer eyJhbGciOi.eyJzdWIi.c2ln-_x", "Bearer ***"),
        ("key sk_test_abc123 and whsec_abc", "key *** and ***"),
        ("at postgres://u:s3:cr=t@postgres:5432/x", "at postgres://***@postgres:5432/x"),
        ("at redis://:s3cret@redis/0", "at redis://***@redis/0"),
        ("at http://host:80/a@b", "at http://host:80/a@b"),
        ("celery@worker-1 ready.", "celery@worker-1 ready."),
        ("app.blog.tasks.reindex_post[5]", "app.blog.tasks.reindex_post[5]"),
    ],
)
def test_what_is_personal_or_secret_is_masked(lines: Any, text: str, told: str) -> None:
    logging.getLogger("app").warning(text)
    structlog.get_logger("app").warning("an event", detail=text)
    try:
        raise OSError(text)
    except OSError:
        logging.getLogger("app").exception("failed")
    plain, event, error = lines()
    assert plain["event"] == event["detail"] == told
    assert f"OSError: {told}" in error["exception"]


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


def test_values_that_no_json_has(lines: Any) -> None:
    """The line of a retry holds the exception itself, which is the task's own."""
    structlog.get_logger("app").warning(
        "odd", error=_Unspeakable(), text="caf\udce9", number=float("nan"), nested={"by": [_Unspeakable(), {1, 2}]},
        sender=ValueError("kim@example.com"),
    )  # fmt: skip
    [line] = lines()
    assert (line["event"], line["text"], line["number"], line["sender"]) == ("odd", "caf�", None, "***@example.com")
    assert "_Unspeakable" in line["error"]


def test_a_long_text_is_masked_in_time_that_grows_with_its_length(lines: Any) -> None:
    began = time.monotonic()
    for text in ("x" * 1_000_000, "://x:" * 200_000):
        logging.getLogger("app").warning(text)
    assert time.monotonic() - began < 10  # a square of it would be hours
    assert [len(line["event"]) for line in lines()] == [1_000_000] * 2


@pytest.mark.django_db
def test_a_request_is_one_line_with_its_id(lines: Any) -> None:
    answer = Client().get("/admin/login/?q=kim@example.com", headers={"X-Request-ID": "edge-1234.abc"})
    [line] = [line for line in lines() if line["event"] == "request_finished"]
    assert answer["X-Request-ID"] == line["request_id"] == "edge-1234.abc"
    assert (line["request"], line["code"]) == ("GET /admin/login/", 200)
    assert line["duration_ms"] >= 0


@pytest.mark.django_db
@pytest.mark.parametrize("given", ["", "short", "x" * 129, "with space in it", "new\nline-in-it", 'quote"inside-it'])
def test_an_id_that_is_not_sane_is_replaced(lines: Any, given: str) -> None:
    answer = Client().get("/admin/login/", headers={"X-Request-ID": given})
    [line] = [line for line in lines() if line["event"] == "request_finished"]
    assert answer["X-Request-ID"] == line["request_id"] != given
    assert len(line["request_id"]) == 36


@pytest.mark.django_db
def test_every_request_has_an_id_of_its_own() -> None:
    assert len({Client().get("/api/nothing/")["X-Request-ID"] for _ in range(3)}) == 3


@pytest.mark.urls("tests.support.probes.urls")
def test_a_failure_is_one_line_with_its_traceback(lines: Any) -> None:
    answer = Client(raise_request_exception=False).get("/broken/secret/")
    [line] = lines()
    assert (answer.status_code, line["event"], line["level"]) == (500, "request_failed", "error")
    assert answer["X-Request-ID"] == line["request_id"]
    assert line["request"] == "GET /broken/***/"
    assert "RuntimeError: a bug" in line["exception"]


@pytest.mark.django_db
@pytest.mark.urls("tests.support.probes.urls")
def test_the_id_stands_in_the_row_of_what_a_request_starts(as_author: APIClient) -> None:
    as_author.post("/start/3/", headers={"X-Request-ID": "from-the-edge"})
    carried = [json.loads(run.headers)["__django_structlog__"] for run in TaskRun.objects.all()]
    assert carried == [{"request_id": "from-the-edge"}] * 3


@pytest.mark.django_db
def test_a_call_is_a_line_at_debug_although_that_level_came_later(lines: Any) -> None:
    """As by ``celery worker -l debug``."""
    tasks.effect.delay("nowhere", "a")
    assert "task_enqueued" not in {line["event"] for line in lines()}
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    try:
        result = tasks.effect.delay("nowhere", "b")
    finally:
        root.setLevel(level)
    [line] = [line for line in lines() if line["event"] == "task_enqueued"]
    assert (line["child_task_id"], line["child_task_name"]) == (result.id, "probe.effect")


@pytest.mark.parametrize(("name", "good", "expected"), [("LOG_FORMAT", FORMATS, "E050"), ("LOG_LEVEL", LEVELS, "E051")])
def test_a_format_or_level_that_does_not_exist(settings: Any, name: str, good: tuple[str, ...], expected: str) -> None:
    for value in good:
        setattr(settings, name, value)
        assert ids(checks.log_settings()) == []
    setattr(settings, name, "loud")
    assert ids(checks.log_settings()) == [f"pressroom.{expected}"]
    logging_config("loud", "loud")
