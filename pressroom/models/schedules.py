"""What beat knows of schedules beside django-celery-beat's rows."""

from __future__ import annotations

from django.db import models


class CodeSchedule(models.Model):
    """A schedule of the code as beat last read it. Only a change in the code overwrites an admin's edit."""

    name = models.TextField(primary_key=True)
    fingerprint = models.TextField()

    def __str__(self) -> str:
        return self.name


class BrokenSchedule(models.Model):
    """A schedule that beat has set aside, with its error. Beat deletes the row once the schedule works."""

    class Stage(models.TextChoices):
        """The stage at which the schedule failed."""

        CODE = "code", "the code's schedule was not taken over"
        ROW = "row", "the schedule cannot be read"
        CALL = "call", "its last call could not be made"

    stage = models.TextField(choices=Stage.choices)
    name = models.TextField(help_text="Of the schedule: one of the code has no row yet.")
    error = models.TextField()
    since = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["stage", "name"], name="brokenschedule_once")]

    def __str__(self) -> str:
        return f"{self.name}: {self.error}"


class SkippedTick(models.Model):
    """The ticks of a schedule that called nothing, because the last run of its unique task still stood."""

    schedule = models.TextField(primary_key=True, help_text="Its name.")
    number = models.BigIntegerField(default=0)
    at = models.DateTimeField(help_text="The last one.")
    celery_id = models.TextField(help_text="Of the call that stood.")

    def __str__(self) -> str:
        return f"{self.schedule}: {self.number}"
