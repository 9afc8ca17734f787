"""Runs and dead letters in the admin: looked at, cancelled, run again, discarded; never edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from redis import RedisError

from app.readonly import ReadOnly
from app.taskruns import actions, undeliverable
from app.taskruns.models import DeadLetter, Status, TaskAttempt, TaskRun, Undeliverable, Worker


class AttemptInline(ReadOnly, admin.TabularInline[TaskAttempt, TaskRun]):
    model = TaskAttempt
    fields = ("number", "outcome", "worker_name", "started_at", "finished_at", "error_type", "error", "trace")
    readonly_fields = fields
    extra = 0

    @admin.display(description="traceback")
    def trace(self, attempt: TaskAttempt) -> str:
        return format_html("<details><summary>show</summary><pre>{}</pre></details>", attempt.traceback)


@admin.register(TaskRun)
class TaskRunAdmin(ReadOnly, admin.ModelAdmin[TaskRun]):
    list_display: tuple[str, ...] = ("name", "queue", "status", "attempt", "created_at", "finished_at", "error_type")
    list_filter: ClassVar[tuple[str, ...]] = ("status", "queue", "name")
    list_select_related = ("owner",)
    list_per_page = 50
    search_fields = ("id__exact", "celery_id__exact", "error__icontains")
    show_full_result_count = False
    inlines = (AttemptInline,)
    actions: tuple[str, ...] = ("cancel", "run_again")
    fieldsets = (
        (None, {"fields": ("id", "celery_id", "name", "queue", "priority", "status", "owner", "call", "repeats")}),
        ("Progress", {"fields": ("progress_current", "progress_total", "progress_message")}),
        ("Times", {"fields": ("created_at", "run_at", "expires_at", "published_at", "started_at", "finished_at")}),
        ("Attempts", {"fields": ("attempt", "losses", "worker", "error_type", "error", "trace", "result")}),
    )

    @admin.display(description="arguments")
    def call(self, run: TaskRun) -> str:
        args, kwargs = run.arguments
        return ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])

    @admin.display(description="repeats")
    def repeats(self, run: TaskRun) -> str:
        if run.retry_of_id is None:
            return "-"
        url = reverse("admin:taskruns_taskrun_change", args=[run.retry_of_id])
        return format_html('<a href="{}">{}</a>', url, run.retry_of_id)

    @admin.display(description="traceback")
    def trace(self, run: TaskRun) -> str:
        return format_html("<pre>{}</pre>", run.traceback)

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[TaskRun]) -> None:
        self._each(request, queryset, actions.run_cancel, "cancelled")

    @admin.action(description="Run again", permissions=["operate"])
    def run_again(self, request: HttpRequest, queryset: QuerySet[TaskRun]) -> None:
        self._each(request, queryset, actions.run_again, "run again")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Looking needs the right to view; acting the right to change."""
        return request.user.has_perm("taskruns.change_taskrun")

    def _each(self, request: HttpRequest, queryset: QuerySet[TaskRun], act: Callable[..., Any], done_word: str) -> None:
        done = 0
        for run in queryset.iterator(chunk_size=500):
            try:
                act(run=run, user=request.user)
                done += 1
            except actions.NotPossible as error:
                self.message_user(request, f"{run.pk}: {error}", messages.WARNING)
        self.message_user(request, f"{done} {done_word}.")


@admin.register(DeadLetter)
class DeadLetterAdmin(TaskRunAdmin):
    list_display = ("name", "queue", "error_type", "error", "attempt", "losses", "finished_at")
    list_filter = ("queue", "name", "error_type")
    actions: tuple[str, ...] = ("run_again", "discard")

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskRun]:
        return super().get_queryset(request).filter(status=Status.DEAD)

    @admin.action(description="Discard", permissions=["operate"])
    def discard(self, request: HttpRequest, queryset: QuerySet[TaskRun]) -> None:
        self._each(request, queryset, actions.run_discard, "discarded")


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

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("taskruns.change_undeliverable")

    @admin.action(description="Put back into its queue", permissions=["operate"])
    def put_back(self, request: HttpRequest, queryset: QuerySet[Undeliverable]) -> None:
        for row in queryset:
            try:
                undeliverable.put_back(row)
            except RedisError as error:
                self.message_user(request, f"Redis does not take it: {error}", messages.ERROR)
                return
        self.message_user(request, "Put back.")

    @admin.action(description="Discard", permissions=["operate"])
    def discard(self, request: HttpRequest, queryset: QuerySet[Undeliverable]) -> None:
        count, _ = queryset.delete()
        self.message_user(request, f"{count} discarded.")


@admin.register(Worker)
class WorkerAdmin(ReadOnly, admin.ModelAdmin[Worker]):
    list_display = ("id", "name", "queues", "slots", "started_at", "heartbeat_at", "dead_at")
    ordering = ("-id",)
    show_full_result_count = False
