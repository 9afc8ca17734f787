"""Errors elsewhere than under ``/api/``: a page for people, a problem document for a client that asks for JSON."""

import json
import re
from typing import Any

import pytest
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django.views.decorators.http import require_safe

from app import urls
from app.accounts.models import User
from pressroom.database.base import DatabaseWrapper

pytestmark = pytest.mark.django_db

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def raising(error: Exception) -> Any:
    def view(request: HttpRequest) -> HttpResponse:
        raise error

    return view


def unstored(request: HttpRequest) -> HttpResponse:
    """A session that the middleware will store, without its database."""
    request.session["seen"] = 1
    connection.close()
    connection.settings_dict["PORT"] = "1"
    return HttpResponse("ok")


urlpatterns = [
    path("bad/", raising(BadRequest("no"))),
    path("denied/", raising(PermissionDenied("no"))),
    path("broken/", raising(ZeroDivisionError("no"))),
    path("gone/", raising(Http404("no"))),
    path("unstored/", unstored),
    path("page/", require_safe(lambda request: HttpResponse("ok"))),
    path("form/", lambda request: HttpResponse("ok")),
    path("rows/", lambda request: HttpResponse(str(User.objects.count()))),
    *urls.urlpatterns,
]
handler400, handler403, handler404, handler500 = urls.handler400, urls.handler403, urls.handler404, urls.handler500


@pytest.fixture
def client(settings: Any) -> Client:
    settings.ROOT_URLCONF = __name__
    return Client(raise_request_exception=False)


ERRORS = [
    ("get", "/nowhere/", 404),
    ("get", "/gone/", 404),
    ("post", "/page/", 405),
    ("get", "/bad/", 400),
    ("get", "/denied/", 403),
    ("get", "/broken/", 500),
]


@pytest.mark.parametrize(("method", "url", "status"), ERRORS)
@pytest.mark.parametrize("accept", [BROWSER, "*/*", "", "text/html", "image/png", "text/html;q=x", "a" * 5000])
def test_a_browser_gets_a_page(client: Client, method: str, url: str, status: int, accept: str) -> None:
    answer = getattr(client, method)(url, headers={"accept": accept} if accept else {})
    assert answer.status_code == status
    assert answer["Content-Type"] == "text/html; charset=utf-8"
    assert answer.content.count(b"<h1>") == 1
    assert f"Error {status}".encode() in answer.content
    assert int(answer.get("Content-Length", len(answer.content))) == len(answer.content)


@pytest.mark.parametrize(("method", "url", "status"), ERRORS)
@pytest.mark.parametrize(
    "accept", ["application/json", "application/problem+json", "application/json, text/plain, */*"]
)
def test_a_client_that_asks_for_json_gets_a_problem(
    client: Client, method: str, url: str, status: int, accept: str
) -> None:
    answer = getattr(client, method)(url, headers={"accept": accept})
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert "Accept" in answer["Vary"]
    document = json.loads(answer.content)
    assert (document["status"], document["instance"]) == (status, url)


@pytest.mark.parametrize(
    ("accept", "told"), [(BROWSER, b"<h1>The form has expired</h1>"), ("application/json", b"CSRF")]
)
def test_a_form_without_its_token(settings: Any, accept: str, told: bytes) -> None:
    settings.ROOT_URLCONF = __name__
    answer = Client(enforce_csrf_checks=True).post("/form/", {"email": "a@b.kr"}, headers={"accept": accept})
    assert answer.status_code == 403
    assert told in answer.content


def test_a_405_still_says_what_is_allowed(client: Client) -> None:
    assert client.post("/page/")["Allow"] == "GET, HEAD"


def test_a_foreign_host_gets_a_page_without_its_name(client: Client) -> None:
    answer = client.get("/", headers={"host": "evil.example.com", "accept": BROWSER})
    assert answer.status_code == 400
    assert b"This request is not valid" in answer.content
    assert b"evil" not in answer.content


def test_what_is_too_large_gets_a_page(client: Client, settings: Any) -> None:
    settings.MAX_BODY_SIZE = 10
    answer = client.post("/form/", {"email": "a" * 100}, headers={"accept": BROWSER})
    assert (answer.status_code, b"That was too large" in answer.content) == (413, True)


@pytest.mark.parametrize("url", ["/rows/", "/admin/", "/admin/operations/", "/page/"])
def test_without_postgres_a_browser_gets_a_503_page(client: Client, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    client.cookies["sessionid"] = "x" * 32
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    answers = [client.get(url, headers={"accept": accept}) for accept in (BROWSER, "application/json")]
    monkeypatch.undo()
    if url == "/page/":
        assert [answer.status_code for answer in answers] == [200, 200], "it needs no database"
        return
    page, document = answers
    for answer in answers:
        assert answer.status_code == 503
        assert answer["Retry-After"] == "5"
    assert b"Back in a moment" in page.content
    assert json.loads(document.content)["detail"] == "The database does not answer."


@pytest.mark.django_db(transaction=True)
def test_the_page_says_since_when_postgres_is_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/rows/").status_code == 200
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    pages = [client.get("/rows/", headers={"accept": BROWSER}) for _ in range(2)]
    monkeypatch.undo()
    assert [page.status_code for page in pages] == [503, 503]
    told = [re.findall(rb"It has been away since [\d-]{10} [\d:]{8} [+-]\d\d:\d\d\.", page.content) for page in pages]
    assert len(told[0]) == 1
    assert told[0] == told[1]
    assert client.get("/rows/").status_code == 200
    assert DatabaseWrapper.away_since is None


def test_a_session_that_cannot_be_stored_is_a_503_too(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "PORT", connection.settings_dict["PORT"])  # what the view changes
    answer = client.get("/unstored/", headers={"accept": BROWSER})
    monkeypatch.undo()
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert b"Back in a moment" in answer.content


def test_under_api_it_is_a_problem_whatever_is_asked_for(client: Client) -> None:
    for accept in (BROWSER, "text/html"):
        answer = client.get("/api/nowhere/", headers={"accept": accept})
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
