"""``GET /api/tasks/{id}/``: what became of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from celery.result import AsyncResult
from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import generics, permissions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from app.taskruns.models import LIVE, Status, TaskRun

STATUSES = ["failed" if status is Status.DEAD else status.value for status in Status]
POLL_AFTER = 1
"""Seconds after which a client may look again at a live run."""


class TaskRunSerializer(serializers.ModelSerializer[TaskRun]):
    """A run as the API shows it."""

    class ProgressSerializer(serializers.Serializer[TaskRun]):
        """How far it is, in units of the task's own; null where it does not say."""

        current = serializers.IntegerField(source="progress_current", allow_null=True)
        total = serializers.IntegerField(source="progress_total", allow_null=True)
        message = serializers.CharField(source="progress_message")

    class ErrorSerializer(serializers.Serializer[TaskRun]):
        """The last attempt's error."""

        type = serializers.CharField(source="error_type")
        detail = serializers.CharField(source="error")

    url = serializers.HyperlinkedIdentityField(view_name="task-detail", lookup_field="pk")
    status = serializers.SerializerMethodField()
    progress = ProgressSerializer(source="*", read_only=True)
    attempts = serializers.IntegerField(source="attempt", read_only=True)
    result = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()

    class Meta:
        model = TaskRun
        fields = (
            "id", "url", "name", "queue", "status", "progress", "attempts",
            "created_at", "run_at", "started_at", "finished_at", "result", "error",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=STATUSES))
    def get_status(self, run: TaskRun) -> str:
        return "failed" if run.status == Status.DEAD else run.status

    @extend_schema_field(OpenApiTypes.ANY)
    def get_result(self, run: TaskRun) -> Any:
        if run.status != Status.SUCCEEDED or run.result is None:
            return None
        return json.loads(run.result)

    @extend_schema_field(ErrorSerializer(allow_null=True))
    def get_error(self, run: TaskRun) -> dict[str, Any] | None:
        return dict(self.ErrorSerializer(run).data) if run.error_type else None


class TaskRunView(generics.RetrieveAPIView[TaskRun]):
    """A run of yours: its status, progress, times, attempts, result and error."""

    serializer_class = TaskRunSerializer
    permission_classes = (permissions.IsAuthenticated,)

    def get_queryset(self) -> QuerySet[TaskRun]:
        """The user's runs, or all for staff: whatever else there is, is not found."""
        if getattr(self, "swagger_fake_view", False):
            return TaskRun.objects.none()
        runs = TaskRun.objects.all()
        return runs if self.request.user.is_staff else runs.filter(owner=self.request.user.pk)

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        run = self.get_object()
        response = Response(self.get_serializer(run).data)
        response["Cache-Control"] = "no-store"
        if run.status in LIVE:
            response["Retry-After"] = str(POLL_AFTER)
        return response


def run_payloads(results: Iterable[AsyncResult[Any]], request: Request) -> list[dict[str, Any]]:
    """The API's representation of what ``delay()`` returned, in that order.

    Raises TaskRun.DoesNotExist for a result that has no run.
    """
    return [dict(TaskRunSerializer(TaskRun.of(result), context={"request": request}).data) for result in results]
