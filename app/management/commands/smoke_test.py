"""``manage.py smoke_test URL``: what ``helm test`` runs in a pod of its own."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Any

import httpx
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from app import schema

FINAL = {"succeeded", "failed", "cancelled", "expired"}


class Command(BaseCommand):
    help = "Orders a report over HTTP as a user of its own, waits for it, downloads it, and leaves nothing behind."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("url", help="of web, for example http://press-web.default.svc")
        parser.add_argument("--timeout", type=float, default=120.0, help="seconds that the report may take")

    def handle(self, *args: Any, url: str, timeout: float, **options: Any) -> None:
        """Raises CommandError, which says in a line what does not work."""
        if (why := schema.missing()) is not None:
            raise CommandError(why)
        name, password = f"smoke-test-{secrets.token_hex(4)}", secrets.token_urlsafe(16)
        user = get_user_model().objects.create_user(name, f"{name}@example.com", password)
        try:
            self._run(url.rstrip("/"), name, password, timeout)
        except httpx.HTTPStatusError as error:
            answer = error.response
            raise CommandError(
                f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
            ) from error
        except httpx.HTTPError as error:
            raise CommandError(f"{url}: {error}") from error
        finally:
            user.delete()

    def _run(self, url: str, name: str, password: str, timeout: float) -> None:
        started = time.monotonic()
        with httpx.Client(base_url=url, timeout=30.0, event_hooks={"response": [_refuse]}) as client:
            tokens = client.post("/api/auth/login/", json={"username": name, "password": password}).json()
            client.headers["Authorization"] = f"Bearer {tokens['access']}"
            order = {"type": "activity", "period": f"{datetime.now(UTC):%Y-%m}", "format": "pdf"}
            ordered = client.post("/api/reports/", json=order).json()
            task = ordered
            while task["status"] not in FINAL:
                if time.monotonic() - started > timeout:
                    raise CommandError(
                        f"the report's task is still {task['status']} after {timeout:g} s: "
                        "see the logs of relay and of the workers for reports and default"
                    )
                time.sleep(0.5)
                task = client.get(ordered["url"]).json()
            if task["status"] != "succeeded":
                raise CommandError(f"the report's task has {task['status']}: {task['error']}")
            report = client.get(ordered["report"]).json()
            file = client.get(report["download"]).content
            client.delete(ordered["report"])
        if not file.startswith(b"%PDF-"):
            raise CommandError(f"the report is no PDF: it begins with {file[:20]!r}")
        self.stdout.write(f"a report of {len(file)} bytes, made by a worker, in {time.monotonic() - started:.1f} s: ok")


def _refuse(response: httpx.Response) -> None:
    response.read()
    response.raise_for_status()
