"""EMAIL_URL as settings, and the checks of what is half set."""

from typing import Any

import pytest

from app.checks import providers
from app.mail.url import SENDGRID, SES, EmailUrlError, email_settings
from tests.unit.test_checks import ids


def test_smtp_is_djangos() -> None:
    found = email_settings("smtp+tls://user:p%40ss@mail.example:587")
    assert found["EMAIL_BACKEND"] == "django.core.mail.backends.smtp.EmailBackend"
    assert (found["EMAIL_HOST"], found["EMAIL_PORT"], found["EMAIL_USE_TLS"]) == ("mail.example", 587, True)
    assert (found["EMAIL_HOST_USER"], found["EMAIL_HOST_PASSWORD"]) == ("user", "p@ss")
    assert found["EMAIL_TIMEOUT"] == 10


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("sendgrid://:SG.k%2Fy@", None),
        ("sendgrid://:SG.k%2Fy@api.eu.sendgrid.com", "https://api.eu.sendgrid.com/v3/"),
        ("sendgrid+http://:SG.k%2Fy@127.0.0.1:8025", "http://127.0.0.1:8025/v3/"),
    ],
)
def test_sendgrid(url: str, endpoint: str | None) -> None:
    found = email_settings(url)
    assert found["EMAIL_BACKEND"] == SENDGRID
    assert found["ANYMAIL"]["SENDGRID_API_KEY"] == "SG.k/y"
    assert found["ANYMAIL"].get("SENDGRID_API_URL") == endpoint


def test_ses() -> None:
    found = email_settings("ses://AKIA:s%2Fecret@?region=ap-northeast-2")
    assert found["EMAIL_BACKEND"] == SES
    client = found["ANYMAIL"]["AMAZON_SES_CLIENT_PARAMS"]
    assert (client["region_name"], client["aws_access_key_id"]) == ("ap-northeast-2", "AKIA")
    assert client["aws_secret_access_key"] == "s/ecret"
    assert client["config"]["retries"] == {"total_max_attempts": 1}
    assert "endpoint_url" not in client
    by_itself = email_settings("ses://?region=ap-northeast-2")["ANYMAIL"]["AMAZON_SES_CLIENT_PARAMS"]
    assert "aws_access_key_id" not in by_itself


WRONG = [
    ("sendgrid://", "no API key"),
    ("sendgrid://secret@", "no API key"),
    ("sendgrid+https://:secret@", "not a known scheme"),
    ("ses://", "no region"),
    ("ses://secret@?region=ap-northeast-2", "half of its credentials"),
    ("ses://:secret@?region=ap-northeast-2", "half of its credentials"),
    ("smtp+tls://", "no host"),
    ("smtp://user:secret/secret@mail.example:25", "%2F"),
    ("mailgun://:secret@", "not a known scheme"),
    ("secret", "not a known scheme"),
]


@pytest.mark.parametrize(("url", "why"), WRONG)
def test_what_is_half_set_is_told_without_the_secret(settings: Any, url: str, why: str) -> None:
    with pytest.raises(EmailUrlError, match=why):
        email_settings(url)
    settings.EMAIL_URL = url
    found = list(providers.mail_transport())
    assert ids(found) == ["pressroom.E020"]
    assert not any("secret" in str(message) for message in found)


@pytest.mark.parametrize(
    ("url", "sender", "expected"),
    [
        ("", "Pressroom <press@example.com>", []),
        ("smtp://mail.example", "Pressroom <press@example.com>", []),
        ("sendgrid://:key@", "Press <press@press.kr>", []),
        ("sendgrid://:key@", "Pressroom <press@example.com>", ["pressroom.E021"]),
        ("ses://?region=ap-northeast-2", "press@example.com", ["pressroom.E021"]),
    ],
)
def test_a_provider_needs_a_sender_of_ours(settings: Any, url: str, sender: str, expected: list[str]) -> None:
    settings.EMAIL_URL, settings.DEFAULT_FROM_EMAIL = url, sender
    assert ids(providers.mail_transport()) == expected


@pytest.mark.parametrize(
    ("url", "key", "local", "expected"),
    [
        ("", "", False, []),
        ("https://search.example:7700", "key", False, []),
        ("http://127.0.0.1:7700", "", True, []),
        ("", "key", False, ["pressroom.E022"]),
        ("search.example", "key", False, ["pressroom.E023"]),
        ("https://", "key", False, ["pressroom.E023"]),
        ("https://search.example:x", "key", False, ["pressroom.E023"]),
        ("https://search.example", "", False, ["pressroom.E024"]),
    ],
)
def test_a_search_server_is_named_whole(settings: Any, url: str, key: str, local: bool, expected: list[str]) -> None:
    settings.MEILISEARCH_URL, settings.MEILISEARCH_KEY, settings.LOCAL = url, key, local
    assert ids(providers.search_server()) == expected


def test_a_wrong_one_does_not_keep_settings_from_being_read() -> None:
    from tests.unit.test_checks import CHECK, run

    done = run(*CHECK, EMAIL_URL="mailgun://:secret@")
    assert done.returncode == 1
    assert "pressroom.E020" in done.stderr
    assert "secret" not in done.stderr
