"""The Django app of the library."""

from typing import Any

import django_stubs_ext
from django.apps import AppConfig
from django.db import DEFAULT_DB_ALIAS
from django.db.models.signals import post_migrate

from pressroom import conf

# Allow ModelAdmin[TaskRun], which the type checker requires and Django does not support.
django_stubs_ext.monkeypatch()


class PressroomConfig(AppConfig):
    name = "pressroom"
    label = "taskruns"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Background work"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        conf.set_defaults()

    def ready(self) -> None:
        from pressroom import checks, tracing
        from pressroom.beat import admin_edits

        tracing.start()
        checks.register()
        post_migrate.connect(_make_partitions, sender=self)
        admin_edits.connect()


def _make_partitions(using: str, **_: Any) -> None:
    from pressroom.sql import history

    if using == DEFAULT_DB_ALIAS:
        history.make_ahead()
