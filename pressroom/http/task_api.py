"""``/api/tasks/``: what became of a run, and what may be done with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from celery.result import AsyncResult
from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import StreamingHttpResponse
from django.utils.http import url_has_allowed_host_and_scheme
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field, extend_schema_serializer
from rest_framework import exceptions, mixins, permissions, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from pressroom import operator_actions
from pressroom.conf import declared_queues
from pressroom.http import event_stream
from pressroom.http.event_stream import MEDIA_TYPE, EventStreamRenderer
from pressroom.http.idempotency import idempotent
from pressroom.http.openapi import examples, response_headers
from pressroom.http.permissions import may_cancel, may_operate, may_view
from pressroom.http.preconditions import ConditionalMixin
from pressroom.http.subjects import HEAD, about
from pressroom.models import LIVE, Status, TaskRun
from pressroom.text import carried, carried_json

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
        "about": None,
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


EXAMPLE = ("newsletter.tasks.send_issue", "emails")


@extend_schema_serializer(
    examples=examples(
        response=task_example(
            *EXAMPLE,
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

    class AboutSerializer(serializers.Serializer[TaskRun]):
        """The object that the task is for."""

        type = serializers.CharField(help_text="What it is: `post`, `order`, `report`, …")
        url = serializers.URLField(help_text="Its address in the API.")

    url = serializers.HyperlinkedIdentityField(view_name="task-detail", lookup_field="pk")
    about = serializers.SerializerMethodField()
    status = serializers.SerializerMethodField()
    progress = ProgressSerializer(source="*", read_only=True)
    attempts = serializers.IntegerField(source="attempt", read_only=True)
    result = serializers.SerializerMethodField()
    result_url = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()

    class Meta:
        model = TaskRun
        fields = (
            "id", "url", "name", "queue", "about", "status", "progress", "attempts",
            "created_at", "run_at", "started_at", "finished_at", "cancel_requested_at", "result", "result_url",
            "error",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=STATUSES))
    def get_status(self, run: TaskRun) -> str:
        return "failed" if run.status == Status.DEAD else run.status

    @extend_schema_field(AboutSerializer(allow_null=True))
    def get_about(self, run: TaskRun) -> dict[str, str] | None:
        return about(run, self.context["request"])

    @extend_schema_field(OpenApiTypes.ANY)
    def get_result(self, run: TaskRun) -> Any:
        if run.status != Status.SUCCEEDED or run.result is None:
            return None
        try:
            return carried_json(json.loads(run.result))
        except (ValueError, RecursionError):
            # Deeper, or a number longer, than anybody reads.
            return None

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_result_url(self, run: TaskRun) -> str | None:
        """Where to get the result: of a task that returns ``{"url": "/a/path"}``, an address of this site."""
        result = self.get_result(run)
        path = result.get("url") if isinstance(result, dict) else None
        if not isinstance(path, str) or not path.startswith("/"):
            return None
        try:
            is_ours = url_has_allowed_host_and_scheme(path, allowed_hosts=None)
            return self.context["request"].build_absolute_uri(path) if is_ours else None
        except ValueError:
            return None

    @extend_schema_field(ErrorSerializer(allow_null=True))
    def get_error(self, run: TaskRun) -> dict[str, Any] | None:
        return dict(self.ErrorSerializer(run).data) if run.error_type else None


class TaskRunFilterSerializer(serializers.Serializer[TaskRun]):
    """What a list may be narrowed to."""

    status = serializers.ChoiceField(choices=STATUSES, required=False)
    queue = serializers.ChoiceField(choices=sorted(declared_queues()), required=False)
    name = serializers.CharField(max_length=200, required=False)


class Conflict(exceptions.APIException):
    status_code = status.HTTP_409_CONFLICT


class MayOperate(permissions.BasePermission):
    """Those who run the site."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return may_operate(request.user)


class TaskRunViewSet(
    ConditionalMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[TaskRun]
):
    """Your runs; with a permission of the operations pages, everybody's."""

    serializer_class = TaskRunSerializer
    filter_serializer_class = TaskRunFilterSerializer
    permission_classes = (permissions.IsAuthenticated,)
    lookup_value_converter = "uuid"

    def get_queryset(self) -> QuerySet[TaskRun]:
        """The user's runs, or all for who may view them: whatever else there is, is not found."""
        if getattr(self, "swagger_fake_view", False):
            return TaskRun.objects.none()
        runs = TaskRun.objects.defer("body", "headers", "properties", "traceback")
        runs = runs.annotate(body_head=Left("body", HEAD))
        return runs if may_view(self.request.user) else runs.filter(owner=self.request.user.pk)

    def narrow(self, queryset: QuerySet[TaskRun], fields: dict[str, Any]) -> QuerySet[TaskRun]:
        """What a list asks for, in the words of the row."""
        if fields.get("status") == "failed":
            fields["status"] = Status.DEAD
        return queryset.filter(**fields)

    def get_renderers(self) -> list[Any]:
        """A single run can be told as a stream of events, too."""
        return [*super().get_renderers(), *([EventStreamRenderer()] if self.action == "retrieve" else [])]

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List runs. Newest first; one whose place other tasks took is `replaced` here, its address tells the rest."""
        return super().list(request, *args, **kwargs)

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "Last-Event-ID",
                str,
                OpenApiParameter.HEADER,
                description="Of a stream of events: the `id` of the last one that came; a browser sends it by itself.",
            ),
            # The choice is made by Accept alone.
            OpenApiParameter("format", exclude=True),
        ],
        responses={
            (200, "application/json"): TaskRunSerializer,
            (200, MEDIA_TYPE): event_stream.EVENT_SCHEMA,
            204: None,
        },
    )
    @response_headers("Retry-After", "Cache-Control")
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Read a run. Status, progress, times, attempts, result and error.

        With `Accept: text/event-stream` the answer is a stream of Server-Sent Events: `status` when the run's state
        has changed, `progress` when only its progress has, each with the whole run as JSON and an `id`. It ends with
        the run, or after some time; a client that then comes back with `Last-Event-ID` (a browser's `EventSource`
        does by itself) misses nothing, and gets 204 once the run has ended and it knows.
        """
        run = self.get_object()
        data = self.represent(run)
        if isinstance(request.accepted_renderer, EventStreamRenderer):
            return self._stream(run, data)
        response = Response(data)
        response["Cache-Control"] = "private, no-cache"
        if data["status"] in LIVE:
            response["Retry-After"] = str(POLL_AFTER)
        return response

    def _stream(self, run: TaskRun, data: dict[str, Any]) -> Response | StreamingHttpResponse:
        last = self.request.headers.get("Last-Event-ID", "")
        if data["status"] not in LIVE and last == event_stream.state_id(data):
            return Response(status=status.HTTP_204_NO_CONTENT)

        def read() -> dict[str, Any] | None:
            found = self.get_queryset().filter(pk=run.pk).first()
            return None if found is None else self.represent(found)

        pieces = event_stream.events(read, lambda state: state["status"] in LIVE, last)
        response = StreamingHttpResponse(() if self.request.method == "HEAD" else pieces, content_type=MEDIA_TYPE)
        response["Cache-Control"] = "private, no-store"
        # nginx would gather events until its buffer is full.
        response["X-Accel-Buffering"] = "no"
        return response

    def represent(self, found: TaskRun) -> dict[str, Any]:
        """The run; one whose place others took as it was called, with what came of them."""
        data = dict(self.get_serializer(found).data)
        return self._of_replacement(found, data) if found.status == Status.REPLACED else data

    def _of_replacement(self, run: TaskRun, told: dict[str, Any]) -> dict[str, Any]:
        """What came of the tasks that took the run's place, under the name and address that the client knows."""
        newest = self.get_queryset().filter(celery_id=run.celery_id).order_by("-id")[0]
        kept = ("id", "url", "name", "queue", "about", "created_at")
        data = {**self.get_serializer(newest).data, **{name: told[name] for name in kept}}
        if told["progress"]["current"] is not None:
            data["progress"] = told["progress"]
        if newest.status == Status.REPLACED:
            # Their last one is still to come, or never will: a chord's header that failed.
            outcome: AsyncResult[Any] = AsyncResult(run.celery_id)
            data["status"] = "failed" if outcome.failed() else "running"
            data["finished_at"] = data["finished_at"] if outcome.failed() else None
            if outcome.failed():
                data["error"] = {"type": type(outcome.result).__name__, "detail": carried(outcome.result)}
        return data

    @extend_schema(
        request=None,
        responses={202: TaskRunSerializer},
        examples=examples(
            response=task_example(*EXAMPLE, status="cancelled", finished_at="2026-03-02T09:00:07.020113+09:00")
        ),
    )
    @action(detail=True, methods=["post"])
    @idempotent
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Cancel a run. One that waits never begins; a running one is stopped within seconds, where its pool can, and
        told where it cannot: `cancel_requested_at` says so, and `status` what became of it. Ended: 409. One that you
        have not ordered, for the site calls it by itself: 403.
        """
        run = self.get_object()
        if not may_cancel(request.user, run):
            raise exceptions.PermissionDenied("The site's own tasks are cancelled by those who operate it.")
        return self._acted(run, operator_actions.run_cancel)

    @extend_schema(request=None, responses={202: TaskRunSerializer}, examples=examples(response=task_example(*EXAMPLE)))
    @action(detail=True, methods=["post"], permission_classes=[permissions.IsAuthenticated, MayOperate])
    @idempotent
    def retry(self, request: Request, pk: Any = None) -> Response:
        """Run a failed, cancelled or expired run again, as a new one. For those who may operate. Others: 409."""
        return self._acted(self.get_object(), operator_actions.run_again)

    def _acted(self, run: TaskRun, act: Callable[..., TaskRun | None]) -> Response:
        try:
            run = act(run=run, user=self.request.user) or run
        except operator_actions.NotPossible as error:
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
