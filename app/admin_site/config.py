"""Configuration of Django's admin. Only processes that serve or check the admin load its pages; workers do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib.admin import autodiscover
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class AdminConfig(SimpleAdminConfig):
    """Replaces ``django.contrib.admin`` in INSTALLED_APPS. ``app.urls`` calls ``autodiscover``."""

    default_site = "app.admin_site.site.PressroomAdminSite"

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_pages, checks.Tags.admin)


def check_pages(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """Load all admin modules, then run Django's check of them."""
    autodiscover()
    return check_admin_app(app_configs, **kwargs)
