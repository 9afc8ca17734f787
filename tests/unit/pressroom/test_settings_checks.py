"""A project's settings for the library: what is misspelt or cannot work is refused with a hint."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, current_app
from django.core import checks as django_checks
from django.core.exceptions import ImproperlyConfigured

from pressroom import checks
from pressroom.conf import DEFAULTS, declared_queues
from pressroom.queues import Queue


def numbers_of(found: Any) -> list[str]:
    messages = list(found)
    assert all(message.hint for message in messages)
    return [message.id.removeprefix("pressroom.") for message in messages]


def test_the_defaults_are_right(settings: Any) -> None:
    for name in checks.ours():
        setattr(settings, name, DEFAULTS[name])
    assert numbers_of(checks.names()) == numbers_of(checks.numbers()) == numbers_of(checks.ledger()) == []
    assert numbers_of(checks.eager()) == []


def test_all_of_the_librarys_own_are_under_one_prefix() -> None:
    assert {name.partition("_")[0] for name in DEFAULTS} == {"TASKRUNS", "CELERY"}


@pytest.mark.parametrize(
    ("name", "hint"), [("TASKRUNS_QUEUE", "TASKRUNS_QUEUES"), ("TASKRUNS_RETENTIONS", "TASKRUNS_RETENTION")]
)
def test_a_misspelt_name_is_an_error_with_the_right_one(settings: Any, name: str, hint: str) -> None:
    setattr(settings, name, 1)
    [message] = checks.names()
    assert (message.id, message.hint) == ("pressroom.E093", f"Did you mean {hint}?")


@pytest.mark.parametrize("value", [None, "5", -1, float("nan"), float("inf"), True, [], 0])
@pytest.mark.parametrize("name", ["TASKRUNS_HEARTBEAT", "TASKRUNS_MAX_MESSAGE", "TASKRUNS_POOL_CONNECTIONS"])
def test_what_is_no_number_is_an_error(settings: Any, name: str, value: Any) -> None:
    setattr(settings, name, value)
    assert "E094" in numbers_of(checks.numbers())


@pytest.mark.parametrize("value", [(), [], None, "default", ["default"], {"default": 1}, 7])
def test_queues_that_are_none_are_refused(settings: Any, value: Any) -> None:
    settings.TASKRUNS_QUEUES = value
    with pytest.raises(ImproperlyConfigured, match=r"pressroom\.queues"):
        declared_queues()


def test_a_queue_twice_is_refused(settings: Any) -> None:
    settings.TASKRUNS_QUEUES = [Queue("default", "prefork", 2, 300, 360, max_attempts=5, max_wait=60)] * 2
    with pytest.raises(ImproperlyConfigured, match="twice"):
        declared_queues()


def test_another_database_backend_or_application_is_an_error(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql"}}
    monkeypatch.setattr(checks, "current_app", Celery("stock", set_as_current=False))
    assert numbers_of(checks.ledger()) == ["E096", "E097"]


def test_a_project_without_a_broker_is_told_so(settings: Any) -> None:
    del settings.CELERY_BROKER_URL
    assert numbers_of(checks.broker_transport()) == ["E005"]


def test_eager_tasks_are_a_warning_that_keeps_no_process_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_app.conf, "task_always_eager", True)
    assert numbers_of(checks.eager()) == ["W100"]
    assert "pressroom.W100" in [message.id for message in django_checks.run_checks(tags=[checks.TAG])]
    checks.refuse_misconfiguration()
