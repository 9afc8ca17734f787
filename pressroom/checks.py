"""System checks of a project's tasks and settings. A process refuses to start if one of them finds an error."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from celery import Celery, current_app
from celery.signals import worker_init
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.db import DEFAULT_DB_ALIAS
from django.db.models import IntegerField
from django.utils.module_loading import autodiscover_modules

from pressroom.celery_app.app import LedgerCelery
from pressroom.conf import DEFAULTS, declared_queues
from pressroom.enqueue import limits, unique_calls
from pressroom.queues import HARD_LIMITS, LONGEST_TIME_LIMIT, SOFT_LIMITS, Queue

TAG = "pressroom"
PREFIX = "TASKRUNS_"
"""With which the names of the library's own settings begin."""
MAY_BE_ZERO = {"TASKRUNS_METRICS_PORT", "TASKRUNS_EVENT_STREAMS"}
LONGEST_RETENTION = 36_500
"""Days that TASKRUNS_RETENTION may name at most."""


def register() -> None:
    """Register the checks with Django, and have workers refuse to start if one finds an error.

    Beat calls `refuse_misconfiguration` itself. For the relay ``manage.py`` runs the checks.
    """
    for check in (
        task_queues, task_time_limits, task_bundles, task_unique_calls, task_limits, retention, broker_transport,
        user_keys, names, numbers, ledger, eager,
    ):  # fmt: skip
        checks.register(check, TAG)
    worker_init.connect(_refuse, dispatch_uid="pressroom.checks")


def refuse_misconfiguration(exit_code: int = 1) -> None:
    """Exit with ``exit_code`` if a check finds an error, after printing the errors to standard error."""
    errors = [
        message for message in checks.run_checks(tags=[TAG]) if message.is_serious() and not message.is_silenced()
    ]
    if errors:
        print("Pressroom cannot start with these settings:", *errors, sep="\n", file=sys.stderr, flush=True)
        raise SystemExit(exit_code)


def _refuse(**_: object) -> None:
    refuse_misconfiguration()


def broker_transport(**_: object) -> Iterator[checks.CheckMessage]:
    """The broker must be Redis, which the relay can write to and the reconciler can read."""
    scheme = urlsplit(getattr(settings, "CELERY_BROKER_URL", None) or "").scheme
    if scheme not in ("redis", "rediss"):
        yield checks.Error(
            f"The broker is not Redis: the scheme of CELERY_BROKER_URL is {scheme!r}.",
            hint="The relay writes Redis lists, and the reconciler reads them to find lost messages. It could not find "
            "them with another broker. Set CELERY_BROKER_URL to redis:// or rediss://.",
            id="pressroom.E005",
        )


def names(**_: object) -> Iterator[checks.CheckMessage]:
    """A misspelt setting would leave its default in force."""
    for name in dir(settings):
        if name.startswith(PREFIX) and name not in DEFAULTS:
            close = difflib.get_close_matches(name, DEFAULTS, n=1)
            yield checks.Error(
                f"There is no setting {name}.",
                hint=f"Did you mean {close[0]}?" if close else f"There are {', '.join(ours())}.",
                id="pressroom.E093",
            )


def ours() -> list[str]:
    """Return the names of the library's own settings."""
    return sorted(name for name in DEFAULTS if name.startswith(PREFIX))


def numbers(**_: object) -> Iterator[checks.CheckMessage]:
    """The numbers among the settings must be numbers, and large enough to work."""
    for name in ours():
        value, default = getattr(settings, name), DEFAULTS[name]
        if type(default) not in (int, float):
            continue
        least = 0 if name in MAY_BE_ZERO else 1 if type(default) is int else 0.1
        whole = "a whole number" if type(default) is int else "a number"
        if type(value) not in (type(default), int) or isinstance(value, bool) or not least <= value < math.inf:
            yield checks.Error(
                f"{name} is {value!r}.",
                hint=f"Set it to {whole} of at least {least}. The default is {default}.",
                id="pressroom.E094",
            )
    heartbeat, silence = settings.TASKRUNS_HEARTBEAT, settings.TASKRUNS_SILENCE
    if type(heartbeat) in (int, float) and type(silence) in (int, float) and not silence > 2 * heartbeat:
        yield checks.Error(
            f"TASKRUNS_SILENCE ({silence} s) is not more than twice TASKRUNS_HEARTBEAT ({heartbeat} s), so live "
            "workers would be declared dead.",
            hint="Leave time for two missed heartbeats, as the defaults do: 20 and 5.",
            id="pressroom.E067",
        )


def ledger(**_: object) -> Iterator[checks.CheckMessage]:
    """The database's backend and Celery's application must be the library's, or the ledger is not used."""
    engine = settings.DATABASES[DEFAULT_DB_ALIAS]["ENGINE"]
    if engine != "pressroom.database":
        yield checks.Error(
            f"The ENGINE of the default database is {engine!r}.",
            hint='Set it to "pressroom.database". It is Django\'s backend for PostgreSQL, and stores calls.',
            id="pressroom.E096",
        )
    if not isinstance(current_app, LedgerCelery):
        yield checks.Error(
            "The project's Celery application does not use the ledger.",
            hint="In celery.py, make a pressroom.celery_app.app.LedgerCelery in place of celery.Celery, and import it "
            "in the __init__.py of the project's package.",
            id="pressroom.E097",
        )


def eager(**_: object) -> Iterator[checks.CheckMessage]:
    """Eager tasks never reach the ledger. It is a warning only, because many projects test with them."""
    if current_app.conf.task_always_eager:
        yield checks.Warning(
            "CELERY_TASK_ALWAYS_EAGER is on: each task runs within its call, and the ledger stores none.",
            hint="Set it to False, except in tests.",
            id="pressroom.W100",
        )


def retention(**_: object) -> Iterator[checks.CheckMessage]:
    """TASKRUNS_RETENTION must name every status of an ended run. A misspelt one would be kept for another time."""
    from pressroom.models import LIVE, Status

    kept = settings.TASKRUNS_RETENTION
    ended = sorted(set(Status.values) - set(LIVE))
    if sorted(kept) != ended or any(
        type(days) not in (int, float) or not 0 < days <= LONGEST_RETENTION for days in kept.values()
    ):
        yield checks.Error(
            f"TASKRUNS_RETENTION is invalid: {kept}.",
            hint=f'Set it to JSON such as {{"dead": 365}}: a number of days above 0 and at most {LONGEST_RETENTION} '
            f"for any of {', '.join(ended)}.",
            id="pressroom.E010",
        )


def user_keys(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that users have integer keys: the ledger stores a run's owner as a number."""
    key = get_user_model()._meta.pk
    if not isinstance(key, IntegerField):
        yield checks.Error(
            f"The key of {settings.AUTH_USER_MODEL} is a {type(key).__name__}, and a run's owner is a number.",
            hint="Use a user model with an integer key, for example Django's BigAutoField.",
            id="pressroom.E083",
        )


def our_tasks(app: Celery | None = None) -> Iterable[Any]:
    """Return every registered task, except Celery's own; none for an application that does not use the ledger."""
    if app is None:
        app = current_app
        if not isinstance(app, LedgerCelery):
            return []
    # app.loader.import_default_modules() would set up Django a second time.
    autodiscover_modules("tasks")
    return [task for name, task in sorted(app.tasks.items()) if not name.startswith("celery.")]


def queue_of(task: Any) -> str:
    """Return the name of the queue that a plain ``delay()`` of the task goes to. Raises QueueNotFound."""
    given = {name: getattr(task, name, None) for name in ("queue", "exchange", "routing_key")}
    options = {name: value for name, value in given.items() if value is not None}
    route = task.app.amqp.router.route(options, task.name, task_type=task)
    return str(getattr(route["queue"], "name", route["queue"]))


def task_queues(app: Celery | None = None, **_: object) -> Iterator[checks.CheckMessage]:
    """Every task must go to a declared queue, which has a worker."""
    for task in our_tasks(app):
        try:
            queue = queue_of(task)
        except Exception as error:  # noqa: BLE001 - a project's own router may raise anything
            queue = str(error) or repr(error)
        if queue not in declared_queues():
            yield checks.Error(
                f"Task {task.name} goes to a queue that does not exist: {queue}.",
                hint=f"Use one of {', '.join(declared_queues())}, or declare the queue in the setting TASKRUNS_QUEUES.",
                id="pressroom.E006",
            )


def tasks_and_queues(app: Celery | None = None) -> Iterator[tuple[Any, Queue]]:
    """Return every task that goes to a declared queue, with that queue."""
    for task in our_tasks(app):
        try:
            queue = declared_queues()[queue_of(task)]
        except Exception:  # noqa: BLE001, S112 - task_queues reports it
            continue
        yield task, queue


def task_time_limits(app: Celery | None = None, **_: object) -> Iterator[checks.CheckMessage]:
    """A task's limits may only be stricter than its queue's, from which workers' grace periods are derived.

    A soft limit of the queue or of the setting does not apply to a task whose own hard limit is not above it.
    """
    for task, queue in tasks_and_queues(app):
        names = ("soft_time_limit", "time_limit")
        of_all = {name: getattr(task.app.conf, f"task_{name}") for name in names}
        # Celery gives a task without a limit the one of the setting.
        given = {name: getattr(task, name, None) for name in names}
        own = {name: None if value is of_all[name] else value for name, value in given.items()}
        odd = [f"{name}={value!r}" for name, value in given.items() if not _is_limit(value)]
        if odd:
            yield checks.Error(
                f"Task {task.name}: {', '.join(odd)} is not a valid time limit.",
                hint="Set a time limit (of a task, or CELERY_TASK_… for all) to a number of seconds above 0, or leave "
                "it out: the task then has the limit of its queue.",
                id="pressroom.E017",
            )
            continue
        for name, pools in (("soft_time_limit", SOFT_LIMITS), ("time_limit", HARD_LIMITS)):
            if own[name] and queue.pool not in pools:
                yield checks.Error(
                    f"Task {task.name}: the pool {queue.pool} of queue {queue.name} cannot enforce its {name} "
                    f"({own[name]} s).",
                    hint="Use a queue with another pool, or give the task time-outs of its own.",
                    id="pressroom.E009",
                )
        hard = own["time_limit"] or of_all["time_limit"] or queue.time_limit
        if own["soft_time_limit"] and hard and own["soft_time_limit"] >= hard:
            yield checks.Error(
                f"Task {task.name}: its soft time limit ({own['soft_time_limit']} s) is not below its hard one "
                f"({hard} s).",
                hint="The soft limit lets a task clean up before the hard limit kills it: set both, or neither.",
                id="pressroom.E007",
            )
        if hard and queue.time_limit and hard > queue.time_limit:
            yield checks.Error(
                f"Task {task.name}: its time limit ({hard} s) is above the {queue.time_limit} s of queue {queue.name}.",
                hint=f"Use a queue with a longer limit ({LONGEST_TIME_LIMIT} s at most), or split the task's work.",
                id="pressroom.E008",
            )


def _is_limit(value: object) -> bool:
    """Return whether a value is a time limit, or None for no limit."""
    return value is None or (type(value) in (int, float) and 0 < value < math.inf)  # type: ignore[operator]


def task_unique_calls(app: Celery | None = None, **_: object) -> Iterator[checks.CheckMessage]:
    """A task's `unique` and `unique_by` must be options that a call accepts, and its calls must be stored."""
    for task in our_tasks(app):
        unique, unique_by = getattr(task, "unique", None), getattr(task, "unique_by", None)
        if unique is None and unique_by is None:
            continue
        found = [*unique_calls.problems(task, unique, unique_by)]
        if unique is None:
            found = ["unique_by needs unique"]
        elif not getattr(task, "durable", True):
            found.append("a task with durable=False stores no calls that could be compared")
        for problem in found:
            yield checks.Error(
                f"Task {task.name}: {problem}.",
                hint='Set unique to "while waiting", "until done" or a number of seconds, and unique_by to the names '
                "of arguments of the task, or leave it out for all.",
                id="pressroom.E098",
            )


def task_limits(app: Celery | None = None, **_: object) -> Iterator[checks.CheckMessage]:
    """A task's `concurrency`, `rate` and `key` must be limits that the relay can hold."""
    for task in our_tasks(app):
        for problem in limits.problems(task):
            yield checks.Error(
                f"Task {task.name}: {problem}.",
                hint='Set concurrency to a whole number, rate to a text such as "100/m", and key to the name of an '
                "argument or a function of the arguments, or leave them out.",
                id="pressroom.E099",
            )


def task_bundles(app: Celery | None = None, **_: object) -> Iterator[checks.CheckMessage]:
    """A bundle must be a number, and its queue must allow a lost attempt: a dying worker loses all runs of a bundle."""
    for task, queue in tasks_and_queues(app):
        bundle = getattr(task, "bundle", 1)
        if type(bundle) is not int or bundle < 0:
            yield checks.Error(
                f"Task {task.name}: bundle={bundle!r} is not a whole number, 0 or more.",
                hint="Set bundle to the number of runs that a slot may claim at once in a backlog: 1, unless a run "
                "takes milliseconds.",
                id="pressroom.E015",
            )
        elif bundle > 1 and queue.max_attempts == 1:
            yield checks.Error(
                f"Task {task.name}: bundle={bundle} on queue {queue.name}, where one lost attempt makes a dead letter.",
                hint="A dying worker loses all runs that it claimed, begun or not. Give the queue 2 or more "
                "max_attempts, or leave bundle out.",
                id="pressroom.E016",
            )
