"""No table: what the operations pages may be asked for, as Django's permissions."""

from django.db import models

VIEW = "operations.view_operations"
OPERATE = "operations.operate"


class Operations(models.Model):  # noqa: DJ008 - there is none to be named
    """Stands for the pages among the admin's models."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [
            ("view_operations", "Can look at tasks, workers and schedules"),
            ("operate", "Can run tasks again, cancel and discard them, and pause schedules"),
        ]
        verbose_name_plural = "overview"
