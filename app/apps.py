"""The project as a Django app. It sets up the system checks, logging and error reports."""

from django.apps import AppConfig
from django.conf import settings


class ProjectConfig(AppConfig):
    name = "app"
    label = "pressroom"
    verbose_name = "Pressroom"

    def ready(self) -> None:
        from app.checks import configuration, external_services
        from app.http import text_fields
        from app.observability import logs

        configuration.register()
        text_fields.install()
        logs.follow_tasks()
        if settings.SENTRY_DSN and not any(external_services.sentry_settings()):
            from app.observability import sentry

            sentry.start(
                dsn=settings.SENTRY_DSN,
                environment=settings.ENVIRONMENT,
                release=settings.RELEASE,
                traces_sample_rate=settings.SENTRY_TRACES_SAMPLE_RATE,
            )
