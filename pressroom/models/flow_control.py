"""The tables of flow control: pauses, limits and unique calls. See docs/decisions/0028."""

from __future__ import annotations

import json

from django.conf import settings
from django.db import models
from django.db.models import Q

from pressroom.queues import LANE_SEPARATOR, rate_as_text
from pressroom.text import carried


class Target(models.TextChoices):
    """What an operator can limit."""

    QUEUE = "queue", "queue"
    TASK = "task", "task"


class PauseTarget(models.TextChoices):
    """What an operator can pause."""

    QUEUE = "queue", "queue"
    TASK = "task", "task"
    KEY = "key", "key of a task"


class Held(models.IntegerChoices):
    """Why a waiting run may not start: docs/decisions/0028. A run that may start when it is due has null."""

    ARRIVED = 1, "arrived"
    """It has a limit, and the relay has not put it into its lane yet."""
    IN_LANE = 2, "waits for a place"
    """It waits in its lane for a place under its limit."""
    PAUSED = 3, "paused"
    """Its queue or its task is paused."""


class Limit(models.Model):
    """The limit of a task or a queue. What is in force is what an operator has set, or else what the code says."""

    kind = models.TextField(choices=Target)
    name = models.TextField()
    concurrency = models.PositiveIntegerField(null=True, help_text="Runs at once.")
    rate = models.PositiveIntegerField(null=True, help_text="Starts in a period.")
    period = models.FloatField(null=True, help_text="Seconds.")
    code_concurrency = models.PositiveIntegerField(null=True)
    code_rate = models.PositiveIntegerField(null=True)
    code_period = models.FloatField(null=True)
    seen_at = models.DateTimeField(help_text="When code that has it was last seen, to some minutes.")
    set_at = models.DateTimeField(null=True, help_text="When an operator set what is in force; null: it is the code's.")
    set_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False,
        db_constraint=False, help_text="Who set it; null for a command or code.",
    )  # fmt: skip

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "name"], name="limit_once")]

    def __str__(self) -> str:
        return f"the limit of the {self.kind} {self.name}"

    @property
    def rate_text(self) -> str | None:
        """The rate that is in force, as in the code."""
        return None if self.rate is None or self.period is None else rate_as_text(self.rate, self.period)

    @property
    def in_force(self) -> str:
        """What is in force, in words."""
        return _in_words(self.concurrency, self.rate, self.period)

    @property
    def of_code(self) -> str:
        """What the code says, in words."""
        return _in_words(self.code_concurrency, self.code_rate, self.code_period)


def key_text(lane: str) -> str:
    """Return the key of a lane as JSON, or the words for its digest; nothing for a lane without a key."""
    key = lane.partition(LANE_SEPARATOR)[2]
    try:
        # A key is ASCII in the lane, whatever characters it has.
        return carried(json.dumps(json.loads(key), ensure_ascii=False))
    except ValueError:
        return f"with the digest {key}" if key else ""


def _in_words(concurrency: int | None, rate: int | None, period: float | None) -> str:
    parts = [] if concurrency is None else [f"{concurrency:,} at once"]
    if rate is not None and period is not None:
        parts.append(rate_as_text(rate, period))
    return ", ".join(parts) or "no limit"


class Lane(models.Model):
    """The runs of a queue that wait for the same limit and key. It exists as long as any wait."""

    lane = models.TextField(help_text="As a run's.")
    queue = models.TextField()
    served_at = models.DateTimeField(help_text="When a run of it was last admitted.")
    is_ready = models.BooleanField(help_text="Whether there may be a place for its first run.")
    ready_at = models.DateTimeField(null=True, help_text="When there may be one again; null: when a place is freed.")

    class Meta:
        indexes = [
            models.Index(fields=["queue", "served_at"], name="lane_next", condition=Q(is_ready=True)),
            models.Index(fields=["ready_at"], name="lane_later", condition=Q(is_ready=False, ready_at__isnull=False)),
        ]
        constraints = [models.UniqueConstraint(fields=["lane", "queue"], name="lane_once")]

    def __str__(self) -> str:
        return self.lane.replace(LANE_SEPARATOR, ": ")


class Start(models.Model):
    """A start of a run whose limit has a rate."""

    lane = models.TextField(help_text="Of the run; for the rate of a queue, chr(31) and its name.")
    at = models.DateTimeField(db_index=True)

    class Meta:
        indexes = [models.Index(fields=["lane", "at"], name="start_lane")]

    def __str__(self) -> str:
        return f"{self.lane} at {self.at}"


class FreedPlace(models.Model):
    """A place that was freed in a lane since the relay last looked."""

    lane = models.TextField()

    def __str__(self) -> str:
        return self.lane


class UniqueCall(models.Model):
    """A call that is unique for a number of seconds, which its run may not live for."""

    key = models.TextField(primary_key=True)
    celery_id = models.TextField()
    ends_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.key


class Pause(models.Model):
    """A queue, a task or a key of a task that is paused: no run of it starts until the row is deleted."""

    kind = models.TextField(choices=PauseTarget)
    name = models.TextField(help_text="Of the queue or the task.")
    lane = models.TextField(default="", db_default="", help_text="Of a key: the lane of its runs.")
    since = models.DateTimeField()
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False,
        db_constraint=False, help_text="Who paused it; null for a command or code.",
    )  # fmt: skip

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "name", "lane"], name="pause_once")]

    def __str__(self) -> str:
        if self.kind == PauseTarget.KEY:
            return f"the key {self.key_text} of the task {self.name}"
        return f"the {self.kind} {self.name}"

    @property
    def key_text(self) -> str:
        """The key of a pause of one, in words; else empty."""
        return key_text(self.lane)
