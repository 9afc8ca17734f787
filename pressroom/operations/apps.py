"""Pages in the admin that show the background work and act on it."""

from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "pressroom.operations"
    label = "operations"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Operations"
