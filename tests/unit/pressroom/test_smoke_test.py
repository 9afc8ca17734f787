"""The library's ``manage.py smoke_test`` and ``manage.py queues``, as far as they need no worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from threading import Thread
from typing import Any

import pytest
import yaml
from celery import current_app
from django.core.management import CommandError, call_command

from pressroom.management.commands import queues as queues_command
from pressroom.management.commands import smoke_test
from pressroom.queues import Queue, rows

DEFAULT = Queue("default", "prefork", 2, 300, 360, max_attempts=5, max_wait=60)
MAILS = Queue("mails", "gevent", 100, None, 60, max_attempts=5, max_wait=60, most_at_once=5, rate="100/m")


def test_queues_are_printed_as_values(settings: Any) -> None:
    settings.TASKRUNS_QUEUES = [DEFAULT, MAILS]
    told = StringIO()
    call_command(queues_command.Command(), stdout=told)
    assert yaml.safe_load(told.getvalue()) == {"queues": rows([DEFAULT, MAILS])}
    assert len(told.getvalue().splitlines()) == 3


@pytest.mark.parametrize(
    ("theirs", "different"),
    [
        ([DEFAULT], "mails"),
        ([DEFAULT, MAILS, Queue("old", "solo", 1, None, None, max_attempts=1, max_wait=1)], "old"),
        ([DEFAULT, Queue("mails", "gevent", 100, None, 90, max_attempts=5, max_wait=60)], "mails"),
    ],
)
def test_another_table_than_the_charts_is_an_error(
    theirs: list[Queue], different: str, settings: Any, db: None
) -> None:
    settings.TASKRUNS_QUEUES = [DEFAULT, MAILS]
    with pytest.raises(CommandError, match=rf"is not TASKRUNS_QUEUES: {different}\. Run `manage.py queues"):
        smoke_test.Command().prepare(json.dumps(rows(theirs)))
    smoke_test.Command().prepare(json.dumps(rows([MAILS, DEFAULT])))
    smoke_test.Command().prepare("")


def test_eager_tasks_are_an_error(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_app.conf, "task_always_eager", True)
    with pytest.raises(CommandError, match="CELERY_TASK_ALWAYS_EAGER is on"):
        call_command(smoke_test.Command())


@pytest.fixture
def web() -> Iterator[str]:
    """A web service whose path is the status that it answers. A redirection leads nowhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:]))
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_web_answers_or_it_is_said(web: str) -> None:
    for status in (200, 302, 400, 404):
        assert smoke_test._answer(f"{web}/{status}", 30.0) == f"answer {status}"
    with pytest.raises(CommandError, match="/503: 503"):
        smoke_test._answer(f"{web}/503", 30.0)
    with pytest.raises(CommandError, match=r"http://127\.0\.0\.1:1: .*refused"):
        smoke_test._answer("http://127.0.0.1:1", 30.0)
