"""Celery beat on the ledger: a tick moves the schedule on and stores its call in one transaction.

So neither two beats nor one that was killed fire a tick twice or lose one, and none of it needs Redis. Schedules are
django-celery-beat's, edited in the admin; those of the code (`CELERY_BEAT_SCHEDULE`) are made where they are missing
and changed when the code changes, not at every start.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import time
from typing import Any

from celery.beat import SchedulingError
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import F
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from app import schema
from app.taskruns import alive
from app.taskruns.celery import NO_PRODUCER
from app.taskruns.models import CodeSchedule
from app.taskruns.ticks import Ticker

logger = logging.getLogger(__name__)

NO_ANSWER = (DatabaseError, InterfaceError)
PAUSE = 1.0
"""Seconds between two tries to reach Postgres."""


class LedgerEntry(ModelEntry):  # type: ignore[misc]  # without types
    """A schedule as it was read, with the `last_run_at` that the row had then."""

    def __init__(self, model: Any, app: Any = None) -> None:
        self.seen: datetime.datetime | None = model.last_run_at
        super().__init__(model, app)


class LedgerScheduler(DatabaseScheduler):  # type: ignore[misc]  # without types
    """`celery -A app beat` and `celery -A app worker -B` use it by setting."""

    Entry = LedgerEntry
    producer = NO_PRODUCER
    ticker = Ticker("beat")

    def setup_schedule(self) -> None:
        """Wait for the schema, then bring the code's schedules into it."""
        alive.start()
        schema.wait()
        while True:
            try:
                self.update_from_dict(self.app.conf.beat_schedule)
            except NO_ANSWER as error:
                logger.warning("waiting for Postgres: %s", str(error).strip().splitlines()[0])
                connection.close()
                time.sleep(PAUSE)
            else:
                alive.ready()
                return

    def update_from_dict(self, mapping: dict[str, Any]) -> None:
        """Make what is missing, change what the code has changed; an edit in the admin stays otherwise."""
        for name, fields in mapping.items():
            fingerprint = hashlib.sha256(repr(sorted(fields.items())).encode()).hexdigest()
            with transaction.atomic():
                is_there = self.Model.objects.filter(name=name).exists()
                if is_there and CodeSchedule.objects.filter(name=name, fingerprint=fingerprint).exists():
                    continue
                self.Entry.from_entry(name, app=self.app, **fields)
                CodeSchedule.objects.update_or_create(name=name, defaults={"fingerprint": fingerprint})

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Seconds until the next look. Without Postgres nothing is due: what was missed is, once it answers."""
        try:
            pause = float(super().tick(*args, **kwargs))
            self.ticker.tick()
        except NO_ANSWER as error:
            logger.warning("no tick: Postgres gave no answer: %s", str(error).strip())
            self._read_again()
            return PAUSE
        return pause

    def apply_entry(self, entry: LedgerEntry, producer: Any = None) -> None:
        """One tick: whoever moves `last_run_at` on from what was read makes the call, in the same transaction."""
        model = entry.model
        with transaction.atomic():
            ours = self.Model.objects.filter(pk=model.pk, enabled=True, last_run_at=entry.seen).update(
                last_run_at=model.last_run_at, total_run_count=F("total_run_count") + 1
            )
            if ours:
                self._call(entry)
        if not ours:
            # Another beat was faster, or an admin has switched it off.
            self._read_again()

    def _call(self, entry: LedgerEntry) -> None:
        try:
            with transaction.atomic():
                result = self.apply_async(entry, producer=NO_PRODUCER, advance=False)
        except SchedulingError as error:
            if isinstance(error.__cause__, NO_ANSWER) or isinstance(error.__context__, NO_ANSWER):
                raise DatabaseError(str(error)) from error
            # A schedule that cannot be called must not keep the others waiting: it moves on.
            logger.exception("the schedule %s cannot be called", entry.name)
        else:
            logger.info("schedule %s: %s[%s]", entry.name, entry.task, result.id)

    def _read_again(self) -> None:
        connection.close_if_unusable_or_obsolete()
        self._last_full_sync = datetime.datetime.min  # noqa: DTZ901 - compared with the library's naive times

    def sync(self) -> None:
        """Nothing: each tick has written its own row."""
        self._dirty.clear()
