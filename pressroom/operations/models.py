"""No table: what the operations pages may be asked for, as Django's permissions (see `pressroom.http.permissions`)."""

from django.db import models


class Operations(models.Model):  # noqa: DJ008 - there is none to be named
    """Stands for the pages among the admin's models."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [
            ("view_operations", "Can look at tasks, workers and schedules"),
            ("operate", "Can look at tasks, run them again, cancel and discard them, and write schedules"),
        ]
        verbose_name_plural = "overview"
