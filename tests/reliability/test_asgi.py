"""The site under an ASGI server: an async view that waits for a task, beside other requests and streams."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from django.conf import settings

from app.accounts.models import User
from app.accounts.sign_in.tokens import AccessToken
from pressroom.enqueue.ownership import owned_by
from pressroom.models import Status, TaskRun
from tests.reliability.test_web import LONG, STREAM, read
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.processes import Process, Stack
from tests.support.waiting import until


def uvicorn(stack: Stack) -> tuple[Process, str]:
    command = [sys.executable, "-m", "uvicorn", "tests.support.probes.asgi:application", "--port=0", "--lifespan=off"]
    process = stack.start(
        command, "Uvicorn running on", SECRET_KEY=settings.SECRET_KEY, EVENT_STREAM_LIFETIME=LONG, PGAPPNAME="asgi"
    )
    found = re.search(r"Uvicorn running on (http://127\.0\.0\.1:\d+)", process.output())
    assert found, process.output()
    return process, found[1]


def test_the_site_under_uvicorn(stack: Stack, effects: str, gate: Path) -> None:
    kim = User.objects.create_user("kim", "kim@example.com", "a-long-passphrase-1")
    bearer = {"Authorization": f"Bearer {AccessToken.for_user(kim)}"}
    stack.relay()
    stack.worker("--concurrency=4")
    process, url = uvicorn(stack)
    with ThreadPoolExecutor(3) as pool, httpx.Client(base_url=url, timeout=300) as client:
        waits = [pool.submit(client.get, "/wait/", params={"effects": effects, "gate": str(gate)}) for _ in range(3)]
        until(lambda: len(noted(effects)) == 3, "three views wait for their tasks")
        # The loop answers others meanwhile: an async probe, a sync view, an API that starts work.
        assert client.get("/readyz").status_code == 200
        assert client.get("/admin/login/").status_code == 200
        started = client.post("/start/2/", headers=bearer).json()["tasks"]
        assert len(started) == 2
        assert TaskRun.objects.get(pk=started[0]["id"]).owner_id == kim.pk
        with owned_by(kim):
            watched = TaskRun.of(tasks.hold.delay(effects, "watched", str(gate)))
        with client.stream("GET", f"/api/tasks/{watched.pk}/", headers=bearer | STREAM) as answer:
            states = read(answer)
            # The first event comes while the run lives: the stream is not read to its end first.
            assert next(states)["data"]["status"] in ("queued", "running")
            gate.touch()
            assert [state["data"]["status"] for state in states][-1] == "succeeded"
        answers = [wait.result().text.split() for wait in waits]
    for celery_id, _ in answers:
        assert TaskRun.objects.get(celery_id=celery_id).status == Status.SUCCEEDED
    assert "was never awaited" not in process.output()
    assert process.stop() in (0, -15)
