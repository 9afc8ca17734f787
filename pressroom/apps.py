"""The ledger of background work."""

from django.apps import AppConfig


class TaskrunsConfig(AppConfig):
    name = "app.taskruns"
    label = "taskruns"
    verbose_name = "Background work"

    def ready(self) -> None:
        from app.taskruns import beat_saves

        beat_saves.connect()
