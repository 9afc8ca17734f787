"""The project itself as a Django app: its system checks."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    name = "app"
    label = "pressroom"
    verbose_name = "Pressroom"

    def ready(self) -> None:
        from app import checks

        checks.register()
