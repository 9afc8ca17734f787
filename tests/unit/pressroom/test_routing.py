"""A call goes to a declared queue, or is refused where it is made."""

from typing import Any

import pytest
from celery.exceptions import ImproperlyConfigured, QueueNotFound
from kombu import Exchange, Queue

from app.celery import app
from app.queues import BY_NAME
from pressroom.models import TaskRun
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db(transaction=True)


def queue_of(**options: Any) -> str:
    return TaskRun.of(tasks.effect.apply_async(["a", "b"], **options)).queue


UNDECLARED: list[dict[str, Any]] = [
    {"queue": "nowhere"},
    {"queue": ""},
    {"queue": "Emails"},
    {"queue": "emails "},
    {"queue": "еmails"},  # a Cyrillic e
    {"queue": "emails\0"},
    {"queue": "\ud83d"},
    {"queue": 5},
    {"queue": ["emails"]},
    {"queue": Queue("stray")},
    {"routing_key": "nowhere"},
    {"routing_key": ""},
    {"exchange": "nowhere"},
    {"exchange": Exchange("nowhere"), "routing_key": "emails"},
    {"exchange": "emails", "routing_key": "default"},
    {"queue": "emails", "routing_key": "default"},
]


@pytest.mark.parametrize("options", UNDECLARED, ids=repr)
def test_a_queue_that_is_not_declared_is_refused_at_the_call(options: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"TASKRUNS_QUEUES declares {', '.join(sorted(BY_NAME))}") as caught:
        tasks.effect.apply_async(["a", "b"], **options)
    assert isinstance(caught.value, QueueNotFound)
    with pytest.raises(ImproperlyConfigured):
        tasks.effect.s("a", "b").set(**options).delay()
    with pytest.raises(ImproperlyConfigured):
        app.send_task("a.task", **options)
    assert not TaskRun.objects.exists()


@pytest.mark.parametrize(
    ("options", "queue"),
    [
        ({}, "default"),
        ({"queue": None}, "default"),
        ({"queue": None, "exchange": None, "routing_key": None}, "default"),
        ({"queue": "emails"}, "emails"),
        ({"queue": Queue("emails")}, "emails"),
        ({"routing_key": "emails"}, "emails"),
        ({"exchange": "emails"}, "emails"),
        ({"exchange": "", "routing_key": "emails"}, "emails"),
        ({"exchange": Exchange("emails"), "routing_key": "emails"}, "emails"),
        ({"queue": "emails", "exchange": "emails", "routing_key": "emails"}, "emails"),
    ],
    ids=repr,
)
def test_queue_exchange_and_routing_key_name_the_same(options: dict[str, Any], queue: str) -> None:
    assert queue_of(**options) == queue


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def by(routes: Any) -> None:
        monkeypatch.setattr(app.conf, "task_routes", routes)
        app.amqp.flush_routes()
        monkeypatch.setattr(app.amqp, "router", app.amqp.Router())

    yield by
    monkeypatch.undo()
    app.amqp.flush_routes()


@pytest.mark.parametrize(
    "to", ["nowhere", {"queue": ""}, 5, {"routing_key": "nowhere"}, {"queue": "Emails"}, ["emails"]], ids=repr
)
def test_a_route_to_nowhere_is_refused_at_the_call(routed: Any, to: Any) -> None:
    routed((lambda *_, **__: to,))
    with pytest.raises(ImproperlyConfigured):
        queue_of()
    assert not TaskRun.objects.exists()


@pytest.mark.parametrize("to", ["emails", {"queue": "emails"}, {"routing_key": "emails"}], ids=repr)
def test_a_route_gives_way_to_the_call(routed: Any, to: Any) -> None:
    routed({"probe.*": to})
    assert queue_of() == "emails"
    assert queue_of(queue="default") == "default"
