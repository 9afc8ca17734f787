"""Reports in the admin, read-only."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet, Value
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from app.reports import services
from app.reports.models import Report, ReportSection, SummaryMail
from pressroom.operations.read_only import ReadOnly


class SectionInline(ReadOnly, admin.TabularInline[ReportSection, Report]):
    model = ReportSection
    fields = ("name", "done_at", "file")
    readonly_fields = fields
    extra = 0


@admin.register(Report)
class ReportAdmin(ReadOnly, admin.ModelAdmin[Report]):
    list_display = ("__str__", "format", "owner", "status", "created_at", "finished_at", "run", "download")
    list_filter = ("status", "kind", "format")
    list_select_related = ("owner",)
    list_per_page = 50
    show_full_result_count = False
    inlines = (SectionInline,)
    fields = ("kind", "first_day", "last_day", "format", "owner", "status", "error", "run", "download", "size",
              "created_at", "finished_at")  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Report]:
        """Return the reports that the API would show to the user, annotated with the user's id for the columns."""
        return services.reports_seen_by(user=request.user).annotate(reader=Value(request.user.pk))

    @admin.display(description="task")
    def run(self, report: Report) -> str:
        url = reverse("operations:task", args=[report.task])
        return format_html('<a href="{}">{}</a>', url, report.task)

    @admin.display(description="file")
    def download(self, report: Report) -> str:
        if report.status != Report.Status.READY:
            return "-"
        token = services.link_token(report=report, user_id=report.reader)  # type: ignore[attr-defined]
        return format_html('<a href="{}">download</a>', reverse("report-download", args=[token]))


@admin.register(SummaryMail)
class SummaryMailAdmin(ReadOnly, admin.ModelAdmin[SummaryMail]):
    list_display = ("day", "recipient", "at", "refused")
    list_select_related = ("recipient",)
    show_full_result_count = False
