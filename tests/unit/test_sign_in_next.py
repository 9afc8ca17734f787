"""Where signing in and out leads: to a page of the site, and to one that is there."""

import pytest
from django.test import Client

from app.accounts.models import User

ADMIN, RIGHT = "/admin/login/", "a-long-passphrase-1"


@pytest.fixture
def boss(db: None) -> User:
    return User.objects.create_superuser("boss", "boss@example.com", RIGHT)


@pytest.mark.django_db
class TestNext:
    @pytest.mark.parametrize(
        "target",
        [
            "/nowhere/", "/admin/nowhere/", "https://evil.example/", "//evil.example/", "/\\evil.example",
            "javascript:x",
            "/accounts/profile/", "/admin/login/", "/admin/logout/", "", " ", "\x00", "/admin/\x00", "admin", "?x", "#",
            "http:///evil.example", "/%2f/evil.example", "/posts", "/admin/login/?next=/admin/login/",
        ],
    )  # fmt: skip
    def test_a_page_that_is_not_there_is_the_first_one(self, boss: User, target: str) -> None:
        for place in ("body", "query"):
            browser = Client()
            url, body = ADMIN, {"username": "boss", "password": RIGHT}
            if place == "body":
                body["next"] = target
            answer = browser.post(url, body, query_params={"next": target} if place == "query" else None)
            assert answer.status_code == 302
            assert answer["Location"] == "/admin/"
            assert browser.get(answer["Location"]).status_code == 200

    @pytest.mark.parametrize("target", ["/admin/operations/", "/admin/accounts/user/?q=x", "/api/docs/"])
    def test_a_page_that_is_there_is_where_one_comes(self, boss: User, target: str) -> None:
        browser = Client()
        answer = browser.post(ADMIN, {"username": "boss", "password": RIGHT, "next": target})
        assert answer["Location"] == target
        assert browser.get(target).status_code == 200

    @pytest.mark.parametrize("target", ["//evil.example/", "/nowhere/", "/admin/operations/"])
    def test_signing_out_leads_nowhere_else(self, boss: User, target: str) -> None:
        browser = Client()
        browser.force_login(boss)
        answer = browser.post("/admin/logout/", {"next": target})
        where = answer.headers.get("Location", "/admin/")
        assert where in ("/admin/", "/admin/operations/")

    def test_one_who_is_not_signed_in_comes_to_a_page_to_do_so(self, db: None) -> None:
        for path in ("/admin/operations/", "/admin/nowhere/", "/admin/accounts/user/"):
            answer = Client().get(path, follow=True)
            assert answer.status_code == 200
            assert answer.request["PATH_INFO"] == ADMIN
