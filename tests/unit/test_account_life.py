"""Passwords forgotten and changed, addresses confirmed and changed: by the API and by the pages."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.conf import settings as site
from django.core import mail
from django.db import connections
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from app.accounts import tasks
from app.accounts.models import User
from app.accounts.sign_in.limits import Limit
from pressroom.models import TaskRun
from tests.support.ledger_rows import change_run
from tests.unit.conftest import client_of

PASSWORD, NEW = "a-long-passphrase-1", "another-passphrase-2"
AUTH = "/api/auth/"
FORGOTTEN, RESET, CHANGE = f"{AUTH}password/forgotten/", f"{AUTH}password/reset/", f"{AUTH}password/change/"
EMAIL, CONFIRM, DELETE, ME = f"{AUTH}email/change/", f"{AUTH}email/confirm/", f"{AUTH}delete/", f"{AUTH}me/"


@pytest.fixture
def verified(reader: User) -> User:
    User.objects.filter(pk=reader.pk).update(email_verified_at=timezone.now())
    reader.refresh_from_db()
    return reader


def work() -> None:
    """Do what a worker would: each waiting mail."""
    for run in TaskRun.objects.filter(status="queued", queue="emails").order_by("id"):
        args, kwargs = run.arguments
        getattr(tasks, run.name.rpartition(".")[2]).apply(args=args, kwargs=kwargs, task_id=str(run.pk))
        change_run(run.pk, status="succeeded")


def links(to: str | None = None) -> list[str]:
    """The paths that all mails sent link to, the newest last."""
    work()
    found = []
    for message in mail.outbox:
        if to in (None, message.to[0]):
            found += re.findall(rf"{re.escape(site.SITE_URL)}(/account/\S+/)", str(message.body))
    return found


def token_of(link: str) -> str:
    return link.rstrip("/").rpartition("/")[2]


def can_sign_in(password: str, username: str = "reader") -> bool:
    answer = APIClient().post(f"{AUTH}login/", {"username": username, "password": password})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


@pytest.mark.django_db
class TestForgottenPassword:
    def test_from_the_mail_to_a_new_password(self, verified: User, client: Client) -> None:
        old = client_of(verified)
        assert b'href="/account/password/"' in client.get("/admin/login/").content
        assert client.get("/account/password/").status_code == 200
        asked = client.post("/account/password/", {"email": "READER@example.com"})
        assert b"Check your mail" in asked.content
        [link] = links("reader@example.com")
        page = client.get(link)
        assert b"Set a new password for reader" in page.content
        assert page["Cache-Control"].startswith("max-age=0") or "no-store" in page["Cache-Control"]
        done = client.post(link, {"new_password1": NEW, "new_password2": NEW})
        assert b"Your password is set" in done.content
        assert (can_sign_in(NEW), can_sign_in(PASSWORD)) == (True, False)
        assert old.get(ME).status_code == 401, "signed out everywhere"
        assert client.get(link).status_code == client.post(link, {"new_password1": NEW}).status_code == 400
        work()
        assert mail.outbox[-1].subject == "Your password was changed"

    def test_at_the_api(self, verified: User, anonymous: APIClient) -> None:
        assert anonymous.post(FORGOTTEN, {"email": "reader@example.com"}).status_code == 202
        token = token_of(links()[-1])
        assert anonymous.post(RESET, {"token": token, "new_password": "short"}).status_code == 400
        assert anonymous.post(RESET, {"token": token, "new_password": NEW}).status_code == 204
        again = anonymous.post(RESET, {"token": token, "new_password": "yet-another-passphrase"})
        assert (again.status_code, again.json()["errors"][0]["pointer"]) == (400, "#/token")
        assert can_sign_in(NEW)

    @pytest.mark.parametrize(
        "meanwhile",
        ["password", "the same password", "email", "signed out", "inactive", "an hour", "another link", "secret"],
    )
    def test_a_link_ends_with_what_it_was_made_for(
        self, verified: User, anonymous: APIClient, settings: Any, meanwhile: str
    ) -> None:
        anonymous.post(FORGOTTEN, {"email": "reader@example.com"})
        token = token_of(links()[-1])
        now = timezone.now()
        if meanwhile in ("password", "the same password"):
            verified.set_password(NEW if meanwhile == "password" else PASSWORD)
            verified.save()
        elif meanwhile == "email":
            User.objects.update(email="other@example.com")
        elif meanwhile == "signed out":
            client_of(verified).post(f"{AUTH}logout/everywhere/")
        elif meanwhile == "inactive":
            User.objects.update(is_active=False)
        elif meanwhile == "an hour":
            now += timedelta(seconds=3_601)
        elif meanwhile == "another link":
            anonymous.post(FORGOTTEN, {"email": "reader@example.com"})
            assert anonymous.post(RESET, {"token": token_of(links()[-1]), "new_password": NEW}).status_code == 204
        else:
            settings.SECRET_KEY = "another"
        before = User.objects.get().password
        with time_machine.travel(now, tick=True):
            assert anonymous.post(RESET, {"token": token, "new_password": "a-third-passphrase"}).status_code == 400
        assert User.objects.get().password == before

    @pytest.mark.parametrize("token", ["x", "a:b:c", "é", "\u202e", ":" * 50, "a" * 2_000, "{}", "null", "..", "%00"])
    def test_what_is_no_link_is_400_everywhere(
        self, anonymous: APIClient, client: Client, db: None, token: str
    ) -> None:
        for url in (RESET, CONFIRM):
            assert anonymous.post(url, {"token": token, "new_password": NEW}).status_code == 400
        for path in ("password", "email"):
            for answer in (client.get(f"/account/{path}/{token}/"), client.post(f"/account/{path}/{token}/")):
                assert answer.status_code in (301, 400, 404)  # ".." is another path

    def test_a_link_for_one_thing_is_none_for_another(self, verified: User, anonymous: APIClient) -> None:
        anonymous.post(FORGOTTEN, {"email": "reader@example.com"})
        client_of(verified).post(EMAIL, {"email": "new@example.com", "password": PASSWORD})
        reset, confirm = map(token_of, links())
        assert anonymous.post(CONFIRM, {"token": reset}).status_code == 400
        assert anonymous.post(RESET, {"token": confirm, "new_password": NEW}).status_code == 400

    def test_the_answer_does_not_tell_whether_an_address_is_known(
        self, verified: User, anonymous: APIClient, client: Client, django_assert_num_queries: Any
    ) -> None:
        seen = []
        for address in ("reader@example.com", "nobody@example.com"):
            with django_assert_num_queries(8, exact=False):
                answer = anonymous.post(FORGOTTEN, {"email": address})
            page = client.post("/account/password/", {"email": address})
            seen.append((answer.status_code, answer.content, page.status_code, page.content))
        assert seen[0] == seen[1]
        assert TaskRun.objects.filter(name=tasks.send_password_reset_email.name).count() == 4
        assert len(links()) == 2, "to the one who is known alone"

    def test_it_ends_a_lock_out_for_the_owner_though_the_attack_goes_on(
        self, verified: User, anonymous: APIClient
    ) -> None:
        def wrong(address: str) -> int:
            body = {"username": "reader", "password": "wrong"}
            return APIClient().post(f"{AUTH}login/", body, REMOTE_ADDR=address).status_code

        while wrong(f"127.1.{Limit.objects.count()}.1") != 429:
            pass
        body = {"username": "reader", "password": NEW}
        assert APIClient().post(f"{AUTH}login/", body, REMOTE_ADDR="127.9.9.9").status_code == 429
        anonymous.post(FORGOTTEN, {"email": "reader@example.com"})
        token = token_of(links()[-1])
        assert (
            APIClient().post(RESET, {"token": token, "new_password": NEW}, REMOTE_ADDR="127.9.9.9").status_code == 204
        )
        while wrong(f"127.2.{Limit.objects.count()}.1") != 429:
            pass
        assert APIClient().post(f"{AUTH}login/", body, REMOTE_ADDR="127.9.9.9").status_code == 200

    def test_nobody_is_flooded_with_mails(self, verified: User, redis_server: Any) -> None:
        redis_server.stop()
        statuses = [
            APIClient().post(FORGOTTEN, {"email": "reader@example.com"}, REMOTE_ADDR=f"127.0.1.{n}").status_code
            for n in range(8)
        ]
        assert statuses == [202] * 5 + [429] * 3
        unknown = [
            APIClient().post(FORGOTTEN, {"email": "nobody@example.com"}, REMOTE_ADDR=f"127.0.2.{n}").status_code
            for n in range(8)
        ]
        assert unknown == statuses

    def test_one_address_asks_for_so_many(self, db: None, client: Client) -> None:
        statuses = [client.post("/account/password/", {"email": f"r{n}@example.com"}).status_code for n in range(22)]
        assert statuses[:20] == [200] * 20
        assert 429 in statuses

    def test_accounts_that_only_claim_an_address_get_nothing_where_one_has_it(
        self, verified: User, anonymous: APIClient
    ) -> None:
        User.objects.create_user("claims", "Reader@example.com", PASSWORD)
        anonymous.post(FORGOTTEN, {"email": "reader@example.com"})
        work()
        assert "For reader:" in str(mail.outbox[-1].body)
        assert "claims" not in str(mail.outbox[-1].body)

    def test_without_one_that_has_it_each_gets_a_link_in_one_mail(self, reader: User, anonymous: APIClient) -> None:
        User.objects.create_user("claims", "Reader@example.com", PASSWORD)
        User.objects.create_user("cannot", "reader@example.com")
        anonymous.post(FORGOTTEN, {"email": "reader@example.com"})
        assert len(links()) == 2
        assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_who_use_one_link_at_once_one_sets_the_password(reader: User) -> None:
    APIClient().post(FORGOTTEN, {"email": "reader@example.com"})
    token = token_of(links()[-1])
    start = threading.Barrier(6)

    def use(number: int) -> int:
        start.wait(timeout=60)
        try:
            return APIClient().post(RESET, {"token": token, "new_password": f"{NEW}-{number}"}).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(use, range(6)))
    assert sorted(statuses) == [204] + [400] * 5
    assert User.objects.get().check_password(f"{NEW}-{statuses.index(204)}")


@pytest.mark.django_db
class TestPasswordChange:
    def test_ends_all_tokens_and_says_so_by_mail(self, reader: User) -> None:
        here, there = client_of(reader), client_of(reader)
        assert here.post(CHANGE, {"password": PASSWORD, "new_password": NEW}).status_code == 204
        assert (here.get(ME).status_code, there.get(ME).status_code) == (401, 401)
        assert can_sign_in(NEW)
        work()
        assert mail.outbox[-1].to == ["reader@example.com"]

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"password": "wrong", "new_password": NEW}, "#/password"),
            ({"password": PASSWORD, "new_password": "123"}, "#/new_password"),
            ({"password": PASSWORD, "new_password": "reader@example.com"}, "#/new_password"),
            ({"password": PASSWORD}, "#/new_password"),
            ({"password": PASSWORD, "new_password": "nul\x00" + NEW}, "#/new_password"),
            ({"password": [PASSWORD], "new_password": {}}, "#/password"),
        ],
    )
    def test_refuses(self, reader: User, body: dict[str, Any], pointer: str) -> None:
        answer = client_of(reader).post(CHANGE, body)
        assert answer.status_code == 400
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]
        assert can_sign_in(PASSWORD)

    def test_is_for_those_who_are_signed_in(self, anonymous: APIClient, db: None) -> None:
        for url in (CHANGE, EMAIL, DELETE, f"{AUTH}logout/everywhere/"):
            assert anonymous.post(url, {}).status_code == 401


@pytest.mark.django_db
class TestAddress:
    def register(self, **change: str) -> Any:
        return APIClient().post(
            f"{AUTH}register/", {"username": "kim", "email": "kim@example.com", "password": PASSWORD} | change
        )

    def test_is_confirmed_by_the_link_of_the_welcome_mail(self, client: Client, db: None) -> None:
        self.register()
        me = client_of(User.objects.get())
        assert me.get(ME).json()["email_verified"] is False
        [link] = links("kim@example.com")
        assert client.get(link).status_code == 200
        assert me.get(ME).json()["email_verified"] is False, "mail scanners follow links"
        assert b"is confirmed" in client.post(link).content
        assert me.get(ME).json()["email_verified"] is True
        assert client.post(link).status_code == 400

    def test_registering_does_not_tell_whether_an_address_is_known(self, verified: User, client: Client) -> None:
        fresh = self.register(email="fresh@example.com").json()
        known = self.register(email="reader@example.com", username="lee").json()
        assert fresh.keys() == known.keys()
        assert known["email_verified"] is False
        assert can_sign_in(PASSWORD, "kim")
        assert can_sign_in(PASSWORD, "lee")
        [link] = links("reader@example.com")
        taken = client.post(link)
        assert taken.status_code == 409
        assert b"Another account" in taken.content
        assert User.objects.get(username="lee").email_verified_at is None

    def test_is_changed_by_a_link_to_the_new_one_and_the_old_one_is_told(self, verified: User, client: Client) -> None:
        me = client_of(verified)
        assert me.post(EMAIL, {"email": "new@example.com", "password": PASSWORD}).status_code == 202
        assert me.get(ME).json()["email"] == "reader@example.com", "until the link is followed"
        [link] = links("new@example.com")
        client.post(link)
        assert (me.get(ME).json()["email"], me.get(ME).json()["email_verified"]) == ("new@example.com", True)
        work()
        assert (mail.outbox[-1].to, mail.outbox[-1].subject) == (["reader@example.com"], "Your address was changed")

    @pytest.mark.parametrize("meanwhile", ["password", "another change", "three days"])
    def test_a_link_to_change_it_ends_with_what_it_was_made_for(
        self, verified: User, anonymous: APIClient, meanwhile: str
    ) -> None:
        client_of(verified).post(EMAIL, {"email": "new@example.com", "password": PASSWORD})
        token = token_of(links()[-1])
        now = timezone.now()
        if meanwhile == "password":
            client_of(verified).post(CHANGE, {"password": PASSWORD, "new_password": NEW})
        elif meanwhile == "another change":
            client_of(verified).post(EMAIL, {"email": "newer@example.com", "password": PASSWORD})
            assert anonymous.post(CONFIRM, {"token": token_of(links()[-1])}).status_code == 204
        else:
            now += timedelta(days=3, seconds=1)
        with time_machine.travel(now, tick=True):
            assert anonymous.post(CONFIRM, {"token": token}).status_code == 400
        assert User.objects.get().email != "new@example.com"

    def test_changing_to_a_known_one_is_answered_the_same(self, verified: User, author: User) -> None:
        User.objects.filter(pk=author.pk).update(email_verified_at=timezone.now())
        me = client_of(verified)
        answers = [
            me.post(EMAIL, {"email": to, "password": PASSWORD}) for to in ("new@example.com", "AUTHOR@example.com")
        ]
        assert answers[0].content == answers[1].content
        token = token_of(links("AUTHOR@example.com")[-1])
        answer = APIClient().post(CONFIRM, {"token": token})
        assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (400, "Another account has this address.")

    def test_an_admin_who_types_another_does_not_confirm_it(self, verified: User, client: Client) -> None:
        boss = User.objects.create_superuser("boss", "boss@example.com", PASSWORD)
        client.force_login(boss)
        form = {
            "username": "reader", "email": "typed@example.com", "is_active": "on",
            "date_joined_0": "2026-01-01", "date_joined_1": "09:00:00",
        }  # fmt: skip
        assert client.post(f"/admin/accounts/user/{verified.pk}/change/", form).status_code == 302
        verified.refresh_from_db()
        assert (verified.email, verified.email_verified_at) == ("typed@example.com", None)


@pytest.mark.django_db(transaction=True)
def test_of_two_accounts_that_confirm_one_address_at_once_one_has_it() -> None:
    users = [User.objects.create_user(f"user{n}", "same@example.com", PASSWORD) for n in range(4)]
    tokens = []
    for user in users:
        tasks.send_welcome_email.apply(args=[user.pk], task_id=str(user.pk))
        tokens.append(token_of(links()[-1]))
    start = threading.Barrier(4)

    def confirm(token: str) -> int:
        start.wait(timeout=60)
        try:
            return APIClient().post(CONFIRM, {"token": token}).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(confirm, tokens)) == [204, 400, 400, 400]
    assert User.objects.exclude(email_verified_at=None).count() == 1
