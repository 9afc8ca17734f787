"""The Django app of the library."""

from django.apps import AppConfig


class PressroomConfig(AppConfig):
    name = "pressroom"
    label = "taskruns"
    verbose_name = "Background work"

    def ready(self) -> None:
        from pressroom import checks
        from pressroom.beat import admin_edits

        checks.register()
        admin_edits.connect()
