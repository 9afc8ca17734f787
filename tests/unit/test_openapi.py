"""The API against its own description: no 500, and no answer that the description does not know."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
import schemathesis
from django.test import Client
from hypothesis import HealthCheck, given, settings
from schemathesis.core import NotSet

from app.accounts.models import User
from app.blog.models import Post
from app.taskruns.models import TaskRun
from app.taskruns.ownership import owned_by
from app.wsgi import application
from tests.probes import tasks

OPERATIONS = {
    found.ok().label: found.ok()
    for found in schemathesis.openapi.from_wsgi("/api/schema/?format=json", application).get_all_operations()
}


@pytest.fixture
def token(db: None, anonymous: Any) -> str:
    """Of staff, who may ask for everything; with something there to be asked for."""
    user = User.objects.create_user("staff", "staff@example.com", "a-long-passphrase-1", is_staff=True)
    Post.objects.create(author=user, title="t", slug="t", body="b")
    with owned_by(user):
        TaskRun.of(tasks.effect.delay("/dev/null", "x"))
    login = anonymous.post("/api/auth/login/", {"username": "staff", "password": "a-long-passphrase-1"})
    return str(login.json()["access"])


@pytest.mark.django_db
@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_as_described(label: str, token: str) -> None:
    @given(case=OPERATIONS[label].as_strategy())
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def ask(case: schemathesis.Case) -> None:
        answer = send(case, token)
        told = OPERATIONS[label].definition.raw["responses"]
        assert answer.status_code < 500, answer.content[:500]
        assert str(answer.status_code) in told, f"{answer.status_code} is not described"
        kinds = told[str(answer.status_code)].get("content")
        assert kinds is None or answer["Content-Type"] in kinds

    ask()


def send(case: schemathesis.Case, token: str) -> Any:
    """The made-up request, by Django's client, which stays in the test's transaction."""
    query = urlencode(case.query or {}, doseq=True)
    url = f"{case.formatted_path}?{query}" if query else case.formatted_path
    has_body = not isinstance(case.body, NotSet)
    content = json.dumps(case.body, default=str).encode() if has_body else b""
    client = Client(raise_request_exception=False)
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {token}"}
    return client.generic(case.method, url, content, "application/json", **bearer)
