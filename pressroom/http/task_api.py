"""``/api/tasks/``: the status of runs, and the actions on them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from celery.result import AsyncResult
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Left
from django.http import StreamingHttpResponse
from django.utils.http import url_has_allowed_host_and_scheme
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field, extend_schema_serializer
from rest_framework import exceptions, mixins, permissions, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from pressroom import operator_actions
from pressroom.http import event_stream
from pressroom.http.event_stream import MEDIA_TYPE, EventStreamRenderer
from pressroom.http.idempotency import idempotent
from pressroom.http.openapi import examples, response_headers
from pressroom.http.permissions import may_cancel, may_operate, may_view
from pressroom.http.preconditions import ConditionalMixin
from pressroom.http.run_filter import INDEXED, STATUSES, RunFilterSerializer, newest, run_filter
from pressroom.http.subjects import HEAD, about
from pressroom.models import LIVE, Status, TaskCall, TaskRun
from pressroom.sql.run_filter import STANDINGS, RunFilter
from pressroom.text import carried, carried_json

POLL_AFTER = 1
"""Seconds after which a client may read a live run again."""


def task_example(name: str, queue: str, **members: Any) -> dict[str, Any]:
    """Return an example for the OpenAPI description: a run that was just called, with ``members`` replaced."""
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
        """The progress in units of the task's own. Null if the task does not report any."""

        current = serializers.IntegerField(source="progress_current", allow_null=True)
        total = serializers.IntegerField(source="progress_total", allow_null=True)
        message = serializers.CharField(source="progress_message")

    class ErrorSerializer(serializers.Serializer[TaskRun]):
        """The last attempt's error."""

        type = serializers.CharField(source="error_type")
        detail = serializers.CharField(source="error")

    class AboutSerializer(serializers.Serializer[TaskRun]):
        """The object that the run is about."""

        type = serializers.CharField(help_text="The type of the object: `post`, `order`, `report`, …")
        url = serializers.URLField(help_text="The URL of the object in the API.")

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
            # It is nested too deeply, or has a number with too many digits.
            return None

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_result_url(self, run: TaskRun) -> str | None:
        """The URL of the result on this site, if the task returned ``{"url": "/a/path"}``."""
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


@extend_schema_serializer(examples=examples(response=task_example(*EXAMPLE, repeated=False)))
class CalledTaskSerializer(TaskRunSerializer):
    """A run as the response to the request that called it."""

    repeated = serializers.BooleanField(
        help_text="Whether the request called nothing new, because the task of an earlier one stands for it."
    )

    class Meta(TaskRunSerializer.Meta):
        fields = (*TaskRunSerializer.Meta.fields, "repeated")  # type: ignore[assignment]  # a longer tuple


class Conflict(exceptions.APIException):
    status_code = status.HTTP_409_CONFLICT


class MayOperate(permissions.BasePermission):
    """Allows users who may operate the site."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return may_operate(request.user)


class TaskRunViewSet(
    ConditionalMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[TaskRun]
):
    """Your runs. With a permission of the operations pages, everybody's runs."""

    serializer_class = TaskRunSerializer
    filter_serializer_class = RunFilterSerializer
    _wanted: RunFilter | None = None
    """What a list is searched for, if its filters need a search."""
    permission_classes = (permissions.IsAuthenticated,)
    lookup_value_converter = "uuid"

    def get_queryset(self) -> QuerySet[TaskRun]:
        """Return the user's runs, or all runs if the user may view them. Any other run is not found."""
        if getattr(self, "swagger_fake_view", False):
            return TaskRun.objects.none()
        message = TaskCall.objects.filter(pk=OuterRef("pk"))
        runs = TaskRun.objects.defer("traceback").annotate(body_head=Subquery(message.values(head=Left("body", HEAD))))
        return runs if may_view(self.request.user) else runs.filter(owner=self.request.user.pk)

    def narrow(self, queryset: QuerySet[TaskRun], fields: dict[str, Any]) -> QuerySet[TaskRun]:
        """Filter the list. The API's status ``failed`` is ``dead`` in the ledger."""
        if fields.keys() <= INDEXED and fields.get("status") not in STANDINGS:
            if fields.get("status") == "failed":
                fields["status"] = Status.DEAD
            return queryset.filter(**fields)
        self._wanted = run_filter(fields, self.request.user)
        return queryset

    def paginate_queryset(self, queryset: QuerySet[TaskRun] | Any) -> Any:
        """Return a page of the list. One that is searched has what the search has found, and leads on from there."""
        if self._wanted is None:
            return super().paginate_queryset(queryset)
        page: Any = self.paginator
        cursor = self.request.query_params.get(page.cursor_query_param)
        try:
            before = None if cursor is None else uuid.UUID(cursor)
        except ValueError as error:
            raise exceptions.NotFound(page.invalid_cursor_message) from error
        run_ids, further = newest(self._wanted, page.get_page_size(self.request), before)
        url = self.request.build_absolute_uri()
        page.get_previous_link = lambda: None
        page.get_next_link = lambda: further and replace_query_param(url, page.cursor_query_param, str(further))
        return list(queryset.filter(pk__in=run_ids).order_by("-pk"))

    def get_renderers(self) -> list[Any]:
        """Return the renderers. A single run can also be read as a stream of events."""
        renderers = super().get_renderers()
        return [*renderers, EventStreamRenderer()] if self.action == "retrieve" else renderers

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List runs. The newest come first. A run that other tasks replaced is `replaced` here; read the run itself to
        see what became of them.

        With another filter than `status`, `queue` and `name`, each page looks through a bounded number of runs. It may
        then be short or empty although there are more: follow `next` until it is null.
        """
        return super().list(request, *args, **kwargs)

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "Last-Event-ID",
                str,
                OpenApiParameter.HEADER,
                description="For a stream of events: the `id` of the last event received. Browsers send it.",
            ),
            # Only Accept selects the format.
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

        With `Accept: text/event-stream` the response is a stream of Server-Sent Events: `status` when the run's state
        has changed, `progress` when only its progress has. Each event has the whole run as JSON and an `id`. The stream
        ends with the run, or after some time. A client that reconnects with `Last-Event-ID`, as a browser's
        `EventSource` does, misses nothing. It gets 204 once it has received the end of the run.
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
        shown = () if self.request.method == "HEAD" else event_stream.for_server(self.request._request, pieces)
        response = StreamingHttpResponse(shown, content_type=MEDIA_TYPE)
        response["Cache-Control"] = "private, no-store"
        # Without this header nginx would hold events back until its buffer is full.
        response["X-Accel-Buffering"] = "no"
        return response

    def represent(self, found: TaskRun) -> dict[str, Any]:
        """Return the run as the API shows it. A replaced run shows what became of the tasks that replaced it."""
        data = dict(self.get_serializer(found).data)
        return self._of_replacement(found, data) if found.status == Status.REPLACED else data

    def _of_replacement(self, run: TaskRun, replaced: dict[str, Any]) -> dict[str, Any]:
        """Return what became of the tasks that replaced the run, under the id, name and URL that the client knows."""
        newest = self.get_queryset().filter(celery_id=run.celery_id).order_by("-id")[0]
        kept = ("id", "url", "name", "queue", "about", "created_at")
        data = {**self.get_serializer(newest).data, **{name: replaced[name] for name in kept}}
        if replaced["progress"]["current"] is not None:
            data["progress"] = replaced["progress"]
        if newest.status == Status.REPLACED:
            # The last of those tasks has no run yet. If a chord's header failed, it never gets one.
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
        """Cancel a run. A waiting run never starts. A running one is stopped within seconds if its pool can stop it;
        otherwise the task itself may read the request and stop. `cancel_requested_at` shows the request, `status` what
        became of the run. A run that has ended gives 409. One that the site called on its own gives 403, unless you
        operate the site.
        """
        run = self.get_object()
        if not may_cancel(request.user, run):
            raise exceptions.PermissionDenied("Only those who operate the site may cancel its own tasks.")
        return self._acted(run, operator_actions.run_cancel)

    @extend_schema(request=None, responses={202: TaskRunSerializer}, examples=examples(response=task_example(*EXAMPLE)))
    @action(detail=True, methods=["post"], permission_classes=[permissions.IsAuthenticated, MayOperate])
    @idempotent
    def retry(self, request: Request, pk: Any = None) -> Response:
        """Run a failed, cancelled or expired run again, as a new one. You need the permission to operate. A run with
        another status gives 409.
        """
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
    """Return the runs of what ``delay()`` returned as the API shows them, in the order of ``results``.

    Raises TaskRun.DoesNotExist for a result that has no run.
    """
    return [dict(TaskRunSerializer(TaskRun.of(result), context={"request": request}).data) for result in results]


def called_payload(result: AsyncResult[Any], request: Request, repeated: bool = False) -> dict[str, Any]:
    """Return the run of what ``delay()`` returned as a `CalledTaskSerializer` shows it.

    ``repeated`` says that an earlier request called it; for a unique call the result says so itself. Raises
    TaskRun.DoesNotExist for a result that has no run.
    """
    [payload] = run_payloads([result], request)
    return {**payload, "repeated": repeated or getattr(result, "repeated", False)}
