"""The tables behind what the operations pages say of the past: figures of ended runs, and outages."""

from __future__ import annotations

from django.db import models


class Figure(models.Model):
    """How many runs of a task that ended in a minute or an hour have one property. See `pressroom.sql.figures`."""

    minutes = models.SmallIntegerField(help_text="The length of the time: 1 or 60.")
    at = models.DateTimeField(help_text="The beginning of the time, in whole minutes or hours of UTC.")
    queue = models.TextField()
    name = models.TextField(help_text="Of the task.")
    kind = models.TextField(help_text="succeeded, dead or other: how it ended; wait or runtime: how long that took.")
    bucket = models.SmallIntegerField(help_text="Of a wait or a run time; else 0.")
    number = models.BigIntegerField(help_text="Of runs.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["minutes", "at", "queue", "name", "kind", "bucket"],
                name="figure_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.at}: {self.number} of {self.name}, {self.kind} {self.bucket}"


class FiguresMark(models.Model):
    """Until when ended runs are counted in the figures. There is one row."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    until = models.DateTimeField(help_text="Runs that ended before are counted.")

    def __str__(self) -> str:
        return str(self.until)


class UncountedRun(models.Model):
    """An ended run that the count would not find by its time: it was deleted before, or stored long after its end."""

    run_id = models.UUIDField()
    is_deleted = models.BooleanField(help_text="It was deleted before it was counted.")
    queue = models.TextField()
    name = models.TextField()
    status = models.TextField()
    run_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.name} {self.run_id}"


class Outage(models.Model):
    """A service that a relay cannot reach. The row is deleted when it can."""

    REDIS = "redis"

    service = models.TextField(primary_key=True)
    since = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.service} since {self.since}"
