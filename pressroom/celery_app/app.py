"""The Celery application, whose calls are rows of the ledger."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import django
from celery import Celery
from django.apps import apps
from django.db import transaction
from kombu.utils.objects import cached_property

from pressroom import conf, context
from pressroom.celery_app import handler_errors, transport
from pressroom.enqueue import arguments
from pressroom.enqueue.unique_calls import UniqueCall, unique_call
from pressroom.signals import unique_call_repeated


class NoConnection:
    """The connection of `NoProducer`. Celery asks it to translate connection errors; there are none to translate."""

    def _reraise_as_library_errors(self) -> AbstractContextManager[None]:
        return nullcontext()


class NoProducer:
    """Takes the place of a broker's producer: a call is a row, and the relay publishes it."""

    connection = NoConnection()
    serializer = None


NO_PRODUCER = NoProducer()
DESTINATION = ("queue", "exchange", "routing_key")
POSITIONAL = tuple(inspect.signature(Celery.send_task).parameters)[2:-1]
"""Options of `send_task` that may be given without their names: all but ``**options``, after ``self`` and the name."""


# The stubs cover half of this class, with other signatures.
_Celery: Any = Celery


class LedgerCelery(_Celery):  # type: ignore[misc]  # see _Celery
    """A Celery application that stores each call before it is sent. Everything else is Celery's own."""

    amqp_cls = "pressroom.enqueue.store_calls:LedgerAMQP"
    control_cls = "pressroom.celery_app.control:LedgerControl"
    task_cls = "pressroom.execution.task:LedgerTask"
    registry_cls = "pressroom.celery_app.registry:LedgerRegistry"
    builtin_fixups = {"pressroom.worker.django_fixup:fixup"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        transport.install()
        handler_errors.install()
        # By dotted path, so that only workers import it.
        self.steps["worker"].add("pressroom.worker.bootstep:LedgerStep")

    def _load_config(self) -> Any:
        """Load the configuration with the library's defaults.

        Celery's commands read it before Django is set up, and with Django the library. Beat would have got the
        scheduler of Celery.
        """
        conf.set_defaults()
        return super()._load_config()

    def set_up_django(self) -> None:
        """Set Django up and load all tasks, unless that has been done. Celery's commands load only the application.

        Does nothing while Django itself imports this module.
        """
        if not apps.ready and not apps.loading:
            django.setup()
            self.loader.import_default_modules()
            self.finalize(auto=True)

    @cached_property
    def amqp(self) -> Any:
        """The message layer."""
        self.set_up_django()
        return super().amqp

    @cached_property
    def control(self) -> Any:
        """The remote control."""
        self.set_up_django()
        return super().control

    @cached_property
    def tasks(self) -> Any:
        """The task registry."""
        self.set_up_django()
        return super().tasks

    @cached_property
    def AsyncResult(self) -> Any:  # noqa: N802 - Celery's name
        """The class of a call's result."""
        self.set_up_django()
        return self.subclass_with_self("pressroom.celery_app.async_results:LedgerResult", reverse="AsyncResult")

    @cached_property
    def GroupResult(self) -> Any:  # noqa: N802 - Celery's name
        """The class of a group's result."""
        self.set_up_django()
        return self.subclass_with_self("pressroom.celery_app.async_results:LedgerGroupResult", reverse="GroupResult")

    @property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        """The program behind `celery beat`."""
        return self.subclass_with_self("pressroom.beat.command:LedgerBeat")

    def _get_backend(self) -> Any:
        self.set_up_django()
        # Celery's usual `redis://` then means our backend, whose chords outlive Redis.
        ours = "pressroom.celery_app.result_backend:RedisLedgerBackend"
        self.loader.override_backends = {"redis": ours, "rediss": ours}
        return super()._get_backend()

    def send_task(self, name: str, *args: Any, **options: Any) -> Any:
        """Send a task by name, as Celery's does, without a connection to the broker."""
        if len(args) > len(POSITIONAL):
            raise TypeError(f"{name}: send_task takes {len(POSITIONAL)} options without their names, not {len(args)}")
        given = dict(zip(POSITIONAL, args, strict=False))
        if twice := given.keys() & options:
            raise TypeError(f"{name}: send_task got {', '.join(sorted(twice))} twice")
        options |= given
        options |= arguments.check_times(name, options.get("countdown"), options.get("eta"), options.get("expires"))
        options["producer"] = options.get("producer") or NO_PRODUCER
        self.set_up_django()
        # `celery call` passes None for options that were not given. Without them the task's own queue applies.
        options = {key: value for key, value in options.items() if value is not None or key not in DESTINATION}
        options["has_new_id"] = not options.get("task_id")
        unique = self._unique_call(name, options)
        if unique is None:
            return super().send_task(name, **options)
        is_child = options.get("add_to_parent", True)
        result = super().send_task(name, **options | {"unique_call": unique, "add_to_parent": False})
        if unique.taken_by is not None:
            result = self.AsyncResult(unique.taken_by)
            result.repeated = True
            unique_call_repeated.send_robust(sender=type(self), name=name, celery_id=unique.taken_by)
        if is_child and (parent := self.current_worker_task):
            parent.add_trail(result)
        return result

    def _unique_call(self, name: str, options: dict[str, Any]) -> UniqueCall | None:
        """Return what makes the call unique, or None. A call that was given its id is part of something: it is not."""
        unique, unique_by = options.pop("unique", None), options.pop("unique_by", None)
        task = self.tasks.get(name)
        if unique is unique_by is None and getattr(task, "unique", None) is None:
            return None
        call = unique_call(task, name, options.get("args"), options.get("kwargs"), unique, unique_by, options)
        return call if options["has_new_id"] else None

    @contextmanager
    def _all_or_nothing(self) -> Iterator[NoProducer]:
        running = context.current()
        # Calls after the body are held back for the finish anyway. Eager calls are never stored.
        held_back = running is not None and running.finishing
        with nullcontext() if held_back or self.conf.task_always_eager else transaction.atomic():
            yield NO_PRODUCER

    def producer_or_acquire(self, producer: Any = None) -> AbstractContextManager[Any]:
        """Return a context in which Celery calls several tasks: they are stored together or not at all."""
        return self._all_or_nothing() if producer is None else nullcontext(producer)

    def register_task(self, task: Any, **options: Any) -> Any:
        """Register a task class or instance, as Celery's does. Makes a plain Celery task a task of the ledger."""
        if isinstance(task, type):
            task = _in_ledger(task)
        else:
            task.__class__ = _in_ledger(type(task))
        return super().register_task(task, **options)

    def _task_from_fun(self, fun: Any, name: str | None = None, base: Any = None, **options: Any) -> Any:
        base = base if base is None else _in_ledger(base)
        for option in ("on_end", "key"):
            if callable(options.get(option)):
                # A plain function would become a method of the task's class.
                options[option] = staticmethod(options[option])
        return super()._task_from_fun(fun, name=name, base=base, **options)


def _in_ledger(kind: type) -> type:
    """Return the class, combined with `LedgerTask` unless it is one: every task needs the ledger's tracer."""
    from pressroom.execution.task import LedgerTask

    if issubclass(kind, LedgerTask):
        return kind
    return type(kind.__name__, (kind, LedgerTask), {"__module__": kind.__module__, "__doc__": kind.__doc__})
