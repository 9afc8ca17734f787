"""The API for reports: ordering, progress, and download by a link that expires."""

from __future__ import annotations

import time
import uuid
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_serializer, extend_schema_view
from rest_framework import exceptions, mixins, permissions, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView

from app.http.api_permissions import OwnerOrPermitted
from app.http.pagination import NewestFirst
from app.reports import services
from app.reports.models import Report, ReportSection
from app.reports.periods import Period
from app.reports.tasks import assemble_report, build_report, build_section
from pressroom.http.idempotency import idempotent
from pressroom.http.openapi import examples, response_headers
from pressroom.http.preconditions import ConditionalMixin
from pressroom.http.subjects import tasks_about
from pressroom.http.task_api import POLL_AFTER, CalledTaskSerializer, Conflict, called_payload, task_example

ORDER = {"type": "activity", "period": "2026-01", "format": "pdf"}
REPORT_URL = "https://press.example.com/api/reports/6f0c9c0e-6f3f-4c49-8a4e-0f6a3f3a9d5b/"
ORDERED = task_example("app.reports.tasks.build_report", "reports", repeated=False)
READY = {
    "id": REPORT_URL.rstrip("/").rpartition("/")[2],
    "url": REPORT_URL,
    "type": "activity",
    "period": "2026-01-01/2026-01-31",
    "format": "pdf",
    "status": "ready",
    "progress": {"current": 5, "total": 5},
    "error": "",
    "size": 81_920,
    "task": ORDERED["url"],
    "created_at": "2026-03-02T09:00:00.412905+09:00",
    "finished_at": "2026-03-02T09:00:03.120331+09:00",
    "download": "https://press.example.com/api/reports/download/WyI2ZjBjOWMwZSIsN10:1vx0Zk:5Jr0dTjR/",
}
CONTENT_TYPES = {"pdf": "application/pdf", "csv": "text/csv; charset=utf-8"}


@extend_schema_serializer(examples=examples(request=ORDER))
class ReportOrderSerializer(serializers.Serializer[Report]):
    """Type, period and format of the report."""

    type = serializers.ChoiceField(choices=Report.Kind.choices, help_text="`subscribers` requires a permission.")
    period = serializers.CharField(
        max_length=21, help_text="A year, month, day or range: 2026, 2026-01, 2026-01-31 or 2026-01-01/2026-03-31."
    )
    format = serializers.ChoiceField(choices=Report.Format.choices, default=Report.Format.PDF)

    def validate_period(self, text: str) -> Period:
        try:
            return Period.parse(text)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error


@extend_schema_serializer(examples=examples(response=READY))
class ReportSerializer(serializers.ModelSerializer[Report]):
    """A report with its progress and, once it is ready, a link to its file."""

    class ReportProgressSerializer(serializers.Serializer[Report]):
        """The number of sections that have been computed, and of all sections."""

        current = serializers.IntegerField(source="sections_done")
        total = serializers.IntegerField(source="sections_total")

    url = serializers.HyperlinkedIdentityField(view_name="report-detail", lookup_field="pk")
    type = serializers.ChoiceField(source="kind", choices=Report.Kind.choices)
    period = serializers.CharField()
    progress = ReportProgressSerializer(source="*", read_only=True)
    error = serializers.CharField(help_text="Why the report failed, or empty.")
    task = serializers.SerializerMethodField()
    download = serializers.SerializerMethodField()

    class Meta:
        model = Report
        fields = (
            "id", "url", "type", "period", "format", "status", "progress", "error", "size", "task",
            "created_at", "finished_at", "download",
        )  # fmt: skip
        read_only_fields = fields
        extra_kwargs = {"size": {"help_text": "Size of the file in bytes."}}

    @extend_schema_field(serializers.URLField())
    def get_task(self, report: Report) -> str:
        return reverse("task-detail", args=[report.task], request=self.context["request"])

    @extend_schema_field(
        serializers.URLField(
            allow_null=True, help_text="Link to the file. It expires, and everybody who has it can use it until then."
        )
    )
    def get_download(self, report: Report) -> str | None:
        if report.status != Report.Status.READY:
            return None
        request = self.context["request"]
        token = services.link_token(report=report, user_id=request.user.pk)
        return reverse("report-download", args=[token], request=request)


@extend_schema_serializer(examples=examples(response={**ORDERED, "report": REPORT_URL}))
class OrderedReportSerializer(CalledTaskSerializer):
    """The task that makes the report, and the URL of the report."""

    report = serializers.URLField(read_only=True)

    class Meta(CalledTaskSerializer.Meta):
        fields = (*CalledTaskSerializer.Meta.fields, "report")  # type: ignore[assignment]  # a longer tuple


class ReportFilterSerializer(serializers.Serializer[Report]):
    """The filters of the list of reports."""

    status = serializers.ChoiceField(choices=Report.Status.choices, required=False)
    type = serializers.ChoiceField(source="kind", choices=Report.Kind.choices, required=False)


tasks_about("report", "report-detail", build_report, assemble_report)
tasks_about(
    "report",
    "report-detail",
    build_section,
    key=lambda section: ReportSection.objects.filter(pk=section).values_list("report", flat=True).first(),
)


class NewestReports(NewestFirst):
    """Newest first by time, because the keys are random."""

    ordering = "-created_at"


@extend_schema_view(list=extend_schema(summary="List reports"))
class ReportViewSet(
    ConditionalMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.DestroyModelMixin,
    viewsets.GenericViewSet[Report],
):  # fmt: skip
    """Your reports. Users with the permission to view reports see all reports."""

    serializer_class = ReportSerializer
    filter_serializer_class = ReportFilterSerializer
    permission_classes = (permissions.IsAuthenticated, OwnerOrPermitted)
    pagination_class = NewestReports
    lookup_value_converter = "uuid"
    throttle_scope = "reports"

    def get_throttles(self) -> list[Any]:
        return [ScopedRateThrottle()] if self.action in ("create", "retry") else []

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Keep the answers out of all caches, because they contain links that open files."""
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "private, no-store"
        return response

    def etag(self, data: dict[str, Any]) -> str:
        """Treat the download link, which differs in every answer, as unchanged for half of its lifetime."""
        link = data["download"] and time.time() // (settings.REPORT_LINK_LIFETIME / 2)
        return super().etag(data | {"download": link})

    def get_queryset(self) -> QuerySet[Report]:
        """Return the reports that the user may see. All others get 404."""
        if getattr(self, "swagger_fake_view", False):
            return Report.objects.none()
        reports = services.reports_seen_by(user=self.request.user)
        return reports.annotate(sections_total=Count("sections"), sections_done=Count("sections__done_at"))

    @extend_schema(
        request=ReportOrderSerializer,
        responses={202: OrderedReportSerializer},
    )
    @idempotent
    def create(self, request: Request) -> Response:
        """Order a report. The task shows the progress. When it is done, its `result_url` is the URL of the report."""
        order = ReportOrderSerializer(data=request.data)
        order.is_valid(raise_exception=True)
        wanted = order.validated_data
        if wanted["type"] not in services.kinds_open_to(user=request.user):
            raise exceptions.PermissionDenied("You may not order reports of this type.")
        report_id = uuid.uuid4()
        with transaction.atomic():
            task = called_payload(build_report.delay(str(report_id)), request)
            services.report_create(
                report_id=report_id, task_id=task["id"], owner=request.user,
                kind=wanted["type"], period=wanted["period"], file_format=wanted["format"],
            )  # fmt: skip
        return self._accepted(request, report_id, task)

    @extend_schema(request=None, responses={202: OrderedReportSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def retry(self, request: Request, pk: Any = None) -> Response:
        """Retry a report that has failed or whose task was cancelled. Any other report gets 409."""
        report = self.get_object()
        with transaction.atomic():
            task = called_payload(build_report.delay(str(report.pk)), request)
            if not services.report_restart(report_id=report.pk, task_id=uuid.UUID(task["id"])):
                raise Conflict("Only a report that has failed can be retried.")
        return self._accepted(request, report.pk, task)

    def _accepted(self, request: Request, report_id: uuid.UUID, task: dict[str, Any]) -> Response:
        url = reverse("report-detail", args=[report_id], request=request)
        headers = {"Location": task["url"], "Retry-After": str(POLL_AFTER)}
        return Response({**task, "report": url}, status=status.HTTP_202_ACCEPTED, headers=headers)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Retrieve a report. It shows the progress and, once the report is ready, a link to the file."""
        return super().retrieve(request, *args, **kwargs)

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a report and its file. A report that is being made is not completed."""
        return super().destroy(request, *args, **kwargs)


class DownloadFile(FileResponse):
    block_size = 64 * 1024


class ReportDownloadView(APIView):
    """Serves the file of a report to everybody who has a valid link."""

    also_answers = (403,)
    permission_classes = (permissions.AllowAny,)
    authentication_classes = ()

    @extend_schema(
        responses={(200, "application/pdf"): OpenApiTypes.BINARY, (200, "text/csv"): OpenApiTypes.BINARY},
        operation_id="reports_download",
    )
    @response_headers("Content-Disposition", "Cache-Control")
    def get(self, request: Request, token: str) -> DownloadFile:
        """Download the file of a report."""
        try:
            report = services.link_open(token=token)
        except services.LinkExpired as error:
            raise exceptions.PermissionDenied("The link has expired. Retrieve the report to get a new one.") from error
        if report is None:
            raise exceptions.NotFound
        try:
            file = default_storage.open(report.file)
        except FileNotFoundError as error:
            raise exceptions.NotFound from error
        content_type = CONTENT_TYPES[report.format]
        response = DownloadFile(file, as_attachment=True, filename=report.download_name, content_type=content_type)
        response["Content-Length"] = str(report.size)
        response["Cache-Control"] = "private, no-store"
        return response
