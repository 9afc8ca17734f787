"""The results of pinging the addresses in PING_URLS."""

from __future__ import annotations

from django.db import models


class Ping(models.Model):
    """The last ping of a URL."""

    url = models.TextField(unique=True)
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status; none where there was no answer.")
    error = models.TextField(default="", help_text="Why there was no answer.")
    latency_ms = models.PositiveIntegerField(null=True, help_text="Milliseconds until the whole answer was there.")
    checked_at = models.DateTimeField()

    class Meta:
        ordering = ["url"]

    def __str__(self) -> str:
        return self.url
