"""Integrations: calls to other services, Slack and pings."""

from django.apps import AppConfig


class IntegrationsConfig(AppConfig):
    name = "app.integrations"
    label = "integrations"
