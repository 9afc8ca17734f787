"""Reports: statistics of a period as a file to download, and the daily summary by mail."""

from django.apps import AppConfig


class ReportsConfig(AppConfig):
    name = "app.reports"
    label = "reports"

    def ready(self) -> None:
        from app.files.tasks import files_go_with
        from app.reports.models import Report, ReportSection

        files_go_with(Report, lambda report: [report.file])
        files_go_with(ReportSection, lambda section: [section.file])
