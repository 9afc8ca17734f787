"""The admin of undeliverable messages. For runs and workers see `pressroom.operations`."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from redis import RedisError

from pressroom.celery_app import undeliverable
from pressroom.http.permissions import may_operate, may_view
from pressroom.models import Undeliverable
from pressroom.operations.read_only import ReadOnly


@admin.register(Undeliverable)
class UndeliverableAdmin(ReadOnly, admin.ModelAdmin[Undeliverable]):
    list_display = ("queue", "reason", "received_at")
    list_filter = ("queue",)
    fields = ("queue", "reason", "received_at", "content")
    readonly_fields = fields
    show_full_result_count = False
    actions = ("put_back", "discard")

    @admin.display(description="message")
    def content(self, row: Undeliverable) -> str:
        return format_html("<pre>{}</pre>", bytes(row.message).decode(errors="backslashreplace"))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_view(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Undeliverable | None = None) -> bool:
        return may_view(request.user)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return may_operate(request.user)

    @admin.action(description="Put back into its queue", permissions=["operate"])
    def put_back(self, request: HttpRequest, queryset: QuerySet[Undeliverable]) -> None:
        for row in queryset:
            try:
                undeliverable.put_back(row)
            except RedisError as error:
                self.message_user(request, f"Redis did not accept the message: {error}", messages.ERROR)
                return
        self.message_user(request, "Put back.")

    @admin.action(description="Discard", permissions=["operate"])
    def discard(self, request: HttpRequest, queryset: QuerySet[Undeliverable]) -> None:
        count, _ = queryset.delete()
        self.message_user(request, f"{count} discarded.")
