"""The permissions of the operations pages, on a model without a table (see `pressroom.http.permissions`)."""

from django.db import models


class Operations(models.Model):  # noqa: DJ008 - the model has no instances
    """Represents the pages among the admin's models."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [
            ("view_operations", "Can look at tasks, workers and schedules"),
            ("operate", "Can look at tasks, run them again, cancel and discard them, and write schedules"),
        ]
        verbose_name_plural = "overview"
