"""Celery beat on the ledger: a tick advances the schedule and stores its call in one transaction.

Two beats, or one that is killed, therefore never fire a tick twice or lose one. Beat does not need Redis. Schedules are
django-celery-beat's rows, edited in the admin. Beat creates the schedules of the code (`CELERY_BEAT_SCHEDULE`) when
they are missing, and changes them when the code changes, not at every start.

Beat outlives any single schedule. An error that does not mean that Postgres is away belongs to the schedule. Beat sets
that schedule aside with its error, and tries it again when it changes, at its next time, or every five minutes.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from celery.beat import SchedulingError
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django_celery_beat.schedulers import SCHEDULE_SYNC_MAX_INTERVAL, DatabaseScheduler

from pressroom.beat.broken_schedules import Marks, Stage
from pressroom.beat.entry import LedgerEntry, code_schedules, read_schedules
from pressroom.celery_app.app import NO_PRODUCER
from pressroom.database import readiness
from pressroom.database.errors import is_no_answer, is_passing
from pressroom.models import CodeSchedule, SkippedTick
from pressroom.process import alive_file
from pressroom.process.user_code import guarded
from pressroom.sql.rounds import Ticker

logger = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two attempts to reach Postgres."""
TRIES = 3
"""How often a tick is tried when its transaction conflicts with another one."""
LONGEST_ROUND = 5.0
"""Seconds after a reading of the schedules for which beat fires what is due before it looks for changes again."""
LONGEST_NAME = 200
"""Characters of a name, as in django-celery-beat's table."""


class LedgerScheduler(DatabaseScheduler):  # type: ignore[misc]  # without types
    """The scheduler of `celery -A app beat` and `celery -A app worker -B`, chosen by a setting."""

    Entry = LedgerEntry
    producer = NO_PRODUCER
    ticker = Ticker("beat")
    _last_timestamp: datetime.datetime | None
    """When somebody last changed a schedule, as of the last look."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.marks = Marks()
        self._warned = ""
        self._read_at = float("-inf")
        self._code_tried_at = float("-inf")
        """When the code's schedules were last stored, by the monotonic clock, as above."""
        self._has_looked = False
        """Whether this tick has looked for changes."""
        self._is_outdated = False
        """Whether a row turned out to have changed since it was read."""
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Wait for the schema, then store the code's schedules."""
        alive_file.start()
        readiness.wait()
        while True:
            try:
                self.marks.read()
                self.take_over_code()
            except Exception as error:  # noqa: BLE001 - no schedule causes it, so only waiting helps
                self._warn("waiting for Postgres", error)
                connection.close()
                time.sleep(PAUSE)
            else:
                alive_file.ready()
                return

    # ---- Reading schedules ----

    def take_over_code(self, only_broken: bool = False) -> None:
        """Store the code's schedules, and set aside those that cannot be stored."""
        self._code_tried_at = time.monotonic()
        try:
            found = code_schedules(self.app)
        except ValueError as error:
            self.marks.set_aside(Stage.CODE, "beat_schedule", error)
            self.marks.keep(Stage.CODE, ["beat_schedule"])
            return
        self.marks.keep(Stage.CODE, found)
        self.update_from_dict(
            {name: entry for name, entry in found.items() if not only_broken or self.marks.has(Stage.CODE, name)}
        )

    def update_from_dict(self, mapping: dict[str, Any]) -> None:
        """Create missing schedules and update those that the code has changed. Keep all other edits in the admin."""
        for name, fields in mapping.items():
            try:
                with transaction.atomic():
                    self._take_over(name, fields)
            except Exception as error:
                if is_no_answer(error):
                    raise
                self.marks.set_aside(Stage.CODE, name, error)
            else:
                self.marks.clear(Stage.CODE, name)

    def _take_over(self, name: Any, fields: Any) -> None:
        if not isinstance(name, str) or not isinstance(fields, Mapping):
            raise TypeError("a schedule needs a string as its name, and a mapping with its task and its schedule")
        if len(name) > LONGEST_NAME:
            raise ValueError(f"the name has {len(name)} characters; at most {LONGEST_NAME} are allowed")
        if missing := [key for key in ("task", "schedule") if fields.get(key) is None]:
            raise ValueError(f"it has no {' and no '.join(missing)}")
        fingerprint = hashlib.sha256(repr(sorted(fields.items())).encode(errors="backslashreplace")).hexdigest()
        is_there = self.Model.objects.filter(name=name).exists()
        if is_there and CodeSchedule.objects.filter(name=name, fingerprint=fingerprint).exists():
            return
        self.Entry.from_entry(name, app=self.app, **fields)
        CodeSchedule.objects.update_or_create(name=name, defaults={"fingerprint": fingerprint})

    def schedule_changed(self) -> bool:
        """Return whether the schedules have to be read again.

        A tick fires one schedule, and Celery looks for changes several times in a tick. If somebody edits schedules all
        the time, beat must not do nothing but read them.
        """
        if self._has_looked or (time.monotonic() < self._read_at + LONGEST_ROUND and self._has_due()):
            return False
        self._has_looked = True
        return bool(super().schedule_changed()) or self._is_outdated

    def _has_due(self) -> bool:
        return bool(self._heap) and self._heap[0].time <= self._when(self._heap[0].entry, 0)

    def all_as_schedule(self) -> dict[str, LedgerEntry]:
        """Return the enabled schedules that can be read, and set the others aside.

        Crontabs of other hours are included, because a run that was missed while beat was away is due at any hour.
        """
        self._has_looked, self._is_outdated = True, False
        if self._last_timestamp is None:
            # The library would take the time of the first look, and miss what changes before it.
            self._last_timestamp = self.Changes.last_change() or datetime.datetime.min.replace(tzinfo=datetime.UTC)
        self.marks.read()
        if time.monotonic() >= self._code_tried_at + SCHEDULE_SYNC_MAX_INTERVAL:
            # Storing them costs several statements each. Somebody else's edit is no reason for that.
            self.take_over_code(only_broken=True)
        entries: dict[str, LedgerEntry] = {}
        enabled = []
        for read in read_schedules(self.Model.objects.filter(enabled=True), self.app):
            enabled.append(read.name)
            if read.entry is not None:
                entries[read.name] = read.entry
            elif read.error is not None:
                self.marks.set_aside(Stage.ROW, read.name, read.error)
        self.marks.keep(Stage.ROW, set(enabled) - entries.keys())
        self.marks.keep(Stage.CALL, enabled)
        self._read_at = time.monotonic()
        return entries

    # ---- Firing due schedules ----

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Fire what is due and return the seconds until the next look.

        While Postgres is away nothing is due. What was missed is due once Postgres answers again.
        """
        self._has_looked = False
        try:
            pause = float(super().tick(*args, **kwargs))
            self.ticker.tick()
        except Exception as error:  # noqa: BLE001 - a schedule's own errors are set aside below; this is not one
            self._warn("no tick: Postgres did not answer" if is_no_answer(error) else "no tick", error)
            self._read_again()
            return PAUSE
        self._warned = ""
        return pause

    def _is_due_failed(self, entry: LedgerEntry) -> tuple[bool, float]:
        """Set aside a schedule whose next time cannot be computed. It is tried again when all are read again."""
        error = sys.exception()
        assert error is not None
        if is_no_answer(error):
            raise error
        self.marks.set_aside(Stage.ROW, entry.name, error)
        return False, SCHEDULE_SYNC_MAX_INTERVAL

    def apply_entry(self, entry: LedgerEntry, producer: Any = None) -> None:
        """Fire one tick: the beat that advances `last_run_at` from the value it read makes the call.

        Both happen in one transaction. If the call cannot be made, or its transaction is refused, the schedule advances
        without the call and is set aside.
        """
        for tries in range(1, TRIES + 1):
            try:
                ours = self._fire(entry)
            except Exception as error:
                cause = error.__context__ if isinstance(error, SchedulingError) and error.__context__ else error
                if is_no_answer(cause):
                    raise
                if is_passing(cause) and tries < TRIES:
                    continue
                ours = self._pass_over(entry, cause)
            break
        if not ours:
            # Another beat was faster, or somebody edited the schedule or switched it off. What else is due comes first.
            self._is_outdated = True

    def _fire(self, entry: LedgerEntry) -> bool:
        with transaction.atomic():
            if not self._move_on(entry):
                return False
            result = guarded("the call", self.apply_async, entry, producer=NO_PRODUCER, advance=False)
            self.marks.clear(Stage.CALL, entry.name)
            is_skipped = getattr(result, "repeated", False)
            if is_skipped:
                self._record_skipped(entry, result.id)
        logger.info("schedule %s: %s[%s]%s", entry.name, entry.task, getattr(result, "id", result),
                    " still stands, the tick is skipped" if is_skipped else "")  # fmt: skip
        return True

    def _record_skipped(self, entry: LedgerEntry, celery_id: str) -> None:
        """Record a tick that called nothing. It does not count as a run, except as the only one of a one-off."""
        if not entry.model.one_off:
            self.Model.objects.filter(pk=entry.model.pk).update(total_run_count=F("total_run_count") - 1)
        SkippedTick.objects.update_or_create(
            schedule=entry.name,
            create_defaults={"number": 1, "at": Now(), "celery_id": celery_id},
            defaults={"number": F("number") + 1, "at": Now(), "celery_id": celery_id},
        )

    def _pass_over(self, entry: LedgerEntry, error: BaseException) -> bool:
        try:
            with transaction.atomic():
                if not self._move_on(entry):
                    logger.error(
                        "the call of the schedule %s failed, and its row has changed", entry.name, exc_info=error
                    )
                    return False
                self.marks.set_aside(Stage.CALL, entry.name, error)
        except Exception as another:
            if is_no_answer(another):
                raise
            # The row cannot even be advanced.
            self.marks.set_aside(Stage.CALL, entry.name, another)
        return True

    def _move_on(self, entry: LedgerEntry) -> int:
        """Advance the row if it is still as it was read. Returns the number of rows that were advanced: 1 or 0."""
        as_read = self.Model.objects.filter(
            pk=entry.model.pk, enabled=True, last_run_at=entry.seen, date_changed=entry.changed
        )
        moved: int = as_read.update(last_run_at=entry.model.last_run_at, total_run_count=F("total_run_count") + 1)
        return moved

    def _read_again(self) -> None:
        connection.close_if_unusable_or_obsolete()
        self._last_full_sync = datetime.datetime.min  # noqa: DTZ901 - compared with the library's naive times

    def _warn(self, what: str, error: Exception) -> None:
        """Log a warning, once while it stays the same."""
        text = f"{what}: {(str(error).strip() or repr(error)).splitlines()[0]}"
        if text != self._warned:
            logger.warning("%s", text, exc_info=None if is_no_answer(error) else error)
            self._warned = text

    def sync(self) -> None:
        """Write nothing, because each tick has written its own row."""
        self._dirty.clear()
