"""django-celery-beat's pages in the admin, restricted to operators and to the tasks that a schedule may call.

A schedule makes a worker run a task with arguments that its author chooses: see docs/decisions/0018.
"""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat import admin as beat_admin
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from pressroom.conf import declared_queues
from pressroom.http.permissions import may_operate, may_view
from pressroom.operations.schedules import schedulable, schedule_pause, schedule_resume, schedule_run_now
from pressroom.operator_actions import NotPossible


class ByOperators:
    """Lets users who may view tasks view the rows, and users who may operate tasks edit them.

    List it before the base class of an admin or an inline.
    """

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_view(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_view(request.user)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_operate(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_operate(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_operate(request.user)


class ScheduleForm(forms.ModelForm[PeriodicTask]):
    """The form of a schedule, for the tasks that a schedule may call."""

    task = forms.ChoiceField(choices=lambda: [("", "---------"), *((name, name) for name in schedulable())])
    queue = forms.ChoiceField(
        required=False,
        choices=[("", "the task's queue"), *((queue.name, queue.name) for queue in declared_queues().values())],
        help_text="The queue of its runs.",
    )

    class Meta:
        model = PeriodicTask
        fields = (
            "name", "task", "enabled", "description", "interval", "crontab", "solar", "clocked", "start_time",
            "one_off", "args", "kwargs", "expires", "expire_seconds", "queue", "priority",
        )  # fmt: skip

    def clean_queue(self) -> str | None:
        return self.cleaned_data["queue"] or None

    def clean_args(self) -> str:
        return self._clean_json("args", list)

    def clean_kwargs(self) -> str:
        return self._clean_json("kwargs", dict)

    def _clean_json(self, name: str, kind: type) -> str:
        text: str = self.cleaned_data[name]
        try:
            is_right = isinstance(json.loads(text), kind)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}") from error
        if not is_right:
            raise forms.ValidationError(f"Enter a JSON {'list' if kind is list else 'object'}.")
        return text

    def clean(self) -> dict[str, Any]:
        """Refuse two expiries."""
        data = super().clean() or {}
        if data.get("expire_seconds") is not None and data.get("expires"):
            raise forms.ValidationError("Set either expires or expire seconds, not both.")
        return data


class PeriodicTaskAdmin(ByOperators, beat_admin.PeriodicTaskAdmin):  # type: ignore[misc]  # without types
    """Replaces django-celery-beat's actions, which need only the permission to view, and run any task."""

    form = ScheduleForm
    change_form_template = None
    date_hierarchy = None
    actions = ("run_now", "pause", "resume")
    readonly_fields = ("last_run_at",)
    fieldsets = (
        (None, {"fields": ("name", "task", "enabled", "description")}),
        ("Schedule", {"fields": ("interval", "crontab", "solar", "clocked", "start_time", "last_run_at", "one_off")}),
        ("Arguments", {"fields": ("args", "kwargs")}),
        ("Calls", {"fields": ("expires", "expire_seconds", "queue", "priority")}),
    )

    @admin.action(description="Run now", permissions=["change"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self._each(request, queryset, schedule_run_now, "run")

    @admin.action(description="Pause", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self._each(request, queryset, schedule_pause, "paused")

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self._each(request, queryset, schedule_resume, "resumed")

    def _each(self, request: HttpRequest, rows: QuerySet[PeriodicTask], service: Any, done: str) -> None:
        count = 0
        for row in rows:
            try:
                service(row=row, user=request.user)
                count += 1
            except NotPossible as error:
                self.message_user(request, f"{row.name}: {error}", messages.ERROR)
        self.message_user(request, f"{count} {done}.")


class PeriodicTaskInline(ByOperators, beat_admin.PeriodicTaskInline):  # type: ignore[misc]  # without types
    """The schedules that use an interval, crontab, solar event or clock. Read-only."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def register() -> None:
    """Register these classes in place of django-celery-beat's."""
    admin.site.unregister(PeriodicTask)
    admin.site.register(PeriodicTask, PeriodicTaskAdmin)
    for model in (ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule):
        theirs = type(admin.site.get_model_admin(model))
        admin.site.unregister(model)
        ours = type(theirs.__name__, (ByOperators, theirs), {"inlines": [PeriodicTaskInline]})
        admin.site.register(model, ours)
