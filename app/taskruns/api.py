"""``/api/tasks/``: what became of a run, and what may be done with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from celery.result import AsyncResult
from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_serializer
from rest_framework import exceptions, mixins, permissions, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from app.openapi import examples
from app.queues import BY_NAME
from app.taskruns import actions
from app.taskruns.idempotency import idempotent
from app.taskruns.models import LIVE, Status, TaskRun
from app.taskruns.permissions import may_cancel, may_operate, may_view

STATUSES = ["failed" if status is Status.DEAD else status.value for status in Status]
POLL_AFTER = 1
"""Seconds after which a client may look again at a live run."""


def task_example(name: str, queue: str, **members: Any) -> dict[str, Any]:
    """For the OpenAPI description: a task that was just called, less what ``members`` say."""
    return {
        "id": "019caa4c-36bd-7c3a-9f0e-5d2b8a6f4e10",
        "url": "https://press.example.com/api/tasks/019caa4c-36bd-7c3a-9f0e-5d2b8a6f4e10/",
        "name": name,
        "queue": queue,
        "status": "queued",
        "progress": {"current": None, "total": None, "message": ""},
        "attempts": 0,
        "created_at": "2026-03-02T09:00:00.412905+09:00",
        "run_at": "2026-03-02T09:00:00.412905+09:00",
        "started_at": None,
        "finished_at": None,
        "cancel_requested_at": None,
        "result": None,
        "result_url": None,
        "error": None,
        **members,
    }


NOTIFY = ("app.blog.tasks.notify_subscribers", "emails")


@extend_schema_serializer(
    examples=examples(
        response=task_example(
            *NOTIFY,
            status="running",
            progress={"current": 300, "total": 1000, "message": "mails"},
            attempts=1,
            started_at="2026-03-02T09:00:00.431207+09:00",
        )
    )
)
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
    result_url = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()

    class Meta:
        model = TaskRun
        fields = (
            "id", "url", "name", "queue", "status", "progress", "attempts",
            "created_at", "run_at", "started_at", "finished_at", "cancel_requested_at", "result", "result_url",
            "error",
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

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_result_url(self, run: TaskRun) -> str | None:
        """Where the result is to be had: of a task that returns ``{"url": "/a/path"}``."""
        result = self.get_result(run)
        path = result.get("url") if isinstance(result, dict) else None
        return self.context["request"].build_absolute_uri(path) if isinstance(path, str) else None

    @extend_schema_field(ErrorSerializer(allow_null=True))
    def get_error(self, run: TaskRun) -> dict[str, Any] | None:
        return dict(self.ErrorSerializer(run).data) if run.error_type else None


class TaskRunFilterSerializer(serializers.Serializer[TaskRun]):
    """What a list may be narrowed to."""

    status = serializers.ChoiceField(choices=STATUSES, required=False)
    queue = serializers.ChoiceField(choices=sorted(BY_NAME), required=False)
    name = serializers.CharField(max_length=200, required=False)


class Conflict(exceptions.APIException):
    status_code = status.HTTP_409_CONFLICT


class MayOperate(permissions.BasePermission):
    """Those who run the site."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return may_operate(request.user)


class TaskRunViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[TaskRun]):
    """Your runs; with a permission of the operations pages, everybody's."""

    serializer_class = TaskRunSerializer
    permission_classes = (permissions.IsAuthenticated,)
    lookup_value_converter = "uuid"

    def get_queryset(self) -> QuerySet[TaskRun]:
        """The user's runs, or all for who may view them: whatever else there is, is not found."""
        if getattr(self, "swagger_fake_view", False):
            return TaskRun.objects.none()
        runs = TaskRun.objects.defer("body", "headers", "properties", "traceback")
        return runs if may_view(self.request.user) else runs.filter(owner=self.request.user.pk)

    def filter_queryset(self, queryset: Any) -> Any:
        if self.action != "list":
            return queryset
        wanted = TaskRunFilterSerializer(data=self.request.query_params)
        wanted.is_valid(raise_exception=True)
        fields = dict(wanted.validated_data)
        if fields.get("status") == "failed":
            fields["status"] = Status.DEAD
        return queryset.filter(**fields)

    @extend_schema(parameters=[TaskRunFilterSerializer])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Newest first."""
        return super().list(request, *args, **kwargs)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Status, progress, times, attempts, result and error of a run."""
        run = self.get_object()
        data = self.get_serializer(run).data
        if run.status == Status.REPLACED:
            data = self._of_replacement(run, data)
        response = Response(data)
        response["Cache-Control"] = "private, no-cache"
        if data["status"] in LIVE:
            response["Retry-After"] = str(POLL_AFTER)
        return response

    def _of_replacement(self, run: TaskRun, told: dict[str, Any]) -> dict[str, Any]:
        """What came of the tasks that took the run's place, under the address that the client knows."""
        newest = self.get_queryset().filter(celery_id=run.celery_id).order_by("-id")[0]
        data = {**self.get_serializer(newest).data, **{name: told[name] for name in ("id", "url", "created_at")}}
        if newest.status == Status.REPLACED:
            # Their last one is still to come, or never will: a chord's header that failed.
            outcome: AsyncResult[Any] = AsyncResult(run.celery_id)
            data["status"] = "failed" if outcome.failed() else "running"
            if outcome.failed():
                data["error"] = {"type": type(outcome.result).__name__, "detail": str(outcome.result)}
        return data

    @extend_schema(
        request=None,
        responses={202: TaskRunSerializer},
        examples=examples(
            response=task_example(*NOTIFY, status="cancelled", finished_at="2026-03-02T09:00:07.020113+09:00")
        ),
    )
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """One that waits never begins; a running one is stopped within seconds, where its pool can, and told where
        it cannot: `cancel_requested_at` says so, and `status` what became of it. Ended: 409. One that you have not
        ordered, for the site calls it by itself: 403.
        """
        if not may_cancel(request.user, self.get_object()):
            raise exceptions.PermissionDenied("The site's own tasks are cancelled by those who operate it.")
        return self._acted(request, actions.run_cancel)

    @extend_schema(request=None, responses={202: TaskRunSerializer}, examples=examples(response=task_example(*NOTIFY)))
    @action(detail=True, methods=["post"], permission_classes=[permissions.IsAuthenticated, MayOperate])
    @idempotent
    def retry(self, request: Request, pk: Any = None) -> Response:
        """For who may operate: run a failed, cancelled or expired one again, as a new run. Others: 409."""
        return self._acted(request, actions.run_again)

    def _acted(self, request: Request, act: Callable[..., TaskRun | None]) -> Response:
        run = self.get_object()
        try:
            run = act(run=run, user=request.user) or run
        except actions.NotPossible as error:
            raise Conflict(str(error)) from error
        run.refresh_from_db()
        data = self.get_serializer(run).data
        headers = {"Location": data["url"], "Retry-After": str(POLL_AFTER)}
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)


def run_payloads(results: Iterable[AsyncResult[Any]], request: Request) -> list[dict[str, Any]]:
    """The API's representation of what ``delay()`` returned, in that order.

    Raises TaskRun.DoesNotExist for a result that has no run.
    """
    return [dict(TaskRunSerializer(TaskRun.of(result), context={"request": request}).data) for result in results]
