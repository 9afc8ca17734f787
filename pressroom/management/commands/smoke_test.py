"""``manage.py smoke_test``: the test that ``helm test`` runs in a pod."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any, Literal

from celery import current_app
from django.core.management.base import BaseCommand, CommandError, CommandParser

from pressroom.checks import TAG
from pressroom.conf import declared_queues
from pressroom.database import readiness
from pressroom.models import LIVE, Status, TaskRun
from pressroom.queues import rows
from pressroom.tasks import prune

PAUSE = 0.5
"""Seconds between two looks at the run."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A project may redirect to its public address, which a pod need not reach. The redirection is an answer."""

    def redirect_request(self, *args: Any) -> None:
        return None


class Command(BaseCommand):
    help = "Runs a task through the ledger and waits for its end. With a URL, asks the web service for an answer."
    # Only Pressroom's own checks: Django's load all routes, and the migration has already run them.
    requires_system_checks: list[str] | Literal["__all__"] = [TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("url", nargs="?", default="", help="URL of the web service, for example http://press-web")
        parser.add_argument("--timeout", type=float, default=120.0, help="seconds that a task or an answer may take")
        parser.add_argument("--queues", default="", metavar="JSON", help="the chart's table, to compare with this one")

    def handle(self, *args: Any, url: str, timeout: float, queues: str, **options: Any) -> None:
        """Run the tests. Raises CommandError, which says in one line what does not work."""
        self.prepare(queues)
        started = time.monotonic()
        self._run_a_task(timeout)
        self.report("a task, run by a worker", started)
        if url:
            started = time.monotonic()
            self.report(f"{url}: {_answer(url, timeout)}", started)

    def prepare(self, queues: str) -> None:
        """Check what the tests need: stored calls, the schema, and a worker for each queue. Raises CommandError."""
        if current_app.conf.task_always_eager:
            raise CommandError("CELERY_TASK_ALWAYS_EAGER is on, so the ledger stores no call. Set it to False.")
        if (why := readiness.missing()) is not None:
            raise CommandError(why)
        if queues and (different := _differences(queues)):
            raise CommandError(
                f"the chart's table of queues is not TASKRUNS_QUEUES: {', '.join(different)}. "
                "Run `manage.py queues > queues.yaml` and `helm upgrade -f queues.yaml`."
            )

    def report(self, done: str, started: float) -> None:
        self.stdout.write(f"{done}, in {time.monotonic() - started:.1f} s: ok")

    def _run_a_task(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        key = TaskRun.of(prune.delay()).pk
        while (run := TaskRun.objects.get(pk=key)).status in LIVE:
            if time.monotonic() > deadline:
                raise CommandError(
                    f"{run.name} is still {run.status} after {timeout:g} s: "
                    f"see the logs of relay and of the worker for {run.queue}"
                )
            time.sleep(PAUSE)
        if run.status != Status.SUCCEEDED:
            raise CommandError(f"{run.name} has {run.status}: {run.error}")


def _differences(queues: str) -> list[str]:
    """Return the names of queues that are not the same in the chart's table and in the setting."""
    theirs = {row["name"]: row for row in json.loads(queues)}
    ours = {row["name"]: row for row in rows(declared_queues().values())}
    # A field that the chart's table leaves out is not set there.
    return sorted(
        name
        for name in theirs | ours
        if name not in theirs or name not in ours or ours[name] != dict.fromkeys(ours[name]) | theirs[name]
    )


def _answer(url: str, timeout: float) -> str:
    """Return what the web service answered. Raises CommandError if it did not answer, or has failed."""
    try:
        with urllib.request.build_opener(_NoRedirects).open(url, timeout=timeout) as response:
            status = response.status
    except urllib.error.HTTPError as error:
        status = error.code
    except OSError as error:
        raise CommandError(f"{url}: {error}") from error
    if status >= 500:
        raise CommandError(f"{url}: {status}")
    return f"answer {status}"
