"""The API against its own description: no 500, no answer that the description does not know, examples that hold."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import jsonschema_rs
import pytest
import schemathesis
from django.apps import apps
from django.core.management import call_command
from django.test import Client
from hypothesis import HealthCheck, given, settings
from schemathesis.core import NotSet

from app.accounts.models import User
from app.local.servers import PROJECT
from app.wsgi import application
from pressroom.enqueue.ownership import owned_by
from pressroom.models import TaskRun
from tests.support.probes import tasks

OPERATIONS = {
    found.ok().label: found.ok()
    for found in schemathesis.openapi.from_wsgi("/api/schema/?format=json", application).get_all_operations()
}


def test_is_valid_and_without_a_warning() -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file=os.devnull)


@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_has_examples_that_hold(label: str) -> None:
    """Of its request and of its answer, where they have a body of JSON."""
    operation = OPERATIONS[label]
    whole = operation.schema.raw_schema
    for what, body in bodies(operation.definition.raw):
        shown = [example["value"] for example in body.get("examples", {}).values()]
        assert shown, (
            f"{label}: no example of its {what}. Give its serializer one by "
            "@extend_schema_serializer(examples=examples(request=…, response=…)), or the view's method one by "
            "@extend_schema(examples=examples(…)); examples() is in pressroom/http/openapi.py"
        )
        schema = closed({**body["schema"], "components": whole["components"]})
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        for value in shown:
            problems = [f"{list(error.instance_path)}: {error.message}" for error in validator.iter_errors(value)]
            assert not problems, f"{label}: the example of its {what} is not what its schema says: {problems}"


@pytest.mark.parametrize("path", ["/api/auth/register/", "/api/tasks/{id}/retry/"])
def test_says_what_takes_an_idempotency_key(path: str) -> None:
    parameters = OPERATIONS[f"POST {path}"].definition.raw["parameters"]
    assert {"header"} == {one["in"] for one in parameters if one["name"] == "Idempotency-Key"}


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON bodies of an operation's request and of its successes, as OpenAPI's media type objects."""
    parts = [("request", operation.get("requestBody", {}))]
    parts += [(f"answer {code}", told) for code, told in operation["responses"].items() if code.startswith("2")]
    for what, part in parts:
        if "application/json" in part.get("content", {}):
            yield what, part["content"]["application/json"]


def closed(schema: Any) -> Any:
    """The schema, refusing members that it does not name: a field that is gone shall not stay in an example."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    inside = {name: closed(inner) for name, inner in schema.items()}
    return {"additionalProperties": False, **inside} if isinstance(schema.get("properties"), dict) else inside


@pytest.fixture
def token(db: None, anonymous: Any) -> str:
    """Of a superuser, who may ask for everything; with something there to be asked for."""
    user = User.objects.create_superuser("staff", "staff@example.com", "a-long-passphrase-1")
    if apps.is_installed("app.blog"):
        apps.get_model("blog", "Post").objects.create(author=user, title="t", slug="t", body="b")
    with owned_by(user):
        TaskRun.of(tasks.effect.delay("/dev/null", "x"))
    login = anonymous.post("/api/auth/login/", {"username": "staff", "password": "a-long-passphrase-1"})
    return str(login.json()["access"])


@pytest.mark.slow
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


def test_gunicorn_takes_every_query_that_is_described() -> None:
    """A longer one gets gunicorn's own page, which no description mentions. A character takes 12 bytes at most."""
    [most] = re.findall(r"^limit_request_line = (\d+)$", (PROJECT / "gunicorn.conf.py").read_text(), re.MULTILINE)
    paths = Client().get("/api/schema/?format=json").json()["paths"]
    operations = [(path, operation) for path, methods in paths.items() for operation in methods.values()]
    longest = {
        path: len(path)
        + sum(
            len(one["name"]) + 2 + 12 * one["schema"].get("maxLength", 20)
            for one in operation.get("parameters", ())
            if one["in"] == "query" and one["name"] != "cursor"  # the server's own, and short
        )
        for path, operation in operations
    }
    assert max(longest.values()) > 1000
    assert {path: length for path, length in longest.items() if length > int(most) - 200} == {}
