"""The Django app of the library."""

from typing import Any

import django_stubs_ext
from django.apps import AppConfig

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
        from pressroom import checks
        from pressroom.beat import admin_edits

        checks.register()
        admin_edits.connect()
