"""The ledger: outbox and inbox in one. Postgres is the truth; Redis only dispatches.

A call is appended to TaskCall. A run is a small row of LiveRun until it ends, and a row of EndedRun afterwards. TaskRun
shows both as one: docs/decisions/0022.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.functional import cached_property

from pressroom.conf import SUSPECT_AFTER
from pressroom.models.bulk_actions import BulkAction as BulkAction
from pressroom.models.figures import Figure as Figure
from pressroom.models.figures import FiguresMark as FiguresMark
from pressroom.models.figures import Outage as Outage
from pressroom.models.figures import UncountedRun as UncountedRun
from pressroom.models.flow_control import FreedPlace as FreedPlace
from pressroom.models.flow_control import Held as Held
from pressroom.models.flow_control import Lane as Lane
from pressroom.models.flow_control import Limit as Limit
from pressroom.models.flow_control import Pause as Pause
from pressroom.models.flow_control import PauseTarget as PauseTarget
from pressroom.models.flow_control import Start as Start
from pressroom.models.flow_control import Target as Target
from pressroom.models.flow_control import UniqueCall as UniqueCall
from pressroom.models.schedules import BrokenSchedule as BrokenSchedule
from pressroom.models.schedules import CodeSchedule as CodeSchedule
from pressroom.models.schedules import SkippedTick as SkippedTick
from pressroom.uuid7 import uuid7

if TYPE_CHECKING:
    from celery.result import AsyncResult


class Status(models.TextChoices):
    """The status of a run. The first three are live: the run has not ended."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REPLACED = "replaced"
    """Ended without a verdict of its own: other tasks replaced it, or it raised Ignore."""


WAITING = (Status.QUEUED, Status.RETRYING)
LIVE = (*WAITING, Status.RUNNING)
NOTABLE = (Status.RETRYING, Status.DEAD, Status.CANCELLED, Status.EXPIRED, Status.REPLACED)
"""Statuses outside the usual course of a run. They are rare, so they have an index of their own."""


class Worker(models.Model):
    """A worker process and its heartbeat. It gets a new id at every start and after it was declared dead."""

    name = models.TextField(help_text="Celery's node name.")
    queues = models.JSONField(help_text="Names of the queues it consumes.")
    slots = models.PositiveIntegerField(help_text="How many tasks it runs at once.")
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()
    stopping_at = models.DateTimeField(null=True, help_text="When it was first seen to take no more tasks.")
    dead_at = models.DateTimeField(null=True, help_text="When it left or was declared dead.")
    lost = models.BooleanField(db_default=False, help_text="It was declared dead: it did not leave by itself.")
    place = models.TextField(db_default="", help_text="Where its process runs, as JSON.")
    memory = models.BigIntegerField(null=True, help_text="Bytes that it and its processes held at the last heartbeat.")

    class Meta:
        indexes = [models.Index(fields=["heartbeat_at"], name="worker_alive", condition=Q(dead_at=None))]

    def __str__(self) -> str:
        return f"{self.name} ({self.pk})"


class TaskCall(models.Model):
    """The message of a call, as JSON text. jsonb would refuse NUL and change what is sent.

    The table is partitioned by the day of the key. Rows are appended; a partition is dropped as a whole.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    headers = models.TextField()
    body = models.TextField()
    properties = models.TextField()

    def __str__(self) -> str:
        return str(self.id)


class _Run(models.Model):
    """What is known of a run while it is live and after it has ended."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    celery_id = models.TextField(help_text="Celery's task id; unique among live runs only.")
    name = models.TextField(help_text="Name of the task.")
    queue = models.TextField()
    priority = models.SmallIntegerField(default=0, help_text="0 first, as Celery has it on Redis.")
    status = models.TextField(choices=Status.choices, default=Status.QUEUED)
    # Without a constraint: neither a call nor an end may fail because the user is being deleted.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False,
        db_constraint=False,
    )  # fmt: skip

    created_at = models.DateTimeField()
    run_at = models.DateTimeField(help_text="Due from then on.")
    expires_at = models.DateTimeField(null=True)
    published_at = models.DateTimeField(null=True, help_text="When it was last given to Redis.")
    started_at = models.DateTimeField(null=True, help_text="Start of the last attempt.")

    attempt = models.PositiveIntegerField(default=0, help_text="How often it was claimed.")
    losses = models.PositiveIntegerField(default=0, help_text="Attempts that ended without a verdict.")
    misses = models.PositiveIntegerField(
        default=0, help_text="Dispatches that ended without a claim since it was last called."
    )
    unknown_since = models.DateTimeField(null=True, help_text="When a worker first did not know the task's name.")
    claim = models.UUIDField(null=True, help_text="Token of the last claim: the fence of its finish.")
    worker = models.ForeignKey(
        Worker, null=True, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )

    cancel_requested_at = models.DateTimeField(null=True, help_text="When a running one was asked to stop.")
    retry_of = models.ForeignKey(
        "TaskRun", null=True, on_delete=models.DO_NOTHING, related_name="+", db_index=False, db_constraint=False,
        help_text="The run that it repeats.",
    )  # fmt: skip

    progress_current = models.BigIntegerField(null=True)
    progress_total = models.BigIntegerField(null=True)
    progress_message = models.TextField(default="")

    result = models.TextField(null=True, help_text="JSON: what the task returned, or the exception as Celery has it.")
    error_type = models.TextField(default="")
    error = models.TextField(default="")
    traceback = models.TextField(default="")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.name} {self.id} ({self.status})"

    @cached_property
    def call(self) -> TaskCall:
        """The run's message. Raises TaskCall.DoesNotExist if the ledger has dropped it meanwhile."""
        return TaskCall.objects.get(pk=self.pk)

    @property
    def headers(self) -> str:
        return self.call.headers

    @property
    def body(self) -> str:
        return self.call.body

    @property
    def properties(self) -> str:
        return self.call.properties

    @property
    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments of the call."""
        args, kwargs, _ = json.loads(self.body)
        return args, kwargs


class LiveRun(_Run):
    """A run that has not ended. This is the queue: small, and written often."""

    held = models.SmallIntegerField(null=True, choices=Held, help_text="Why it may not start, if it may not.")
    lane = models.TextField(
        null=True, help_text="Where it waits for a limit: the task's name if the task has one, chr(31), the call's key."
    )
    unique_key = models.TextField(null=True, help_text="Of a unique call, as long as others are not stored for it.")

    finished_at = None
    children = None

    class Meta:
        # A condition names each status: from a literal Postgres can prove that a partial index applies.
        # Each of them costs every task about a microsecond when its row is written, whether it is in there or not.
        indexes = [
            models.Index(
                fields=["queue", "priority", "run_at"],
                name="liverun_due",
                condition=Q(status__in=WAITING, published_at=None, held=None),
            ),
            models.Index(fields=["queue", "name", "run_at"], name="liverun_paused", condition=Q(held=Held.PAUSED)),
            models.Index(
                fields=["queue", "lane", "priority", "run_at"], name="liverun_lane", condition=Q(held=Held.IN_LANE)
            ),
            models.Index(fields=["held", "queue", "run_at"], name="liverun_held", condition=Q(held__isnull=False)),
            # Of a queue, too: all that have a place are few.
            models.Index(fields=["lane", "queue"], name="liverun_place", condition=Q(lane__isnull=False, held=None)),
            models.Index(
                fields=["queue", "priority", "run_at"],
                name="liverun_published",
                condition=Q(status__in=WAITING, published_at__isnull=False),
            ),
            models.Index(fields=["worker"], name="liverun_running", condition=Q(status=Status.RUNNING)),
            models.Index(
                fields=["expires_at"],
                name="liverun_expiring",
                condition=Q(status__in=WAITING, expires_at__isnull=False),
            ),
            models.Index(fields=["queue"], name="liverun_suspect", condition=Q(losses__gte=SUSPECT_AFTER)),
            models.Index(fields=["id"], name="liverun_retrying", condition=Q(status=Status.RETRYING)),
            # Only runs with an owner: most have none, and every change of those would have to be written here, too.
            models.Index(fields=["owner", "id"], name="liverun_owner", condition=Q(owner__isnull=False)),
            models.Index(fields=["retry_of"], name="liverun_retry_of", condition=Q(retry_of__isnull=False)),
        ]
        constraints = [
            models.UniqueConstraint(fields=["celery_id"], name="liverun_celery_id"),
            models.UniqueConstraint(
                fields=["unique_key"], name="liverun_unique", condition=Q(unique_key__isnull=False)
            ),
            # Postgres need not look here for a run that has ended.
            models.CheckConstraint(condition=Q(status__in=LIVE), name="liverun_status"),
        ]


class EndedRun(_Run):
    """A run that has ended. The table is partitioned as that of the calls. Its indexes are in
    ``history.sql``."""

    finished_at = models.DateTimeField()
    children = models.TextField(null=True, help_text="JSON: the tasks it called, as Celery's results have them.")


class TaskRun(_Run):
    """A run: one call of a task, from the transaction of the call to its end. Live and ended ones, to be read.

    It is a view of LiveRun and EndedRun. Its message is in TaskCall and is read where it is used.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False
    )
    finished_at = models.DateTimeField(null=True)
    children = models.TextField(null=True)

    class Meta:
        managed = False
        ordering = ["-id"]

    @classmethod
    def of(cls, result: AsyncResult[Any]) -> TaskRun:
        """Return the newest run of the call whose ``delay()`` returned ``result``. Raises TaskRun.DoesNotExist."""
        run = cls.objects.filter(celery_id=result.id).order_by("-id").first()
        if run is None:
            raise cls.DoesNotExist(f"no run has the Celery id {result.id}")
        return run


class TaskAttempt(models.Model):
    """An attempt that did not succeed: it was retried, failed or lost. The run itself records a success.

    The table is partitioned as that of the calls.
    """

    run = models.ForeignKey(
        TaskRun, on_delete=models.DO_NOTHING, related_name="attempts", db_constraint=False, db_index=False
    )
    number = models.PositiveIntegerField()
    outcome = models.TextField(choices=[(name, name) for name in ("retried", "failed", "lost")])
    worker_name = models.TextField(default="")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField()
    error_type = models.TextField(default="")
    error = models.TextField(default="")
    traceback = models.TextField(default="")

    class Meta:
        ordering = ["run", "number"]

    def __str__(self) -> str:
        return f"{self.run_id} attempt {self.number}: {self.outcome}"


class StoredResult(models.Model):
    """A result that no run holds: of a step of a chain that never ran, or a state that a task set (`update_state`)."""

    celery_id = models.TextField(primary_key=True)
    state = models.TextField(help_text="Celery's, or the task's own (`update_state`).")
    result = models.TextField(null=True, help_text="JSON.")
    traceback = models.TextField(default="")
    children = models.TextField(null=True, help_text="JSON: as a run's.")
    stored_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.celery_id}: {self.state}"


class TaskGroup(models.Model):
    """A group's structure, and a chord's count, which the transactions that finish its parts increase."""

    group_id = models.TextField(primary_key=True)
    structure = models.TextField(null=True, help_text="JSON: the GroupResult, where it was saved or is nested.")
    size = models.PositiveIntegerField(null=True, help_text="How many parts the chord's header has.")
    done = models.PositiveIntegerField(default=0)
    fired = models.BooleanField(default=False, help_text="The chord's callback was called: once.")
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.group_id}: {self.done} of {self.size}"


class ChordPart(models.Model):
    """The result of one part of a chord's header."""

    group = models.ForeignKey(TaskGroup, on_delete=models.CASCADE, related_name="parts", db_constraint=False)
    celery_id = models.TextField()
    position = models.FloatField(help_text="In the header; infinite where Celery gives none.")
    state = models.TextField()
    result = models.TextField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["group", "celery_id"], name="chordpart_once")]

    def __str__(self) -> str:
        return f"{self.celery_id} of {self.group_id}: {self.state}"


class Undeliverable(models.Model):
    """A message from a queue that no worker could read as a task, kept unchanged."""

    queue = models.TextField()
    message = models.BinaryField(help_text="As it stood in the Redis list.")
    reason = models.TextField()
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "undeliverable message"

    def __str__(self) -> str:
        return f"{self.queue}: {self.reason}"


class Tick(models.Model):
    """When a kind of process last completed a round."""

    name = models.TextField(primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class IdempotencyKey(models.Model):
    """The response to a POST with an Idempotency-Key, written in the same transaction as the work."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    address = models.TextField(db_default="", help_text="Of a caller who is not signed in.")
    key = models.TextField()
    request = models.TextField(help_text="HMAC of method, path and body: it may stand for a password.")
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField()
    body = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "address", "key"], name="idempotency_key_once", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return self.key
