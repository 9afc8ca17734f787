"""Making reports. A task fetches by id and calls a service.

``build_report`` gives its place to a chord: a task for each section, in parallel, then ``assemble_report`` under its
own Celery id. However one of them ends, the report learns of it by ``report_task_ended``.
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

# A section is safe to compute again, whatever went wrong: three more tries, but not of what took too long.
AGAIN: dict[str, Any] = {
    "autoretry_for": (Exception,),
    "dont_autoretry_for": (SoftTimeLimitExceeded,),
    "retry_backoff": True,
    "retry_backoff_max": 60,
    "max_retries": 3,
}


def report_task_ended(end: End) -> None:
    """A report whose task, section or assembly is lost has failed, and says why; it waits again for one run again."""
    report = Report.objects.filter(pk=_report_of(end)).first()
    if report is None or end.outcome is Outcome.SUCCEEDED:
        return
    is_ordered = not TaskRun.objects.filter(pk=report.task).exclude(celery_id=end.root_id).exists()
    if end.outcome is Outcome.RESTARTED:
        # A section alone makes no report.
        if is_ordered and end.name != build_section.name:
            services.report_restart(report_id=report.pk, task_id=uuid.UUID(end.run_id))
    elif is_ordered:
        # What was left of an earlier order is nothing to this one.
        services.report_fail(report_id=report.pk, reason=reason_told(end))


def _report_of(end: End) -> Any:
    """Its key."""
    if end.name != build_section.name:
        return end.args[0]
    return ReportSection.objects.filter(pk=end.args[0]).values_list("report", flat=True).first()


def reason_told(end: End) -> str:
    """Why, for who ordered it: of an error that we do not know, the text may hold what is not theirs to read."""
    match end.outcome, end.error_type:
        case Outcome.CANCELLED, _:
            return "It was cancelled."
        case Outcome.EXPIRED, _:
            return "It was not begun in time."
        case _, "FileTooLarge":
            return "Its file would be too large: order a shorter period."
        case _, "SoftTimeLimitExceeded" | "TimeLimitExceeded":
            return "It took too long: order a shorter period."
        case _:
            return "It could not be made; the task has the reason."


OF_A_REPORT: dict[str, Any] = {"on_end": report_task_ended, "owner_may_cancel": True}


@shared_task(bind=True, queue="reports", **OF_A_REPORT)
def build_report(self: Any, report_id: str) -> None:
    """Compute the report's sections in parallel, then put them together."""
    report = Report.objects.filter(pk=report_id).first()
    if report is None:
        logger.info("report %s is gone", report_id)
        return
    sections = services.report_start(report=report)
    raise self.replace(chord([build_section.si(pk) for pk in sections], assemble_report.si(report_id)))


@shared_task(queue="reports", **OF_A_REPORT | AGAIN)
def build_section(section_id: int) -> bool:
    """Compute one section. Returns whether there is such a section."""
    section = ReportSection.objects.select_related("report").filter(pk=section_id).first()
    if section is None:
        logger.info("section %s is gone", section_id)
        return False
    # The client watches the run that the report was ordered with, not this one.
    ordered = section.report.task
    services.section_build(section=section, progress=partial(report_progress_of, ordered))
    return True


@shared_task(queue="reports", **OF_A_REPORT | AGAIN)
def assemble_report(report_id: str) -> dict[str, str] | None:
    """Make the file of the sections. Returns where it is to be had, or None where the report is gone."""
    report = Report.objects.select_related("owner").filter(pk=report_id).first()
    if report is None:
        logger.info("report %s is gone", report_id)
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
    """Mail the staff a day's summary; yesterday's where none is given. Returns to how many it was sent."""
    if day is None:
        # The same run with its day: a try after midnight is about the same one.
        raise self.replace(self.si(summaries.yesterday().isoformat()))
    return summaries.summary_send(day=date.fromisoformat(day))
