"""Tasks that make reports. A task loads rows by id and calls a service.

``build_report`` replaces itself by a chord: one task for each section, in parallel, then ``assemble_report`` under its
own Celery id. Whatever the outcome of each task, ``report_task_ended`` records it in the report.
"""

from __future__ import annotations

import logging
import uuid
from datetime import date
from functools import partial
from typing import Any

from celery import chord, shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.urls import reverse

from app.mail.send import MailUnavailable
from app.reports import services, summaries
from app.reports.models import Report, ReportSection
from pressroom.execution.end_hooks import End, Outcome
from pressroom.models import TaskRun
from pressroom.progress import report_progress_of

logger = logging.getLogger(__name__)

# Computing a section again is always safe, so it gets three retries, but not after a timeout.
AGAIN: dict[str, Any] = {
    "autoretry_for": (Exception,),
    "dont_autoretry_for": (SoftTimeLimitExceeded,),
    "retry_backoff": True,
    "retry_backoff_max": 60,
    "max_retries": 3,
}


def report_task_ended(end: End) -> None:
    """Mark a report as failed if one of its tasks is lost, and as queued again if that task runs again."""
    report = Report.objects.filter(pk=_report_of(end)).first()
    if report is None or end.outcome is Outcome.SUCCEEDED:
        return
    is_ordered = not TaskRun.objects.filter(pk=report.task).exclude(celery_id=end.root_id).exists()
    if end.outcome is Outcome.RESTARTED:
        # A section that runs again does not complete the report.
        if is_ordered and end.name != build_section.name:
            services.report_restart(report_id=report.pk, task_id=uuid.UUID(end.run_id))
    elif is_ordered:
        # Tasks of an earlier order do not affect the current one.
        services.report_fail(report_id=report.pk, reason=reason_told(end))


def _report_of(end: End) -> Any:
    """Return the key of the report."""
    if end.name != build_section.name:
        return end.args[0]
    return ReportSection.objects.filter(pk=end.args[0]).values_list("report", flat=True).first()


def reason_told(end: End) -> str:
    """Return the reason for the person who ordered the report. An unknown error may contain what they must not read."""
    match end.outcome, end.error_type:
        case Outcome.CANCELLED, _:
            return "It was cancelled."
        case Outcome.EXPIRED, _:
            return "It did not start in time."
        case _, "FileTooLarge":
            return "Its file would be too large. Order a shorter period."
        case _, "SoftTimeLimitExceeded" | "TimeLimitExceeded":
            return "It took too long. Order a shorter period."
        case _:
            return "It could not be made. The task shows the reason."


OF_A_REPORT: dict[str, Any] = {"on_end": report_task_ended, "owner_may_cancel": True}


@shared_task(bind=True, queue="reports", **OF_A_REPORT)
def build_report(self: Any, report_id: str) -> None:
    """Compute the report's sections in parallel, then assemble them."""
    report = Report.objects.filter(pk=report_id).first()
    if report is None:
        logger.info("report %s no longer exists", report_id)
        return
    sections = services.report_start(report=report)
    raise self.replace(chord([build_section.si(pk) for pk in sections], assemble_report.si(report_id)))


@shared_task(queue="reports", **OF_A_REPORT | AGAIN)
def build_section(section_id: int) -> bool:
    """Compute one section. Returns whether the section still exists."""
    section = ReportSection.objects.select_related("report").filter(pk=section_id).first()
    if section is None:
        logger.info("section %s no longer exists", section_id)
        return False
    # Clients watch the run with which the report was ordered, not this one.
    ordered = section.report.task
    services.section_build(section=section, progress=partial(report_progress_of, ordered))
    return True


@shared_task(queue="reports", **OF_A_REPORT | AGAIN)
def assemble_report(report_id: str) -> dict[str, str] | None:
    """Assemble the file from the sections. Returns the URL of the report, or None if the report no longer exists."""
    report = Report.objects.select_related("owner").filter(pk=report_id).first()
    if report is None:
        logger.info("report %s no longer exists", report_id)
        return None
    services.report_assemble(report=report, progress=partial(report_progress_of, report.task))
    return {"url": reverse("report-detail", args=[report_id])}


@shared_task(queue="default")
def cleanup_reports() -> int:
    """Delete reports older than REPORT_RETENTION days. Returns how many."""
    return services.reports_cleanup()


@shared_task(
    bind=True, queue="emails", autoretry_for=(OSError, MailUnavailable), retry_backoff=True, retry_backoff_max=600,
    max_retries=20,
)  # fmt: skip
def send_daily_summary(self: Any, day: str | None = None) -> int:
    """Mail a day's summary to the staff, by default that of yesterday. Returns the number of mails."""
    if day is None:
        # Fix the day in the run, so that a retry after midnight still reports the same day.
        raise self.replace(self.si(summaries.yesterday().isoformat()))
    return summaries.summary_send(day=date.fromisoformat(day))
