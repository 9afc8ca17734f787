"""Calls to the world outside: other services' APIs, Slack, pings."""

from django.apps import AppConfig


class IntegrationsConfig(AppConfig):
    name = "app.integrations"
    label = "integrations"
