"""A misconfiguration is told with a hint, and refused by everything that would run with it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.contrib.sessions.models import Session
from django.core.checks import CheckMessage

from app.accounts.models import User
from app.checks import configuration, security
from app.queues import BY_NAME
from pressroom import checks
from pressroom.queues import Queue

ROOT = Path(__file__).resolve().parent.parent.parent

KEY = "3q0vXcB7n_W5tRzYk1JmLd8sGhPa2eUf4iOo6-QwTy9xCbVlNj"
SERVED = {
    "LOCAL": False, "SECRET_KEY_IS_SET": True, "DATABASE_URL": "postgres://db/x", "ALLOWED_HOSTS": ["x.example"],
    "SITE_URL": "https://x.example",
}  # fmt: skip


def ids(found: Any) -> list[str | None]:
    messages: list[CheckMessage] = list(found)
    assert all(message.hint for message in messages)
    return [message.id for message in messages]


def app_with(**options: Any) -> Celery:
    """A Celery application with one task."""
    app = Celery("a-test", set_as_current=False)
    app.conf.task_default_queue = "default"
    app.conf.task_create_missing_queues = False
    app.conf.task_queues = {name: {"exchange": name, "routing_key": name} for name in BY_NAME}

    def task() -> None:
        """Nothing."""

    app.task(name="a.task", shared=False, **options)(task)
    return app


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("LOCAL", False, []),
        ("SECRET_KEY_IS_SET", False, ["pressroom.E001"]),
        ("DATABASE_URL", "", ["pressroom.E002"]),
        ("ALLOWED_HOSTS", [], ["pressroom.E003"]),
        ("SITE_URL", "http://127.0.0.1:8000", ["pressroom.E013"]),
        ("SITE_URL", "https://[::1]", ["pressroom.E013"]),
        ("SITE_URL", "http://[x", ["pressroom.E013"]),
        ("SITE_URL", "x.example", ["pressroom.E013"]),
        ("SITE_URL", "", ["pressroom.E013"]),
    ],
)
def test_what_only_local_mode_has_defaults_for(settings: Any, setting: str, value: Any, expected: list[str]) -> None:
    for name, good in {**SERVED, setting: value}.items():
        setattr(settings, name, good)
    assert ids(configuration.required_settings()) == expected
    settings.LOCAL = True
    assert ids(configuration.required_settings()) == []


@pytest.mark.parametrize(
    ("broker", "results", "cache", "expected"),
    [
        ("redis://r/0", "redis://r/1", "redis://r/2", 0),
        ("redis://r/0", "pressroom.celery_app.result_backend:LedgerBackend", "redis://r/2", 0),
        ("redis://r/0", "redis://r/1", "redis://r/0", 1),
        ("redis://r/0", "redis://r/2", "redis://r/2", 1),
        ("redis://r/0", "redis://r/0", "redis://r/0", 2),
        ("redis://r/0", "redis://r/1", "redis://other/0", 0),
        # The same, written otherwise.
        ("redis://localhost", "redis://r/1", "redis://127.0.0.1:6379/0", 1),
        ("rediss://:secret@R:6379/3", "redis://r/1", "rediss://r?db=3", 1),
        ("redis+socket:///run/r.sock?virtual_host=1", "redis://r/1", "unix:///run/r.sock?db=1", 1),
    ],
)
def test_one_redis_database_for_two_uses(settings: Any, broker: str, results: str, cache: str, expected: int) -> None:
    settings.CELERY_BROKER_URL, settings.CELERY_RESULT_BACKEND, settings.CACHE_URL = broker, results, cache
    found = list(configuration.redis_databases())
    assert ids(found) == ["pressroom.E004"] * expected
    assert not any("secret" in str(message) for message in found)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://r/0", []),
        ("rediss://r/0", []),
        ("amqp://user:secret@rabbit//", ["pressroom.E005"]),
        ("", ["pressroom.E005"]),
    ],
)
def test_a_broker_that_is_not_redis(settings: Any, url: str, expected: list[str]) -> None:
    settings.CELERY_BROKER_URL = url
    found = list(checks.broker_transport())
    assert ids(found) == expected
    assert all("relay writes Redis lists" in str(message) and "secret" not in str(message) for message in found)


@pytest.mark.parametrize(
    ("bucket", "given", "expected"),
    [
        ("", {}, []),
        ("b", {}, []),
        ("b", {"access_key": "k", "secret_key": "s", "region_name": "r"}, []),
        ("", {"endpoint_url": "http://s3"}, ["pressroom.E011"]),
        ("b", {"access_key": "k"}, ["pressroom.E012"]),
        ("", {"secret_key": "very-secret"}, ["pressroom.E011", "pressroom.E012"]),
    ],
)
def test_s3_half_set(settings: Any, bucket: str, given: dict[str, str], expected: list[str]) -> None:
    settings.S3_BUCKET, settings.S3_OPTIONS = bucket, {**dict.fromkeys(settings.S3_OPTIONS, ""), **given}
    found = list(configuration.file_storage())
    assert ids(found) == expected
    assert not any("very-secret" in str(message) for message in found)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, []),
        ({"queue": "emails"}, []),
        ({"queue": "emial"}, ["pressroom.E006"]),
        ({"queue": "celery"}, ["pressroom.E006"]),
    ],
)
def test_a_queue_that_does_not_exist(options: dict[str, Any], expected: list[str]) -> None:
    assert ids(checks.task_queues(app_with(**options))) == expected


def test_a_route_to_a_queue_that_does_not_exist() -> None:
    app = app_with()
    app.conf.task_routes = {"a.*": {"queue": "emial"}}
    assert ids(checks.task_queues(app)) == ["pressroom.E006"]
    assert ids(checks.task_time_limits(app)) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, []),
        ({"soft_time_limit": 10, "time_limit": 20}, []),
        ({"soft_time_limit": 20, "time_limit": 20}, ["pressroom.E007"]),
        ({"time_limit": 60}, []),  # below the soft limit of its queue, 300 s, which then does not apply
        ({"soft_time_limit": 60, "time_limit": 60.0}, ["pressroom.E007"]),
        ({"time_limit": 0}, ["pressroom.E017"]),
        ({"time_limit": -1}, ["pressroom.E017"]),
        ({"soft_time_limit": float("nan")}, ["pressroom.E017"]),
        ({"time_limit": float("inf")}, ["pressroom.E017"]),
        ({"time_limit": "60"}, ["pressroom.E017"]),
        ({"soft_time_limit": True}, ["pressroom.E017"]),
        ({"soft_time_limit": 400}, ["pressroom.E007"]),  # above the hard limit of its queue, 360 s
        ({"time_limit": 400}, ["pressroom.E008"]),
        ({"time_limit": 151, "queue": "emails"}, ["pressroom.E008"]),
        ({"time_limit": 150, "queue": "emails"}, []),
    ],
)
def test_time_limits_that_contradict(options: dict[str, Any], expected: list[str]) -> None:
    assert ids(checks.task_time_limits(app_with(**options))) == expected


def test_a_soft_limit_of_all_tasks_spares_one_with_a_shorter_hard_limit() -> None:
    app = app_with(time_limit=60)
    app.conf.task_soft_time_limit = 100
    assert ids(checks.task_time_limits(app)) == []


def test_a_limit_of_all_tasks_that_is_none() -> None:
    app = app_with()
    app.conf.task_soft_time_limit = "soon"
    # Tasks shared by other tests' modules stand in the application, too.
    assert set(ids(checks.task_time_limits(app))) == {"pressroom.E017"}


def test_a_router_that_breaks_is_told_of() -> None:
    app = app_with()

    def route(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("no route")

    app.conf.task_routes = (route,)
    # Tasks shared by other tests' modules stand in the application, too.
    assert set(ids(checks.task_queues(app))) == {"pressroom.E006"}
    assert ids(checks.task_time_limits(app)) == []


@pytest.mark.parametrize(
    ("pool", "options", "expected"),
    [
        ("threads", {"time_limit": 60}, ["pressroom.E009"]),
        ("threads", {"soft_time_limit": 60}, ["pressroom.E009"]),
        ("gevent", {"soft_time_limit": 60}, ["pressroom.E009"]),
        ("gevent", {"time_limit": 60}, []),
        ("threads", {}, []),
    ],
)
def test_a_limit_that_the_pool_cannot_enforce(
    settings: Any, pool: Any, options: dict[str, Any], expected: list[str]
) -> None:
    hard = 100 if pool == "gevent" else None
    settings.TASKRUNS_QUEUES = [Queue("default", pool, 10, None, hard, max_attempts=1, max_wait=1)]
    # Tasks shared by other tests' modules stand in the application, too.
    found = [message for message in checks.task_time_limits(app_with(**options)) if "a.task" in message.msg]
    assert ids(found) == expected


@pytest.mark.parametrize(("model", "expected"), [(User, []), (Session, ["pressroom.E083"])])
def test_users_whose_key_is_no_number(monkeypatch: pytest.MonkeyPatch, model: Any, expected: list[str]) -> None:
    monkeypatch.setattr(checks, "get_user_model", lambda: model)
    assert ids(checks.user_keys()) == expected


@pytest.mark.parametrize(
    ("options", "max_attempts", "expected"),
    [
        ({}, 1, []),
        ({"bundle": 50}, 2, []),
        ({"bundle": 50}, 1, ["pressroom.E016"]),
        ({"bundle": 0}, 1, []),
        ({"bundle": -1}, 2, ["pressroom.E015"]),
        ({"bundle": True}, 2, ["pressroom.E015"]),
    ],
)
def test_what_no_bundle_can_keep(
    settings: Any, options: dict[str, Any], max_attempts: int, expected: list[str]
) -> None:
    queue = Queue("default", "threads", 10, None, None, max_attempts=max_attempts, max_wait=1)
    settings.TASKRUNS_QUEUES = [queue]
    found = [message for message in checks.task_bundles(app_with(**options)) if "a.task" in message.msg]
    assert ids(found) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [("open", []), ("authors", []), ("closed", []), ("", ["pressroom.E060"]), ("Closed", ["pressroom.E060"])],
)
def test_a_word_that_registration_does_not_know(settings: Any, word: str, expected: list[str]) -> None:
    settings.REGISTRATION = word
    assert ids(security.registration()) == expected


@pytest.mark.parametrize(("site", "secure"), [("https://x.example", True), ("http://127.0.0.1:8000", False)])
def test_cookies_of_a_site_over_https_travel_over_https_alone(site: str, secure: bool) -> None:
    code = "from django.conf import settings as s; print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE)"
    done = run("-c", code, SITE_URL=site, DJANGO_SETTINGS_MODULE="app.settings")
    assert done.stdout.split() == [str(secure)] * 2, done.stderr


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command outside local mode, with a configuration that is right but for ``env``."""
    right = {
        "SECRET_KEY": KEY,
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none",
        "ALLOWED_HOSTS": "x.example",
        "SITE_URL": "https://x.example",
        "PATH": os.environ["PATH"],
    }
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=right | env, capture_output=True, text=True, check=False, timeout=120
    )


CHECK = ("manage.py", "check")


def test_manage_py_check_says_what_is_wrong_with_a_hint() -> None:
    done = run(*CHECK, CELERY_BROKER_URL="amqp://rabbit//", ALLOWED_HOSTS="", PING_URLS="http://[x")
    assert done.returncode == 1
    assert all(text in done.stderr for text in ("pressroom.E005", "relay writes Redis lists", "pressroom.E003", "E032"))
    assert run(*CHECK).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("-m", "gunicorn", "app.wsgi", "--bind", "127.0.0.1:0", "--no-control-socket"), 3),
        (("-m", "celery", "-A", "app", "worker", "--pool", "solo"), 1),
        (("-m", "celery", "-A", "app", "beat", "--schedule", "{folder}/schedule"), 1),
        (("manage.py", "relay"), 1),
    ],
    ids=["web", "worker", "beat", "relay"],
)
def test_no_process_starts_with_it(command: tuple[str, ...], code: int, tmp_path: Path) -> None:
    """gunicorn would start its workers over and over for any code but its own for this, 3."""
    arguments = [argument.format(folder=tmp_path) for argument in command]
    done = run(*arguments, CELERY_BROKER_URL="amqp://rabbit//")
    assert done.returncode == code, done.stderr
    assert "pressroom.E005" in done.stderr
