"""What becomes of an account that is deleted, and of all that was its own."""

import pytest
from django.apps import apps
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog.models import Post, Subscriber, Subscription
from app.blog.subscriptions.services import subscriptions_add
from app.erasure import erase
from app.payments.models import Order
from app.reports.models import Report
from pressroom.models import IdempotencyKey, TaskRun
from tests.unit.conftest import client_of
from tests.unit.test_account_life import AUTH, DELETE, EMAIL, ME, PASSWORD, can_sign_in, links


@pytest.fixture
def busy(author: User) -> User:
    """Somebody with something of each kind."""
    User.objects.filter(pk=author.pk).update(email_verified_at=timezone.now())
    author.refresh_from_db()
    me = client_of(author)
    post = me.post("/api/posts/", {"title": "Mine", "body": "Text"}).json()
    me.post("/api/posts/", {"title": "A draft", "body": "Text"})
    assert me.post(f"/api/posts/{post['id']}/publish/", HTTP_IDEMPOTENCY_KEY="k").status_code == 200
    body = {"type": "activity", "period": "2026-01", "format": "csv"}
    assert me.post("/api/reports/", body).status_code == 202
    Order.objects.create(owner=author, plan="plan", amount=100, currency="krw")
    subscriptions_add(author=author, emails=["Author@example.com"])
    return author


@pytest.mark.django_db
class TestDeletedAccount:
    def test_leaves_nothing_that_is_personal(self, busy: User) -> None:
        me = client_of(busy)
        runs = list(TaskRun.objects.filter(owner=busy).values_list("pk", flat=True))
        assert runs
        assert me.post(DELETE, {"password": PASSWORD}).status_code == 204
        assert me.get(ME).status_code == 401
        assert not can_sign_in(PASSWORD, "author")
        assert not [
            model for model in (Post, Report, Subscriber, Subscription, IdempotencyKey) if model.objects.exists()
        ]
        assert TaskRun.objects.filter(pk__in=runs, owner=None).count() == len(runs)
        gone = User.objects.get(pk=busy.pk)
        assert gone.username.startswith(f"deleted-{busy.pk}-")
        assert (gone.email, gone.first_name, gone.is_active, gone.has_usable_password()) == ("", "", False, False)
        assert not gone.groups.exists()
        assert Order.objects.get().owner == gone, "accounts must be kept"
        names = set(TaskRun.objects.filter(status="queued").values_list("name", flat=True))
        assert {"app.blog.tasks.reindex_post", "app.blog.tasks.invalidate_caches"} <= names

    def test_its_name_is_free_again_and_the_feed_forgets_it(self, busy: User, client: Client) -> None:
        assert b"Mine" in client.get("/").content
        erase(busy)
        assert b"Mine" not in client.get("/").content
        new = {"username": "author", "email": "author@example.com", "password": PASSWORD}
        assert APIClient().post(f"{AUTH}register/", new).status_code == 201

    def test_each_row_that_points_to_a_user_is_known_here(self, busy: User) -> None:
        """A model that an app gets later must say what becomes of its rows."""
        stay = {"payments.Order", "admin.LogEntry", "operations.LogEntry"}
        client_of(busy)
        erase(busy)
        links = [
            (model, field.name)
            for model in apps.get_models()
            for field in model._meta.get_fields(include_hidden=True)
            if field.concrete and field.related_model is User and (field.many_to_one or field.one_to_one)
        ]
        assert len(links) > 8
        left = {m._meta.label for m, name in links if m._default_manager.filter(**{name: busy.pk}).exists()}
        assert left <= stay, left - stay

    def test_an_address_that_was_only_claimed_keeps_its_subscription(self, reader: User) -> None:
        Subscriber.objects.create(email="reader@example.com")
        client_of(reader).post(DELETE, {"password": PASSWORD})
        assert Subscriber.objects.exists()

    def test_needs_the_password_and_is_not_for_staff(self, reader: User) -> None:
        assert client_of(reader).post(DELETE, {"password": "wrong"}).status_code == 400
        staff = User.objects.create_user("staff", "staff@example.com", PASSWORD, is_staff=True)
        assert client_of(staff).post(DELETE, {"password": PASSWORD}).status_code == 403
        assert User.objects.filter(is_active=True).count() == 2

    def test_in_the_admin_it_is_the_same_though_there_are_orders(self, busy: User, client: Client) -> None:
        client.force_login(User.objects.create_superuser("boss", "boss@example.com", PASSWORD))
        asked = client.get(f"/admin/accounts/user/{busy.pk}/delete/")
        assert b"orders and task runs stay" in asked.content
        assert client.post(f"/admin/accounts/user/{busy.pk}/delete/", {"post": "yes"}).status_code == 302
        assert not Post.objects.exists()
        assert User.objects.get(pk=busy.pk).username.startswith("deleted-")

    def test_mails_under_way_do_not_reach_it(self, reader: User) -> None:
        client_of(reader).post(EMAIL, {"email": "new@example.com", "password": PASSWORD})
        erase(reader)
        assert links() == []

    def test_twice_is_once(self, reader: User) -> None:
        erase(reader)
        erase(User.objects.get(pk=reader.pk))
        assert User.objects.count() == 1
