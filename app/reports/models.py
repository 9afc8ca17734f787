"""Reports, their sections, and the mails of the daily summary."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from app.reports.periods import Period


class Report(models.Model):
    """A file of statistics. Tasks compute its sections in parallel; another task then assembles them."""

    class Kind(models.TextChoices):
        ACTIVITY = "activity"
        SUBSCRIBERS = "subscribers"

    class Format(models.TextChoices):
        PDF = "pdf"
        CSV = "csv"

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        READY = "ready"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="reports")
    kind = models.TextField(choices=Kind.choices)
    format = models.TextField(choices=Format.choices)
    first_day = models.DateField()
    last_day = models.DateField(help_text="Included.")
    status = models.TextField(choices=Status.choices, default=Status.QUEUED)
    error = models.TextField(default="", help_text="Why it failed.")
    task = models.UUIDField(help_text="The run that it was ordered with.")
    file = models.TextField(default="", help_text="Its name in the storage, once it is ready.")
    size = models.BigIntegerField(null=True, help_text="Of the file, in bytes.")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["created_at"], name="report_created")]
        permissions = [("order_subscribers", "Can order and read reports of subscribers and their addresses")]

    def __str__(self) -> str:
        return f"{self.kind} {self.period}"

    @property
    def period(self) -> Period:
        return Period(self.first_day, self.last_day)

    @property
    def title(self) -> str:
        return f"{self.get_kind_display()} report"

    @property
    def download_name(self) -> str:
        return f"{self.kind}-{self.first_day}-{self.last_day}.{self.format}"


class ReportSection(models.Model):
    """A section of a report. A task computes it and stores it as a file until the report is assembled."""

    report = models.ForeignKey(Report, on_delete=models.CASCADE, related_name="sections")
    position = models.PositiveSmallIntegerField()
    name = models.TextField(help_text="In app/reports/sections.py.")
    file = models.TextField(default="", help_text="Its name in the storage, while it is there.")
    done_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["report", "position"]
        constraints = [models.UniqueConstraint(fields=["report", "position"], name="report_section_once")]

    def __str__(self) -> str:
        return f"{self.name} of {self.report_id}"


class SummaryMail(models.Model):
    """The record that a daily summary was accepted or refused, written as soon as the mail server has answered."""

    day = models.DateField()
    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    refused = models.TextField(default="", help_text="What the mail server said, where it refused the address.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "recipient"], name="summary_mail_once")]

    def __str__(self) -> str:
        return f"{self.day} to {self.recipient_id}"
