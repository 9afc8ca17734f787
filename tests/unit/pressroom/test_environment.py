"""What a project's settings make of the variables that the chart sets."""

from __future__ import annotations

import re

import pytest
from django.core.exceptions import ImproperlyConfigured

from pressroom.process import environment


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {variable for _, variable in environment.SETTINGS.values()}
    for name in {*names, "DATABASE_URL", "PGPASSWORD", "REDIS_URL", "REDIS_PASSWORD", "REDIS_CA"}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "beside", "expected"),
    [
        ("postgres://u@h:5433/d", "a:/@ \n", {"HOST": "h", "PORT": "5433", "USER": "u", "PASSWORD": "a:/@ "}),
        ("postgresql://u:in%20it@h/d", "beside", {"PASSWORD": "in it", "PORT": ""}),
        ("postgres://a%20b@[2001:db8::1]:5432/p%20q", "", {"HOST": "2001:db8::1", "USER": "a b", "NAME": "p q"}),
        ("postgres://u@%2Frun%2Fpostgres/d", "", {"HOST": "/run/postgres"}),
        ("", "", {"HOST": "", "NAME": ""}),
    ],
)  # fmt: skip
def test_a_database(url: str, beside: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("PGPASSWORD", beside)
    found = environment.database()
    assert {key: found[key] for key in expected} == expected
    assert (found["ENGINE"], found["DISABLE_SERVER_SIDE_CURSORS"]) == ("pressroom.database", True)


def test_parameters_of_the_url_are_libpqs_and_go_before_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://h/d?sslmode=verify-full&sslrootcert=/ca.crt&connect_timeout=9")
    options = environment.database()["OPTIONS"]
    assert (options["sslmode"], options["sslrootcert"], options["connect_timeout"]) == ("verify-full", "/ca.crt", "9")
    assert options["tcp_user_timeout"] == 10_000


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/d", "secret", "postgres://u:secret@h/d?colour=red", "\ud800secret"]
)
def test_what_is_no_url_of_postgres_is_said_without_its_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.os, "environ", {"DATABASE_URL": url})
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL is not a URL of Postgres") as caught:
        environment.database()
    assert "secret" not in str(caught.value)


def test_a_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.redis() == "redis://127.0.0.1:6379/0"
    monkeypatch.setenv("REDIS_URL", "rediss://press@r:6380/")
    monkeypatch.setenv("REDIS_PASSWORD", "a/b\n")
    monkeypatch.setenv("REDIS_CA", "/ca.crt")
    assert environment.redis(2) == (
        "rediss://press:a%2Fb@r:6380/2"
        "?ssl_cert_reqs=required&ssl_exclude_verify_flags=VERIFY_X509_STRICT&ssl_ca_certs=/ca.crt"
    )


def test_the_password_in_a_url_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "beside")
    monkeypatch.setenv("REDIS_URL", "redis://:inside@[::1]:6379")
    assert environment.redis(1) == "redis://:inside@[::1]:6379/1"
    monkeypatch.setenv("REDIS_URL", "redis://press:@r")
    assert environment.redis(1) == "redis://press:beside@r/1"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@r/0", "redis://:secret@r:6379/5", "redis://:secret@r?db=1", "redis://:secret@r/?db=1",
        "redis://:secret@r#1", "redis://:secret@r:port", "redis://:secret@r:0", "redis://:secret@", "redis://:secret@[r",
        "http://:secret@r", "r:6379", "secret", "//:secret@r", "redis://:secret@r ", "redis://:sec\nret@r", " ",
        "unix:///secret.sock", "redis://:secret@a:1,b:2",
    ],
)  # fmt: skip
def test_what_is_no_server_of_redis_is_said_without_its_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.os, "environ", {"REDIS_URL": url})
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL is not the URL of a server") as caught:
        environment.redis()
    assert "secret" not in str(caught.value)


def test_an_authority_that_nothing_would_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.os, "environ", {"REDIS_URL": "redis://r", "REDIS_CA": "/ca.crt"})
    with pytest.raises(ImproperlyConfigured, match="rediss://"):
        environment.redis()


def test_a_variable_that_is_not_set_or_empty_leaves_a_setting_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.from_chart() == {}
    monkeypatch.setenv("TASKRUNS_GRACE", " ")
    monkeypatch.setenv("METRICS_PORT", "9808")
    monkeypatch.setenv("ALLOWED_HOSTS", "a.example, b.example,")
    monkeypatch.setenv("TRUST_PROXY", "0")
    assert environment.from_chart() == {
        "TASKRUNS_METRICS_PORT": 9808, "ALLOWED_HOSTS": ["a.example", "b.example"], "SECURE_PROXY_SSL_HEADER": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("TASKRUNS_GRACE", "soon", "a number"),
        ("METRICS_PORT", "9.5", "a whole number"),
        ("TRUST_PROXY", "on", "1 or 0"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured, match=re.escape(f"{name} is '{value}', not {kind}.")):
        environment.from_chart()
