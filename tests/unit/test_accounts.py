"""Registration, sign-in, the welcome mail."""

import datetime
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core import mail
from django.db import connection, transaction
from django.utils import timezone
from rest_framework.test import APIClient

from app.accounts.models import Limit, User
from app.accounts.tasks import cleanup_expired_tokens, send_welcome_email
from app.mail.send import MailPutOff, MailUnavailable
from pressroom.http import idempotency
from pressroom.models import IdempotencyKey, TaskRun
from tests.support.locks import waiting_for_locks
from tests.support.loopback import smtp_server
from tests.support.waiting import until

NEW = {"username": "kim", "email": "Kim@Example.com", "password": "a-long-passphrase-1"}


@pytest.mark.django_db
class TestRegister:
    def test_makes_a_user_and_the_task_of_the_welcome_mail(self, anonymous: APIClient) -> None:
        answer = anonymous.post("/api/auth/register/", NEW)
        assert answer.status_code == 201
        user = User.objects.get()
        run = TaskRun.objects.get()
        assert answer.json()["id"] == user.pk
        assert answer.json()["welcome_task"]["id"] == str(run.pk)
        assert (run.name, run.queue, run.owner) == ("app.accounts.tasks.send_welcome_email", "emails", user)
        assert run.arguments == ([user.pk], {})
        assert user.check_password(NEW["password"])
        assert "password" not in answer.json()

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"username": ""}, "#/username"),
            ({"username": "no spaces"}, "#/username"),
            ({"username": "a" * 151}, "#/username"),
            ({"username": "nul\x00"}, "#/username"),
            ({"username": "taken"}, "#/username"),
            ({"email": "nowhere"}, "#/email"),
            ({"username": "TAKEN"}, "#/username"),
            ({"username": "\uff54aken"}, "#/username"),  # full width
            ({"username": "t\u0430ken"}, "#/username"),  # a Cyrillic letter among Latin ones
            ({"username": "kim\u3164"}, "#/username"),  # a letter that shows as nothing
            ({"password": "kim"}, "#/password"),
            ({"password": "12345678901"}, "#/password"),
            ({"password": ["a-long-passphrase-1"]}, "#/password"),
        ],
    )
    def test_refuses(self, anonymous: APIClient, change: dict[str, Any], pointer: str) -> None:
        User.objects.create_user("taken", "taken@example.com", "a-long-passphrase-1")
        answer = anonymous.post("/api/auth/register/", NEW | change)
        assert answer.status_code == 400
        assert answer["Content-Type"] == "application/problem+json"
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]
        assert User.objects.count() == 1
        assert not TaskRun.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_at_once_with_one_name_are_one_user(anonymous: APIClient) -> None:
    start = threading.Barrier(8)

    def register(number: int) -> int:
        start.wait(timeout=60)
        try:
            return APIClient().post("/api/auth/register/", NEW).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(register, range(8)))
    assert statuses == [201] + [400] * 7
    assert User.objects.count() == 1
    assert TaskRun.objects.count() == 1


@pytest.mark.django_db
class TestRegisterWithAKey:
    """Nobody is signed in: an Idempotency-Key is the address's own."""

    def register(self, change: dict[str, Any] | None = None, address: str = "127.0.0.1", **headers: str) -> Any:
        headers = {"HTTP_IDEMPOTENCY_KEY": "k", "REMOTE_ADDR": address, **headers}
        return APIClient().post("/api/auth/register/", NEW | (change or {}), **headers)

    def test_a_repeat_gets_the_first_answer_and_makes_no_second_user_or_mail(self) -> None:
        first, again = self.register(), self.register()
        assert (first.status_code, "Idempotency-Replayed" in first) == (201, False)
        assert (again.status_code, again["Idempotency-Replayed"], again.content) == (201, "true", first.content)
        assert (User.objects.count(), TaskRun.objects.count()) == (1, 1)

    @pytest.mark.parametrize("change", [{"username": "lee"}, {"password": "a-long-passphrase-2"}])
    def test_another_body_is_422(self, change: dict[str, str]) -> None:
        self.register()
        assert self.register(change).status_code == 422
        assert (User.objects.count(), TaskRun.objects.count()) == (1, 1)

    def test_another_address_is_another_caller(self) -> None:
        self.register()
        other = self.register({"username": "lee", "email": "lee@example.com"}, "127.0.0.2")
        assert (other.status_code, other.json()["username"], User.objects.count()) == (201, "lee", 2)

    def test_the_address_behind_a_proxy_is_the_clients(self, settings: Any) -> None:
        settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
        self.register(HTTP_X_FORWARDED_FOR="127.0.0.8, 127.0.0.9")
        assert IdempotencyKey.objects.get().address == "127.0.0.9"
        assert "Idempotency-Replayed" in self.register(HTTP_X_FORWARDED_FOR="127.0.0.9")
        assert self.register(HTTP_X_FORWARDED_FOR="127.0.0.8").status_code == 400, "the name is taken: it ran"

    def test_after_24_hours_it_is_forgotten(self) -> None:
        self.register()
        IdempotencyKey.objects.update(created_at=timezone.now() - datetime.timedelta(hours=25))
        assert self.register().status_code == 400, "the name is taken: it ran"

    def test_what_is_stored_lets_nobody_try_passwords(self, settings: Any) -> None:
        """Without the site's secret the same request has another digest; and the answer holds no password."""
        self.register()
        kept = IdempotencyKey.objects.get()
        assert NEW["password"] not in kept.request + kept.body
        settings.SECRET_KEY = "another"
        assert self.register().status_code == 422


@pytest.mark.django_db(transaction=True)
def test_a_registration_at_work_is_409_to_its_repeat() -> None:
    def register(_: int) -> int:
        try:
            return APIClient().post("/api/auth/register/", NEW, HTTP_IDEMPOTENCY_KEY="k").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE accounts_user IN EXCLUSIVE MODE")  # reads go on, the INSERT waits
            first = pool.submit(register, 1)
            until(waiting_for_locks, "the first is at work")
            assert pool.submit(register, 2).result(timeout=60) == 409
        assert first.result(timeout=60) == 201
    assert (User.objects.count(), TaskRun.objects.count()) == (1, 1)


@pytest.mark.django_db
class TestSignIn:
    def test_login_refresh_logout(self, anonymous: APIClient, reader: User) -> None:
        login = anonymous.post("/api/auth/login/", {"username": "reader", "password": "a-long-passphrase-1"})
        assert login.status_code == 200
        anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {login.json()['access']}")
        assert anonymous.get("/api/auth/me/").json()["username"] == "reader"

        refreshed = anonymous.post("/api/auth/refresh/", {"refresh": login.json()["refresh"]})
        assert refreshed.status_code == 200
        again = anonymous.post("/api/auth/refresh/", {"refresh": login.json()["refresh"]})
        assert again.status_code == 401, "a refresh token is good for one refresh"

        newest = refreshed.json()["refresh"]
        assert anonymous.post("/api/auth/logout/", {"refresh": newest}).status_code == 200
        assert anonymous.post("/api/auth/refresh/", {"refresh": newest}).status_code == 401

    @pytest.mark.parametrize("token", ["", "x", "a.b.c"])
    def test_a_bad_token_is_401_and_says_how(self, anonymous: APIClient, token: str) -> None:
        anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        answer = anonymous.get("/api/auth/me/")
        assert answer.status_code == 401
        assert answer["Content-Type"] == "application/problem+json"
        assert answer["WWW-Authenticate"].startswith("Bearer")

    def test_a_wrong_password_is_401(self, anonymous: APIClient, reader: User) -> None:
        answer = anonymous.post("/api/auth/login/", {"username": "reader", "password": "wrong"})
        assert answer.status_code == 401


@pytest.mark.django_db
class TestWelcome:
    def test_is_sent_in_text_and_html_with_a_stable_id(self, reader: User) -> None:
        assert send_welcome_email.apply(args=[reader.pk], task_id="one").get()
        [message] = mail.outbox
        assert message.to == ["reader@example.com"]
        assert message.extra_headers["Message-ID"] == "<welcome-one@example.com>"
        assert "reader" in message.body
        assert message.alternatives[0].mimetype == "text/html"

    @pytest.mark.parametrize(
        ("reply", "retries"), [("550 no such user", False), ("450 later", True), ("421 closing", True)]
    )
    def test_is_tried_again_where_that_may_help(self, reader: User, settings: Any, reply: str, retries: bool) -> None:
        with smtp_server() as (server, port):
            settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
            settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
            server.replies = {"reader@example.com": reply}
            result = send_welcome_email.apply(args=[reader.pk], retries=send_welcome_email.max_retries)
            assert isinstance(result.result, MailPutOff | MailUnavailable) if retries else result.result is False
            server.replies = {}
            assert send_welcome_email.apply(args=[reader.pk]).get()
            assert server.recipients() == ["reader@example.com"]

    def test_is_not_sent_to_who_is_gone(self) -> None:
        assert not send_welcome_email.apply(args=[404]).get()
        assert not mail.outbox


@pytest.mark.django_db
def test_expired_tokens_are_cleaned_up_and_no_others(anonymous: APIClient, reader: User) -> None:
    from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

    for _ in range(3):
        anonymous.post("/api/auth/login/", {"username": "reader", "password": "a-long-passphrase-1"})
    Limit.objects.all().delete()
    kept, *expired = OutstandingToken.objects.all()
    OutstandingToken.objects.exclude(pk=kept.pk).update(expires_at=timezone.now())
    assert cleanup_expired_tokens.apply().get() == len(expired) == 2
    assert OutstandingToken.objects.get() == kept


@pytest.mark.django_db
def test_old_idempotency_keys_are_cleaned_up_in_batches(reader: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "BATCH", 2)
    keys = IdempotencyKey.objects.bulk_create(
        IdempotencyKey(user=reader, key=f"{number}", request="", status=202, headers={}, body="") for number in range(6)
    )
    IdempotencyKey.objects.exclude(pk=keys[3].pk).update(created_at=timezone.now() - idempotency.LIFETIME)
    assert cleanup_expired_tokens.apply().get() == 5
    assert IdempotencyKey.objects.get() == keys[3]
