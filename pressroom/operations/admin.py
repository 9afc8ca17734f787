"""The link from the admin's index to the operations pages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.views.generic import RedirectView

from pressroom.http.permissions import may_view
from pressroom.operations import schedule_admin
from pressroom.operations.models import Operations
from pressroom.operations.read_only import ReadOnly

schedule_admin.register()


@admin.register(Operations)
class OperationsAdmin(ReadOnly, admin.ModelAdmin[Operations]):
    """An entry in the admin's index that leads to the overview."""

    def get_urls(self) -> list[URLPattern]:
        to_overview = RedirectView.as_view(pattern_name="operations:overview")
        return [path("", to_overview, name="operations_operations_changelist")]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_view(request.user)
