"""Pings in the admin, read-only."""

from django.contrib import admin

from app.integrations.models import Ping
from pressroom.operations.read_only import ReadOnlyAdmin


@admin.register(Ping)
class PingAdmin(ReadOnlyAdmin[Ping]):
    list_display = ("url", "status", "latency_ms", "error", "checked_at")
