"""Who may register, and how often strangers may subscribe."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from rest_framework.test import APIClient

from app.accounts.models import User
from app.accounts.services import user_make_author
from app.blog.models import Post
from pressroom.models import TaskRun
from tests.unit.test_accounts import NEW


class TestThrottling:
    """By address where nobody is signed in; failing open."""

    URL, BODY = "/api/subscriptions/", {"author": "author", "email": "reader@example.com"}

    @pytest.fixture(autouse=True)
    def two_a_minute(self, author: User, monkeypatch: pytest.MonkeyPatch) -> None:
        from rest_framework.throttling import ScopedRateThrottle

        Post.objects.create(author=author, title="t", slug="t", status=Post.Status.PUBLISHED)
        monkeypatch.setattr(ScopedRateThrottle, "THROTTLE_RATES", {"subscribe": "2/min"})

    def test_too_often_is_429_and_says_when(self, anonymous: APIClient, db: None) -> None:
        statuses = [anonymous.post(self.URL, self.BODY).status_code for _ in range(3)]
        assert statuses == [202, 202, 429]
        refused = anonymous.post(self.URL, self.BODY)
        assert refused["Content-Type"] == "application/problem+json"
        assert 0 < int(refused["Retry-After"]) <= 60
        elsewhere = anonymous.post(self.URL, self.BODY, REMOTE_ADDR="127.0.0.2")
        assert elsewhere.status_code == 202
        spoofed = anonymous.post(self.URL, self.BODY, HTTP_X_FORWARDED_FOR="127.0.0.3")
        assert spoofed.status_code == 429

    def test_without_redis_nobody_is_held_up(self, anonymous: APIClient, reader: User, redis_server: Any) -> None:
        redis_server.stop()
        assert {anonymous.post(self.URL, self.BODY).status_code for _ in range(4)} == {202}


@pytest.mark.django_db
class TestWhoMayRegister:
    @pytest.mark.parametrize(("registration", "publishes"), [("open", False), ("authors", True)])
    def test_a_new_user_publishes_where_the_setting_says_so(
        self, anonymous: APIClient, settings: Any, registration: str, publishes: bool
    ) -> None:
        settings.REGISTRATION = registration
        assert anonymous.post("/api/auth/register/", NEW).status_code == 201
        assert User.objects.get().has_perm("blog.add_post") is publishes

    def test_a_closed_site_takes_nobody(self, anonymous: APIClient, settings: Any) -> None:
        settings.REGISTRATION = "closed"
        answer = anonymous.post("/api/auth/register/", NEW)
        assert (answer.status_code, answer["Content-Type"]) == (403, "application/problem+json")
        assert not User.objects.exists()
        assert not TaskRun.objects.exists()

    def test_an_author_made_twice_is_one_and_a_deleted_group_comes_back(self, reader: User) -> None:
        Group.objects.all().delete()
        user_make_author(reader)
        user_make_author(reader)
        assert User.objects.get(pk=reader.pk).has_perm("blog.add_post")
        assert not User.objects.get(pk=reader.pk).has_perm("blog.change_post")

    def test_what_an_admin_took_from_the_group_stays_taken(self, reader: User) -> None:
        # Not there where a test has emptied the tables.
        Group.objects.get_or_create(name="Authors")[0].permissions.clear()
        user_make_author(reader)
        assert not User.objects.get(pk=reader.pk).has_perm("blog.add_post")
