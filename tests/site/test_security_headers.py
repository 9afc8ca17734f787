"""What every answer tells the browser, whatever it is an answer to."""

from typing import Any

import pytest
from django.core.exceptions import SuspiciousOperation
from django.http import HttpResponse
from django.test import Client, RequestFactory

from app.accounts.models import User
from app.http.security_headers import SecurityHeadersMiddleware

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
PAGES = [
    ("GET", "/", 200),
    ("GET", "/feed/", 200),
    ("GET", "/sitemap.xml", 200),
    ("GET", "/account/password/", 200),
    ("GET", "/account/password/x/", 400),
    ("GET", "/admin/login/", 200),
    ("GET", "/admin/", 302),
    ("GET", "/api/schema/", 200),
    ("GET", "/api/posts/", 200),
    ("GET", "/api/auth/me/", 401),
    ("GET", "/api/nowhere/", 404),
    ("GET", "/nowhere/", 404),
    ("GET", "/posts/nowhere/", 404),
    ("DELETE", "/", 405),
    ("POST", "/api/auth/login/", 400),
    ("GET", "/livez", 200),
    ("GET", "/static/nowhere.css", 404),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "path", "status"), PAGES)
def test_each_answer_has_them(method: str, path: str, status: int) -> None:
    answer = Client().generic(method, path)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS
    assert "camera=()" in answer["Permissions-Policy"]
    policy = dict(directive.split(" ", 1) for directive in answer["Content-Security-Policy"].split("; "))
    assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
    assert (policy["frame-ancestors"], policy["base-uri"], policy["form-action"]) == ("'none'", "'none'", "'self'")


@pytest.mark.django_db
def test_the_admins_pages_have_them_too(client: Client) -> None:
    client.force_login(User.objects.create_superuser("boss", "boss@example.com", "a-long-passphrase-1"))
    for path in ("/admin/", "/admin/operations/", "/admin/accounts/user/add/", "/admin/nowhere/"):
        assert "script-src 'self';" in client.get(path)["Content-Security-Policy"]


def test_a_body_too_large_and_an_error_have_them(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    large = client.post("/api/auth/login/", b"x" * 2_000_000, content_type="application/json")
    assert (large.status_code, large["X-Frame-Options"]) == (413, "DENY")
    client.raise_request_exception = False

    def fail(*_: Any, **__: Any) -> HttpResponse:
        raise RuntimeError

    monkeypatch.setattr("pressroom.http.health.HealthMiddleware._readiness", fail)
    assert (client.get("/readyz").status_code, "Content-Security-Policy" in client.get("/readyz")) == (500, True)

    def suspicious(*_: Any, **__: Any) -> HttpResponse:
        raise SuspiciousOperation

    monkeypatch.setattr("pressroom.http.health.HealthMiddleware._readiness", suspicious)
    assert (client.get("/readyz").status_code, "Content-Security-Policy" in client.get("/readyz")) == (400, True)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/docs/", "/api/redoc/"])
def test_a_page_with_a_policy_of_its_own_keeps_it(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer["Content-Security-Policy"].startswith("default-src 'self';")
    # Swagger UI asks to open the window of an identity provider.
    rest = {name: value for name, value in ALWAYS.items() if not name.startswith("Cross-Origin")}
    assert {name: answer.headers.get(name) for name in rest} == rest


class TestHttps:
    @pytest.fixture(autouse=True)
    def https(self, settings: Any) -> None:
        settings.HTTPS = settings.TRUST_PROXY = True
        settings.SITE_URL = "https://press.example.com"
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
        settings.SECURE_HSTS_SECONDS, settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = 31_536_000, True

    def ask(self, method: str = "GET", **headers: str) -> HttpResponse:
        answer: HttpResponse = SecurityHeadersMiddleware(lambda request: HttpResponse("there"))(
            RequestFactory().generic(method, "/a/?q=1", **headers)
        )
        return answer

    def test_the_browser_is_told_to_stay_with_it(self) -> None:
        answer = self.ask(HTTP_X_FORWARDED_PROTO="https")
        assert answer["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"

    @pytest.mark.parametrize(("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308), ("DELETE", 308)])
    def test_who_comes_by_http_is_sent_to_https_with_the_body(self, method: str, status: int) -> None:
        answer = self.ask(method, HTTP_X_FORWARDED_PROTO="http", HTTP_HOST="evil.example")
        assert (answer.status_code, answer["Location"]) == (status, "https://press.example.com/a/?q=1")

    def test_who_comes_from_within_the_cluster_is_not(self) -> None:
        assert self.ask().status_code == 200

    def test_without_a_proxy_its_header_is_nobodys(self, settings: Any) -> None:
        settings.TRUST_PROXY = False
        assert self.ask(HTTP_X_FORWARDED_PROTO="http").status_code == 200
