"""``manage.py smoke_test URL``: the test that ``helm test`` runs in a pod."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.db import transaction

from pressroom.enqueue.ownership import owned_by
from pressroom.management.commands.smoke_test import Command as LibraryCommand
from pressroom.models import TaskRun
from pressroom.plugins import parts
from pressroom.tasks import prune

FINAL = {"succeeded", "failed", "cancelled", "expired"}


class Command(LibraryCommand):
    help = "As a temporary user, run a task and follow it over HTTP, then run the tests in each app's `smoke.py`."

    requires_system_checks = "__all__"

    def handle(self, *args: Any, url: str, timeout: float, queues: str, **options: Any) -> None:
        """Run the tests and delete the user. Without a URL, run the library's test.

        Raises CommandError, which says in one line what does not work.
        """
        if not url:
            super().handle(*args, url=url, timeout=timeout, queues=queues, **options)
            return
        self.prepare(queues)
        name, password = f"smoke-test-{secrets.token_hex(4)}", secrets.token_urlsafe(16)
        user = get_user_model().objects.create_user(name, f"{name}@example.com", password)
        hooks = {"response": [_refuse]}
        try:
            with httpx.Client(base_url=url.rstrip("/"), timeout=30.0, event_hooks=hooks) as client:
                tokens = client.post("/api/auth/login/", json={"username": name, "password": password}).json()
                client.headers["Authorization"] = f"Bearer {tokens['access']}"
                self._run(client, user, timeout)
        except httpx.HTTPStatusError as error:
            answer = error.response
            raise CommandError(
                f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
            ) from error
        except httpx.HTTPError as error:
            raise CommandError(f"{url}: {error}") from error
        finally:
            user.delete()

    def _run(self, client: httpx.Client, user: Any, timeout: float) -> None:
        def follow(url: str) -> None:
            """Wait until the task at this URL has succeeded. Raises CommandError."""
            deadline = time.monotonic() + timeout
            while (task := client.get(url).json())["status"] not in FINAL:
                if time.monotonic() > deadline:
                    raise CommandError(
                        f"{task['name']} is still {task['status']} after {timeout:g} s: "
                        f"see the logs of relay and of the worker for {task['queue']}"
                    )
                time.sleep(0.5)
            if task["status"] != "succeeded":
                raise CommandError(f"{task['name']} has {task['status']}: {task['error']}")

        def task() -> str:
            with transaction.atomic(), owned_by(user):
                run = TaskRun.of(prune.delay())
            follow(f"/api/tasks/{run.pk}/")
            return "a task, run by a worker"

        tries: list[Callable[[], str]] = [task]
        tries += [partial(smoke.run, client, follow) for smoke in parts("smoke", settings.DOMAIN_APPS)]
        for try_it in tries:
            started = time.monotonic()
            self.report(try_it(), started)


def _refuse(response: httpx.Response) -> None:
    response.read()
    response.raise_for_status()
