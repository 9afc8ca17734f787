"""System checks of an application's tasks, and how a process refuses to start with what a check finds."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from celery import Celery, current_app
from celery.signals import setup_logging, worker_init
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.db.models import IntegerField
from django.utils.module_loading import autodiscover_modules

from pressroom.conf import declared_queues
from pressroom.queues import HARD_LIMITS, LONGEST_TIME_LIMIT, SOFT_LIMITS, Queue

TAG = "pressroom"
LONGEST_RETENTION = 36_500
"""Days."""


def register() -> None:
    """Make the checks known to Django, and have Celery's processes refuse what they find."""
    for check in (task_queues, task_time_limits, task_bundles, retention, broker_transport, user_keys):
        checks.register(check, TAG)
    worker_init.connect(_refuse, dispatch_uid="pressroom.checks")
    # For beat: its own signal, beat_init, comes after its scheduler has waited for the database.
    setup_logging.connect(_refuse, dispatch_uid="pressroom.checks")


def refuse_misconfiguration(exit_code: int = 1) -> None:
    """Leave the process, with the reasons on standard error, when a check finds an error."""
    errors = [
        message for message in checks.run_checks(tags=[TAG]) if message.is_serious() and not message.is_silenced()
    ]
    if errors:
        print("Pressroom does not start like this:", *errors, sep="\n", file=sys.stderr, flush=True)
        raise SystemExit(exit_code)


def _refuse(**_: object) -> None:
    refuse_misconfiguration()


def broker_transport(**_: object) -> Iterator[checks.CheckMessage]:
    """Only what the relay can write to and the reconciler can look into."""
    scheme = urlsplit(settings.CELERY_BROKER_URL).scheme
    if scheme not in ("redis", "rediss"):
        yield checks.Error(
            f"The broker is {scheme or 'no'}://, not Redis.",
            hint="The relay writes Redis lists, and the reconciler reads them to see which message was lost; with "
            "another broker that promise would be an empty one. Set CELERY_BROKER_URL to redis:// or rediss://.",
            id="pressroom.E005",
        )


def retention(**_: object) -> Iterator[checks.CheckMessage]:
    """A status misspelt would be kept for another time than was meant."""
    from pressroom.models import LIVE, Status

    kept = settings.TASKRUNS_RETENTION
    ended = sorted(set(Status.values) - set(LIVE))
    if sorted(kept) != ended or any(
        type(days) not in (int, float) or not 0 < days <= LONGEST_RETENTION for days in kept.values()
    ):
        yield checks.Error(
            f"TASKRUNS_RETENTION is {kept}.",
            hint=f'JSON, for example {{"dead": 365}}: days above 0, {LONGEST_RETENTION} at most, '
            f"for any of {', '.join(ended)}.",
            id="pressroom.E010",
        )


def user_keys(**_: object) -> Iterator[checks.CheckMessage]:
    """A run's owner is stored as a number."""
    key = get_user_model()._meta.pk
    if not isinstance(key, IntegerField):
        yield checks.Error(
            f"The key of {settings.AUTH_USER_MODEL} is a {type(key).__name__}, but a run's owner is stored as a number.",
            hint="Use a user model with an integer key, for example Django's BigAutoField.",
            id="pressroom.E083",
        )


def our_tasks(app: Celery | None = None) -> Iterable[Any]:
    """Every task that is registered, but for Celery's own."""
    if app is None:
        app = current_app
    # Not app.loader.import_default_modules(), which sets Django up once more.
    autodiscover_modules("tasks")
    return [task for name, task in sorted(app.tasks.items()) if not name.startswith("celery.")]


def queue_of(task: Any) -> str:
    """The name of the queue that a plain ``delay()`` of the task goes to. Raises QueueNotFound."""
    given = {name: getattr(task, name, None) for name in ("queue", "exchange", "routing_key")}
    options = {name: value for name, value in given.items() if value is not None}
    route = task.app.amqp.router.route(options, task.name, task_type=task)
    return str(getattr(route["queue"], "name", route["queue"]))


def task_queues(app: Celery | None = None, **_: object) -> Iterator[checks.CheckMessage]:
    """Every task goes where a worker listens."""
    for task in our_tasks(app):
        try:
            queue = queue_of(task)
        except Exception as error:  # noqa: BLE001 - whatever a router of the project's own raises
            queue = str(error) or repr(error)
        if queue not in declared_queues():
            yield checks.Error(
                f"Task {task.name} goes to a queue that does not exist: {queue}.",
                hint=f"The queues are {', '.join(declared_queues())}; the setting TASKRUNS_QUEUES declares them.",
                id="pressroom.E006",
            )


def tasks_and_queues(app: Celery | None = None) -> Iterator[tuple[Any, Queue]]:
    """Every task of ours with its queue, where there is such a one."""
    for task in our_tasks(app):
        try:
            queue = declared_queues()[queue_of(task)]
        except Exception:  # noqa: BLE001, S112 - told by task_queues
            continue
        yield task, queue


def task_time_limits(app: Celery | None = None, **_: object) -> Iterator[checks.CheckMessage]:
    """A task may be stricter than its queue; workers' grace periods rest on the queue's limits.

    A soft limit of the queue or of the setting that is not below a task's own hard one does not apply to that task.
    """
    for task, queue in tasks_and_queues(app):
        names = ("soft_time_limit", "time_limit")
        of_all = {name: getattr(task.app.conf, f"task_{name}") for name in names}
        # Celery gives a task without a limit that of the setting.
        given = {name: getattr(task, name, None) for name in names}
        own = {name: None if value is of_all[name] else value for name, value in given.items()}
        odd = [f"{name}={value!r}" for name, value in given.items() if not _is_limit(value)]
        if odd:
            yield checks.Error(
                f"Task {task.name}: {', '.join(odd)} is no time limit.",
                hint="A time limit (of a task, or CELERY_TASK_… for all) is a number of seconds above 0; without one "
                "the task has that of its queue.",
                id="pressroom.E017",
            )
            continue
        for name, pools in (("soft_time_limit", SOFT_LIMITS), ("time_limit", HARD_LIMITS)):
            if own[name] and queue.pool not in pools:
                yield checks.Error(
                    f"Task {task.name}: {name} ({own[name]} s) on queue {queue.name}, whose pool {queue.pool} cannot "
                    "hold it to that.",
                    hint="Give it a queue of another pool, or let it end by time-outs of its own.",
                    id="pressroom.E009",
                )
        hard = own["time_limit"] or of_all["time_limit"] or queue.time_limit
        if own["soft_time_limit"] and hard and own["soft_time_limit"] >= hard:
            yield checks.Error(
                f"Task {task.name}: its soft time limit ({own['soft_time_limit']} s) is not below its hard one "
                f"({hard} s).",
                hint="The soft limit lets a task clean up before the hard one kills it: set both, or neither.",
                id="pressroom.E007",
            )
        if hard and queue.time_limit and hard > queue.time_limit:
            yield checks.Error(
                f"Task {task.name}: its time limit ({hard} s) is above the {queue.time_limit} s of queue {queue.name}.",
                hint=f"Give it a queue with a longer limit ({LONGEST_TIME_LIMIT} s at most), or split its work.",
                id="pressroom.E008",
            )


def _is_limit(value: object) -> bool:
    """Whether it may stand where a time limit does; None is none."""
    return value is None or (type(value) in (int, float) and 0 < value < math.inf)  # type: ignore[operator]


def task_bundles(app: Celery | None = None, **_: object) -> Iterator[checks.CheckMessage]:
    """What is claimed together is lost together."""
    for task, queue in tasks_and_queues(app):
        bundle = getattr(task, "bundle", 1)
        if type(bundle) is not int or bundle < 0:
            yield checks.Error(
                f"Task {task.name}: bundle={bundle!r}.",
                hint="How many of its calls a slot may claim at once in a backlog: 1, unless they take milliseconds.",
                id="pressroom.E015",
            )
        elif bundle > 1 and queue.max_attempts == 1:
            yield checks.Error(
                f"Task {task.name}: bundle={bundle} on queue {queue.name}, where one lost attempt makes a dead letter.",
                hint="A dying worker loses all that it claimed, begun or not: give the queue 2 max_attempts or more, "
                "or leave bundle out.",
                id="pressroom.E016",
            )
