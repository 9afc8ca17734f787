"""Who gets in, how often somebody may try, and when tokens and sessions end."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.db import connection, connections
from django.db.models import F
from django.test import Client, RequestFactory
from rest_framework.exceptions import Throttled
from rest_framework.test import APIClient
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from app.accounts.checks import names_alike
from app.accounts.models import KnownAddress, Limit, SignIn, User
from app.accounts.names import fold
from app.accounts.services import password_change, sign_ins_end
from app.accounts.sign_in.limits import client_address, limits_cleanup

RIGHT, WRONG = "a-long-passphrase-1", "wrong"
LOGIN, ADMIN, ME, REFRESH = "/api/auth/login/", "/admin/login/", "/api/auth/me/", "/api/auth/refresh/"


def at_the_api(username: str, password: str, address: str = "127.0.0.1") -> Any:
    return APIClient().post(LOGIN, {"username": username, "password": password}, REMOTE_ADDR=address)


def at_the_admin(username: str, password: str, address: str = "127.0.0.1") -> Any:
    return Client().post(ADMIN, {"username": username, "password": password, "next": "/admin/"}, REMOTE_ADDR=address)


DOORS: list[Callable[..., Any]] = [at_the_api, at_the_admin]


@pytest.fixture
def boss(db: None) -> User:
    return User.objects.create_superuser("boss", "boss@example.com", RIGHT)


def later(seconds: int) -> None:
    """Time goes by for all limits."""
    Limit.objects.update(until=F("until") - timedelta(seconds=seconds))


def signed_in(client: APIClient, username: str = "reader") -> dict[str, str]:
    tokens: dict[str, str] = client.post(LOGIN, {"username": username, "password": RIGHT}).json()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}")
    return tokens


@pytest.mark.django_db
class TestLockOut:
    @pytest.mark.parametrize("door", DOORS)
    def test_sixty_wrong_passwords_then_the_right_one_does_not_get_in(self, boss: User, door: Any) -> None:
        statuses = [door("boss", WRONG).status_code for _ in range(60)]
        assert statuses[:10] == [401 if door is at_the_api else 200] * 10
        assert set(statuses[10:]) == {429}
        refused = door("boss", RIGHT)
        assert refused.status_code == 429
        assert 0 < int(refused["Retry-After"]) <= 360

    def test_both_doors_count_together_and_any_writing_of_the_name(self, boss: User) -> None:
        for number in range(5):
            at_the_api("boss", WRONG)
            at_the_admin("ＢＯＳＳ" if number % 2 else "Boss", WRONG)
        assert at_the_api("boss", RIGHT).status_code == 429
        assert at_the_admin("BOSS", RIGHT).status_code == 429

    @pytest.mark.parametrize("door", DOORS)
    def test_while_redis_is_away_it_holds(self, boss: User, door: Any, redis_server: Any) -> None:
        redis_server.stop()
        for _ in range(11):
            door("boss", WRONG)
        assert door("boss", RIGHT).status_code == 429

    def test_a_page_says_so_to_a_person_and_a_problem_document_to_a_client(self, boss: User) -> None:
        for _ in range(10):
            at_the_api("boss", WRONG)
        page, document = at_the_admin("boss", RIGHT), at_the_api("boss", RIGHT)
        assert page["Content-Type"].startswith("text/html")
        assert b"Too many attempts" in page.content
        assert document["Content-Type"] == "application/problem+json"
        assert page["Cache-Control"] == document["Cache-Control"] == "no-store"

    def test_it_ends_by_itself_and_trying_on_does_not_prolong_it(self, reader: User) -> None:
        for _ in range(10):
            at_the_api("reader", WRONG)
        until = list(Limit.objects.order_by("key").values_list("until", flat=True))
        for _ in range(5):
            assert at_the_api("reader", RIGHT).status_code == 429
        assert list(Limit.objects.order_by("key").values_list("until", flat=True)) == until
        later(361)
        assert at_the_api("reader", RIGHT).status_code == 200

    def test_the_right_password_in_time_forgets_the_wrong_ones(self, reader: User) -> None:
        for _ in range(3):
            for _ in range(9):
                assert at_the_api("reader", WRONG).status_code == 401
            assert at_the_api("reader", RIGHT).status_code == 200
            later(60)

    def test_an_account_is_locked_from_many_addresses_but_not_for_where_its_owner_was(
        self, reader: User, settings: Any
    ) -> None:
        settings.LIMITS = settings.LIMITS | {"lockout_account": "20/hour"}
        assert at_the_api("reader", RIGHT, "127.0.0.1").status_code == 200
        statuses = [at_the_api("reader", WRONG, f"127.1.0.{number}").status_code for number in range(30)]
        assert statuses == [401] * 20 + [429] * 10
        assert at_the_api("reader", RIGHT, "127.2.0.1").status_code == 429, "a stranger's address"
        assert at_the_api("reader", RIGHT, "127.0.0.1").status_code == 200, "its owner's"

    def test_one_address_that_tries_many_accounts_is_stopped(self, reader: User, settings: Any) -> None:
        settings.LIMITS = settings.LIMITS | {"lockout_address": "20/hour"}
        statuses = [at_the_api(f"user{number}", WRONG).status_code for number in range(25)]
        assert statuses == [401] * 20 + [429] * 5
        assert at_the_api("reader", RIGHT).status_code == 429
        assert at_the_api("reader", RIGHT, "127.0.0.2").status_code == 200

    def test_a_password_of_ones_own_does_not_buy_tries_at_others(self, reader: User, settings: Any) -> None:
        settings.LIMITS = settings.LIMITS | {"lockout_address": "20/hour", "login": "1000/min"}
        refused = 0
        for number in range(30):
            refused += at_the_api(f"user{number}", WRONG).status_code == 429
            at_the_api("reader", RIGHT)
        assert refused == 10

    def test_too_many_right_ones_are_too_many_too(self, reader: User, settings: Any) -> None:
        settings.LIMITS = settings.LIMITS | {"login": "3/hour"}
        assert [at_the_api("reader", RIGHT).status_code for _ in range(5)] == [200] * 3 + [429] * 2

    def test_an_account_that_is_none_is_answered_like_one(self, reader: User) -> None:
        known = [(a.status_code, a.json()["detail"]) for a in (at_the_api("reader", WRONG) for _ in range(10))]
        unknown = [
            (a.status_code, a.json()["detail"]) for a in (at_the_api("nobody", WRONG, "127.0.0.2") for _ in range(10))
        ]
        assert known == unknown
        assert at_the_api("nobody", WRONG, "127.0.0.2").status_code == 429

    def test_behind_a_proxy_its_clients_are_told_apart(self, reader: User, settings: Any) -> None:
        settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
        body = {"username": "reader", "password": WRONG}
        for _ in range(11):
            APIClient().post(LOGIN, body, HTTP_X_FORWARDED_FOR="198.51.100.1, 203.0.113.7")
        right = body | {"password": RIGHT}
        assert APIClient().post(LOGIN, right, HTTP_X_FORWARDED_FOR="203.0.113.7").status_code == 429
        assert APIClient().post(LOGIN, right, HTTP_X_FORWARDED_FOR="203.0.113.8").status_code == 200

    @pytest.mark.parametrize(
        ("address", "counted"),
        [
            ("203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
            ("unix:", "unix:"),
            ("", ""),
            ("x" * 500, "x" * 64),
        ],
    )
    def test_what_counts_as_one_address(self, address: str, counted: str) -> None:
        assert client_address(RequestFactory().get("/", REMOTE_ADDR=address)) == counted
        assert client_address(None) == ""

    def test_neither_names_nor_addresses_are_kept_to_be_read(self, reader: User) -> None:
        at_the_api("my-password-in-the-wrong-field", WRONG, "127.0.0.9")
        at_the_api("reader", RIGHT, "127.0.0.9")
        kept = [*Limit.objects.values_list("key", flat=True), *KnownAddress.objects.values_list("address", flat=True)]
        assert kept
        assert all(len(key) == 64 and "127" not in key[:3] for key in kept)
        assert not any("password" in key for key in kept)

    def test_what_no_longer_counts_is_cleaned_up(self, reader: User) -> None:
        at_the_api("reader", WRONG)
        at_the_api("nobody", WRONG, "127.0.0.2")
        kept = Limit.objects.count()
        assert limits_cleanup() == 0
        later(3_601)
        KnownAddress.objects.create(user=reader, address="old", seen_at="2020-01-01T00:00Z")
        assert limits_cleanup() == kept + 1

    def test_from_a_shell_without_an_address_the_account_is_counted(self, reader: User, settings: Any) -> None:
        settings.LIMITS = settings.LIMITS | {"lockout_login": "2/hour"}
        assert authenticate(username="reader", password=WRONG) is None
        assert authenticate(username="reader", password=WRONG) is None
        with pytest.raises(Throttled):
            authenticate(username="reader", password=RIGHT)


@pytest.mark.django_db(transaction=True)
def test_of_many_tries_at_once_no_more_get_through_than_one_by_one(reader: User) -> None:
    start = threading.Barrier(16)

    def attempt(_: int) -> list[int]:
        start.wait(timeout=60)
        try:
            return [at_the_api("reader", WRONG).status_code for _ in range(3)]
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        statuses = sorted(status for some in pool.map(attempt, range(16)) for status in some)
    assert statuses == [401] * 10 + [429] * 38


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/api/auth/password/change/", {"password": WRONG, "new_password": "another-passphrase-2"}),
        ("/api/auth/email/change/", {"password": WRONG, "email": "new@example.com"}),
        ("/api/auth/delete/", {"password": WRONG}),
    ],
)
def test_a_stolen_token_does_not_let_its_thief_guess_the_password(reader: User, url: str, body: dict[str, str]) -> None:
    """With a key nothing is looked at: what is counted must outlive the transaction that a key brings."""
    client = APIClient()
    signed_in(client)
    right = body | {"password": RIGHT}
    refused = client.post(url, right, HTTP_IDEMPOTENCY_KEY="k")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "#/Idempotency-Key")
    for _ in range(10):
        assert client.post(url, body).json()["errors"][0]["pointer"] == "#/password"
    assert client.post(url, right).status_code == 429
    assert User.objects.get(pk=reader.pk).is_active


@pytest.mark.django_db
def test_nor_does_a_stolen_session_of_the_admins(boss: User) -> None:
    browser = Client()
    browser.force_login(boss)
    form = {"old_password": WRONG, "new_password1": "another-passphrase-2", "new_password2": "another-passphrase-2"}
    statuses = [browser.post("/admin/password_change/", form).status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    assert browser.post("/admin/password_change/", form | {"old_password": RIGHT}).status_code == 429
    later(3_600)
    assert browser.post("/admin/password_change/", form | {"old_password": RIGHT}).status_code == 302
    assert authenticate(username="boss", password="another-passphrase-2") == boss


@pytest.mark.django_db
class TestTokensEnd:
    def test_a_spent_refresh_token_used_again_ends_its_whole_family(self, anonymous: APIClient, reader: User) -> None:
        first = signed_in(anonymous)
        other = APIClient()
        signed_in(other)
        second = anonymous.post(REFRESH, {"refresh": first["refresh"]}).json()
        third = anonymous.post(REFRESH, {"refresh": second["refresh"]}).json()
        anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {third['access']}")
        assert anonymous.get(ME).status_code == 200

        assert anonymous.post(REFRESH, {"refresh": first["refresh"]}).status_code == 401
        assert anonymous.post(REFRESH, {"refresh": third["refresh"]}).status_code == 401
        assert anonymous.get(ME).status_code == 401, "its access tokens, too"
        assert other.get(ME).status_code == 200, "another sign-in goes on"

    def test_signing_out_ends_the_access_token_too(self, anonymous: APIClient, reader: User) -> None:
        tokens = signed_in(anonymous)
        assert anonymous.post("/api/auth/logout/", {"refresh": tokens["refresh"]}).status_code == 200
        assert anonymous.get(ME).status_code == 401
        assert anonymous.post("/api/auth/logout/", {"refresh": tokens["refresh"]}).status_code == 401

    @pytest.mark.parametrize("how", ["by code", "by the admin", "everywhere", "deactivated", "deleted"])
    def test_nothing_outlives(self, anonymous: APIClient, reader: User, boss: User, client: Any, how: str) -> None:
        User.objects.filter(pk=reader.pk).update(is_staff=True)
        reader.refresh_from_db()
        tokens = signed_in(anonymous)
        browser = Client()
        browser.post(ADMIN, {"username": "reader", "password": RIGHT})
        assert browser.get("/admin/").status_code == 200
        if how == "by code":
            password_change(user=reader, password="another-passphrase-2")
        elif how == "by the admin":
            client.force_login(boss)
            changed = {
                "password1": "another-passphrase-2",
                "password2": "another-passphrase-2",
                "usable_password": "true",
            }
            assert client.post(f"/admin/accounts/user/{reader.pk}/password/", changed).status_code == 302
        elif how == "everywhere":
            assert anonymous.post("/api/auth/logout/everywhere/").status_code == 204
        elif how == "deactivated":
            User.objects.filter(pk=reader.pk).update(is_active=False)
        else:
            reader.delete()
        assert anonymous.get(ME).status_code == 401
        anonymous.credentials()
        assert anonymous.post(REFRESH, {"refresh": tokens["refresh"]}).status_code == 401
        assert browser.get("/admin/").status_code == 302

    def test_after_signing_out_everywhere_one_signs_in_again(self, anonymous: APIClient, reader: User) -> None:
        sign_ins_end(reader)
        signed_in(anonymous)
        assert anonymous.get(ME).status_code == 200

    def test_a_session_from_before_the_upgrade_goes_on(self, reader: User) -> None:
        """The hash of a user whose sessions were never ended is Django's own."""
        from django.contrib.auth.base_user import AbstractBaseUser

        assert reader.get_session_auth_hash() == AbstractBaseUser.get_session_auth_hash(User(password=reader.password))
        before = reader.get_session_auth_hash()
        sign_ins_end(reader)
        reader.refresh_from_db()
        assert reader.get_session_auth_hash() != before

    def test_expired_sign_ins_are_cleaned_up(self, anonymous: APIClient, reader: User) -> None:
        from app.accounts.tasks import cleanup_expired_tokens

        signed_in(anonymous)
        signed_in(anonymous)
        SignIn.objects.filter(pk=SignIn.objects.first().pk).update(expires_at="2020-01-01T00:00Z")
        cleanup_expired_tokens.apply()
        assert SignIn.objects.count() == 1

    @pytest.mark.parametrize("url", [LOGIN, REFRESH, "/api/auth/logout/", "/api/auth/register/", ME])
    def test_no_cache_keeps_what_has_to_do_with_tokens(self, anonymous: APIClient, reader: User, url: str) -> None:
        for body in ({"username": "reader", "password": RIGHT}, {"username": "reader", "password": WRONG}, {}):
            assert anonymous.post(url, body)["Cache-Control"] == "no-store"


@pytest.mark.django_db(transaction=True)
def test_of_two_refreshes_with_one_token_one_succeeds_and_the_family_ends(reader: User) -> None:
    tokens = signed_in(APIClient())
    start = threading.Barrier(6)

    def refresh(_: int) -> Any:
        start.wait(timeout=60)
        try:
            return APIClient().post(REFRESH, {"refresh": tokens["refresh"]})
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(refresh, range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 5
    [won] = [answer for answer in answers if answer.status_code == 200]
    assert APIClient().post(REFRESH, {"refresh": won.json()["refresh"]}).status_code == 401
    assert not SignIn.objects.exists()
    assert OutstandingToken.objects.count() == 2


@pytest.mark.django_db
class TestNames:
    @pytest.mark.parametrize("name", ["reader", "READER", "Reader", "ｒｅａｄｅｒ", "ℝeader"])
    def test_one_signs_in_by_any_writing_of_the_name(self, reader: User, name: str) -> None:
        assert at_the_api(name, RIGHT).status_code == 200

    @pytest.mark.parametrize("name", ["Straße", "STRASSE", "ǅ", "ﬁn", "İstanbul", "김", "ＫＩＭ"])
    def test_folding_twice_changes_nothing(self, name: str) -> None:
        assert fold(fold(name)) == fold(name)

    def test_two_from_before_names_were_folded_keep_theirs_and_a_check_says_so(self, reader: User) -> None:
        other = User(username="Reader", email="other@example.com")
        other.set_password("another-passphrase-2")
        User.objects.bulk_create([other])
        assert at_the_api("reader", RIGHT).status_code == 200
        assert at_the_api("Reader", "another-passphrase-2").status_code == 200
        assert at_the_api("READER", RIGHT).status_code == 200, "the one who has the folded name"
        [warning] = names_alike(databases=["default"])
        assert (warning.id, str(other.pk) in warning.msg) == ("pressroom.W069", True)
        other = User.objects.get(pk=other.pk)
        other.full_clean()
        other.save()
        other.username = "somebody"
        other.save(update_fields=["username"])
        assert names_alike(databases=["default"]) == []
        assert names_alike() == []

    def test_an_admin_makes_no_second_one_either(self, reader: User, boss: User, client: Any) -> None:
        client.force_login(boss)
        new = {"username": "ReadeR", "email": "x@example.com", "password1": "a-new-passphrase-3"}
        answer = client.post("/admin/accounts/user/add/", new | {"password2": new["password1"]})
        assert b"already exists" in answer.content
        assert User.objects.count() == 2


@pytest.mark.django_db
def test_an_empty_database_can_be_checked_before_its_first_migration() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE accounts_user RENAME TO accounts_nobody")
    assert names_alike(databases=["default"]) == []
