"""Settings that would let the wrong people in, and variables that are not what they should be."""

import os
import re
import runpy
from typing import Any
from unittest import mock

import pytest

from app.checks import security as checks
from app.http.rates import parse_rate
from app.local.servers import PROJECT
from pressroom.checks import numbers
from tests.unit.test_checks import CHECK, KEY, ids, run

BAD_NUMBERS = [
    "-1", "nan", "NaN", "inf", "-inf", "1e999", "abc", "0x10", "1,5", "1 2", "١٢", "10s", "9" * 400,
    "1e12", "--1", "\u200b1",
]  # fmt: skip


def read(**variables: str) -> dict[str, Any]:
    """The settings that these variables make."""
    with mock.patch.dict(os.environ, variables):
        return runpy.run_path(str(PROJECT / "app" / "settings.py"))


NUMBERS = sorted(read()["ENVIRONMENT_NUMBERS"])


class TestNumbers:
    def test_each_number_in_the_settings_is_read_by_the_one_rule(self) -> None:
        """Whichever way django-environ has besides."""
        text = (PROJECT / "app" / "settings.py").read_text()
        assert set(re.findall(r"\benv\.(\w+)\(", text)) <= {
            "str",
            "list",
            "int",
            "float",
            "bool",
            "json",
            "db_url_config",
        }
        assert not re.findall(r"\benv\(|\b(?:int|float)\(env|environ\b", text)
        assert set(re.findall(r"\benv\.(?:int|float)\(\s*\"(\w+)", text)) == set(NUMBERS)
        assert len(NUMBERS) >= 20

    @pytest.mark.parametrize("name", NUMBERS)
    def test_what_is_no_number_is_an_error_and_the_default_stands(self, name: str) -> None:
        usual = read()
        for text in BAD_NUMBERS:
            settings = read(**{name: text})
            assert list(settings["ENVIRONMENT_ERRORS"]) == [name], text
            assert name in settings["ENVIRONMENT_ERRORS"][name]
            assert settings.get(name) == usual.get(name)

    @pytest.mark.parametrize("name", NUMBERS)
    def test_zero_is_one_where_it_means_something(self, name: str) -> None:
        means = {
            "CONN_MAX_AGE", "EVENT_STREAMS", "METRICS_PORT", "NUM_PROXIES", "HSTS_SECONDS", "SENTRY_TRACES_SAMPLE_RATE",
        }  # fmt: skip
        for text in ("0", "-0"):
            assert bool(read(**{name: text})["ENVIRONMENT_ERRORS"]) is (name not in means)

    @pytest.mark.parametrize("text", ["", " "])
    def test_one_that_is_handed_on_empty_is_not_set(self, text: str) -> None:
        assert not read(**dict.fromkeys(NUMBERS, text))["ENVIRONMENT_ERRORS"]

    @pytest.mark.parametrize(("text", "value"), [("1", True), ("on", True), ("0", False), ("", False), ("No", False)])
    def test_switches(self, text: str, value: bool) -> None:
        settings = read(CELERY_SEND_EVENTS=text)
        assert settings["CELERY_TASK_SEND_SENT_EVENT"] is value
        assert not settings["ENVIRONMENT_ERRORS"]

    @pytest.mark.parametrize("text", ["yess", "flase", "2", "None", "x"])
    def test_a_switch_that_is_neither_on_nor_off(self, text: str) -> None:
        assert list(read(DEBUG=text)["ENVIRONMENT_ERRORS"]) == ["DEBUG"]

    @pytest.mark.parametrize("name", ["TASKRUNS_RETENTION", "CELERY_BROKER_TRANSPORT_OPTIONS"])
    @pytest.mark.parametrize("text", ["[]", "1", "{", "null", "[" * 100_000])
    def test_what_is_no_json_object(self, name: str, text: str) -> None:
        assert list(read(**{name: text})["ENVIRONMENT_ERRORS"]) == [name]

    @pytest.mark.parametrize("value", [-1, 0, float("nan"), float("inf")])
    def test_a_bad_number_within_the_brokers_options(self, settings: Any, value: float) -> None:
        settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": value}
        assert ids(checks.unreadable_settings()) == ["pressroom.E070"]

    def test_a_silence_that_two_heartbeats_fill(self, settings: Any) -> None:
        settings.TASKRUNS_SILENCE, settings.TASKRUNS_HEARTBEAT = 10.0, 5.0
        assert ids(numbers()) == ["pressroom.E067"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30/min", (30, 60)), ("1/s", (1, 1)), ("5/hours", (5, 3600)), ("9/day", (9, 86_400)), ("2/m", (2, 60))],
)
def test_rates(text: str, expected: tuple[int, int]) -> None:
    assert parse_rate(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "10",
        "0/min",
        "-1/min",
        "1.5/min",
        "10/fortnight",
        "10 / min",
        "10/",
        "/min",
        "٣/min",
        "nan/s",
        "1/min\n",
    ],
)
@pytest.mark.parametrize("name", ["THROTTLE_LOGIN", "LOCKOUT_ACCOUNT", "THROTTLE_PAYMENTS"])
def test_a_throttle_that_is_no_rate(settings: Any, name: str, text: str) -> None:
    made = read(**{name: text})
    settings.LIMITS, settings.REST_FRAMEWORK = made["LIMITS"], made["REST_FRAMEWORK"]
    assert ids(checks.throttle_rates()) == ["pressroom.E065"]


def test_the_rates_there_are_are_some() -> None:
    assert ids(checks.throttle_rates()) == []


@pytest.mark.parametrize(
    ("key", "is_refused"),
    [
        ("x", True), ("x" * 50, True), ("ab" * 40, True), ("0123456789" * 6, True), ("correct horse " * 5, True),
        (KEY[:49], True), ("django-insecure-" + KEY, True), ("changeme" + KEY, True), ("My-Secret-Key-" + KEY, True),
        ("for-development-only-and-known-to-everybody", True), ("For-development-only" + KEY, True),
        (KEY, False), ("4f" + KEY, False), ("9c1d0fb3a82e74d65f0b1c7a3e9d28f46b5a07ce81d39f62540b7ea8c1d3f960", False),
    ],
)  # fmt: skip
def test_a_key_that_somebody_guesses(settings: Any, key: str, is_refused: bool) -> None:
    settings.LOCAL, settings.SECRET_KEY, settings.ALLOWED_HOSTS = False, key, ["x.example"]
    found = list(checks.unsafe_settings())
    assert ids(found) == ["pressroom.E062"] * is_refused
    assert not any(key in str(message.msg) for message in found)
    settings.LOCAL = True
    assert ids(checks.unsafe_settings()) == []


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("DEBUG", True, ["pressroom.E063"]),
        ("ALLOWED_HOSTS", ["*"], ["pressroom.E064"]),
        ("ALLOWED_HOSTS", ["x.example", "*"], ["pressroom.E064"]),
        ("ALLOWED_HOSTS", ["*.example.com"], ["pressroom.E064"]),
        ("ALLOWED_HOSTS", ["."], ["pressroom.E064"]),
        ("ALLOWED_HOSTS", [".example.com", "x.example"], []),
        ("CSRF_TRUSTED_ORIGINS", ["https://*"], ["pressroom.E064"]),
        ("CSRF_TRUSTED_ORIGINS", ["https://*.example.com"], []),
    ],
)
def test_what_is_for_a_laptop_alone(settings: Any, setting: str, value: Any, expected: list[str]) -> None:
    settings.LOCAL, settings.SECRET_KEY, settings.ALLOWED_HOSTS = False, KEY, ["x.example"]
    setattr(settings, setting, value)
    assert ids(checks.unsafe_settings()) == expected


@pytest.mark.parametrize(
    ("trust", "count", "https", "expected"),
    [
        (False, 0, False, []),
        (True, 1, True, []),
        (True, 2, False, []),
        (True, 0, False, ["pressroom.E066"]),
        (False, 1, False, ["pressroom.E071"]),
        (False, 0, True, ["pressroom.W068"]),
    ],
)
def test_a_proxy_is_believed_whole_or_not_at_all(
    settings: Any, trust: bool, count: int, https: bool, expected: list[str]
) -> None:
    settings.LOCAL, settings.TRUST_PROXY, settings.HTTPS = False, trust, https
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": count}
    assert ids(checks.proxies()) == expected


def test_check_deploy_is_clean_with_https_behind_a_proxy() -> None:
    done = run(*CHECK, "--deploy", "--fail-level", "WARNING", TRUST_PROXY="1", NUM_PROXIES="1")
    assert done.returncode == 0, done.stderr
    assert "no issues (2 silenced)" in done.stdout


def test_all_that_is_wrong_is_said_at_once_and_without_a_traceback() -> None:
    wrong = {
        "E060": {"REGISTRATION": "perhaps"},
        "E061": {"CONN_MAX_AGE": "abc", "METRICS_PORT": "-1", "TASKRUNS_GRACE": "nan", "LOG_FORMAT": "json"},
        "E062": {"SECRET_KEY": "x"},
        "E063": {"DEBUG": "1"},
        "E064": {"ALLOWED_HOSTS": "*"},
        "E065": {"THROTTLE_LOGIN": "often"},
        "E066": {"TRUST_PROXY": "1"},
        "E010": {"TASKRUNS_RETENTION": '{"dead": NaN}'},
    }
    done = run(*CHECK, **{name: text for variables in wrong.values() for name, text in variables.items()})
    assert done.returncode == 1
    assert [number for number in wrong if f"pressroom.{number}" not in done.stderr] == []
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("-m", "gunicorn", "app.wsgi", "--bind", "127.0.0.1:0", "--no-control-socket"), 3),
        (("-m", "celery", "-A", "app", "worker", "--pool", "solo"), 1),
        (("-m", "celery", "-A", "app", "beat", "--schedule", "/nowhere/schedule"), 1),
        (("manage.py", "relay"), 1),
    ],
    ids=["web", "worker", "beat", "relay"],
)
def test_nothing_starts_with_it_in_local_mode_either(command: tuple[str, ...], code: int) -> None:
    done = run(*command, LOCAL="1", THROTTLE_LOGIN="often", TASKRUNS_GRACE="nan")
    assert done.returncode == code, done.stderr
    assert "pressroom.E065" in done.stderr
    assert "pressroom.E061" in done.stderr
    assert "Traceback" not in done.stderr
