"""The business logic of reports. It knows neither HTTP nor Celery."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import IO, Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateformat import format as date_format

from app.http.permissions import may
from app.reports.csvfile import write_csv
from app.reports.models import Report, ReportSection
from app.reports.periods import Period
from app.reports.sections import BY_REPORT, SECTIONS, Section, titled

BATCH = 100
"""Reports deleted per batch."""
LINKS = signing.TimestampSigner(salt="app.reports.download")
PERMISSIONS: dict[str, str | None] = {
    Report.Kind.ACTIVITY: None,
    Report.Kind.SUBSCRIBERS: "reports.order_subscribers",
}
"""The permission to order and read a kind of report, including one's own. None: every signed-in user may."""

Progress = Callable[[int, int, str], None]


class LinkExpired(Exception):
    """The link was valid but has expired."""


def report_create(
    *, report_id: uuid.UUID, task_id: uuid.UUID, owner: Any, kind: str, period: Period, file_format: str
) -> Report:
    """Create a report with its sections. The run ``task_id`` makes it; call this in the transaction of that call."""
    report = Report.objects.create(
        pk=report_id, task=task_id, owner=owner, kind=kind, format=file_format,
        first_day=period.first, last_day=period.last,
    )  # fmt: skip
    ReportSection.objects.bulk_create(
        ReportSection(report=report, position=position, name=name) for position, name in enumerate(BY_REPORT[kind])
    )
    return report


def kinds_open_to(*, user: Any) -> list[str]:
    """Return the kinds of reports that the user may order and read."""
    return [kind for kind, permission in PERMISSIONS.items() if permission is None or user.has_perm(permission)]


def reports_seen_by(*, user: Any) -> QuerySet[Report]:
    """Return the user's own reports, or all reports if they may view reports. Limited to the kinds they may read."""
    reports = Report.objects.filter(kind__in=kinds_open_to(user=user))
    return reports if may(user, "view", Report) else reports.filter(owner=user.pk)


def report_restart(*, report_id: uuid.UUID, task_id: uuid.UUID) -> bool:
    """Mark a failed report as queued again, to be made by the run ``task_id``. Returns False if it has not failed.

    Sections that are already computed are not computed again.
    """
    return bool(
        Report.objects.filter(pk=report_id, status=Report.Status.FAILED).update(
            status=Report.Status.QUEUED, task=task_id, error="", finished_at=None
        )
    )


def report_start(*, report: Report) -> list[int]:
    """Mark the report as running. Returns the keys of its sections."""
    Report.objects.filter(pk=report.pk, status=Report.Status.QUEUED).update(status=Report.Status.RUNNING)
    return list(report.sections.values_list("pk", flat=True))


def section_build(*, section: ReportSection, progress: Progress) -> None:
    """Compute a section once and store it as a file. Calls ``progress(done, total, unit)`` for the whole report."""
    name = f"reports/{section.report_id}/{section.position}.jsonl.gz"
    if section.done_at is None:
        made = SECTIONS[section.name].make(section.report.period)
        with tempfile.TemporaryFile() as file:
            made.save(file)
            file.seek(0)
            section.file = default_storage.save(name, File(file))
    with transaction.atomic():
        # The lock serializes the sections, so that the last one counts all of them as done.
        if not Report.objects.select_for_update().filter(pk=section.report_id):
            default_storage.delete(name)
            return
        section.done_at = section.done_at or timezone.now()
        section.save(update_fields=["file", "done_at"])
        states = section.report.sections.values_list("done_at", flat=True)
        progress(sum(state is not None for state in states), len(states) + 1, "sections")


def report_assemble(*, report: Report, progress: Progress) -> None:
    """Assemble the sections, store the file and delete the sections' own files.

    A report that is ready stays as it is. Raises FileTooLarge.
    """
    sections = list(report.sections.all())
    if report.status != Report.Status.READY:
        progress(len(sections), len(sections) + 1, "sections")
        with tempfile.TemporaryFile() as file:
            _write(file, report, sections)
            size = file.tell()
            file.seek(0)
            name = default_storage.save(f"reports/{report.pk}.{report.format}", File(file))
        if not Report.objects.filter(pk=report.pk).update(
            status=Report.Status.READY, error="", file=name, size=size, finished_at=timezone.now()
        ):
            # The report has been deleted.
            default_storage.delete(name)
            return
    for section in sections:
        if section.file:
            default_storage.delete(section.file)
    report.sections.update(file="")
    progress(len(sections) + 1, len(sections) + 1, "sections")


def _write(file: IO[bytes], report: Report, sections: Sequence[ReportSection]) -> None:
    titles = titled(section.name for section in sections)
    if report.format == Report.Format.CSV:
        write_csv(file, titles=titles, sections=_stored(sections))
    else:
        pdf_write(
            file, title=report.title, period=report.period, titles=titles, sections=_stored(sections),
            reader=report.owner.get_username(),
        )  # fmt: skip


def _stored(sections: Sequence[ReportSection]) -> Iterator[Section]:
    for section in sections:
        with default_storage.open(section.file) as file:
            yield Section.load(file)


def pdf_write(
    file: IO[bytes], *, title: str, period: Period, titles: Sequence[str], sections: Iterator[Section], reader: str
) -> None:
    """Write the sections as a PDF with title page and contents."""
    from app.reports.pdf import write_pdf  # loads reportlab, which few processes need

    now = date_format(timezone.localtime(), "j F Y, H:i T")
    write_pdf(
        file, title=title, period=period.title, made=f"Made on {now} for {reader}", titles=titles, sections=sections
    )


def report_fail(*, report_id: uuid.UUID, reason: str) -> bool:
    """Mark the report as failed and keep its sections' files. Returns False if it has failed already or is ready."""
    unfinished = Report.objects.filter(pk=report_id, status__in=(Report.Status.QUEUED, Report.Status.RUNNING))
    return bool(unfinished.update(status=Report.Status.FAILED, error=reason, finished_at=timezone.now()))


def reports_cleanup(*, seconds: float = 240.0) -> int:
    """Delete reports older than REPORT_RETENTION days in batches. Their files follow. Returns how many.

    Stops after about ``seconds``. The rest is for the next day.
    """
    deadline = time.monotonic() + seconds
    old = Report.objects.filter(created_at__lt=timezone.now() - timedelta(days=settings.REPORT_RETENTION))
    deleted = 0
    while batch := list(old.values_list("pk", flat=True)[:BATCH]):
        Report.objects.filter(pk__in=batch).delete()
        deleted += len(batch)
        if time.monotonic() >= deadline:
            break
    return deleted


def link_token(*, report: Report, user_id: int) -> str:
    """Return a token that opens the file for REPORT_LINK_LIFETIME seconds, as long as the user may see the report."""
    return LINKS.sign_object([str(report.pk), user_id], compress=False)


def link_open(*, token: str) -> Report | None:
    """Return the report that the token opens.

    Returns None if the token is forged, or if its user is gone or may no longer see the report. Raises LinkExpired.
    """
    try:
        report_id, user_id = LINKS.unsign_object(token, max_age=settings.REPORT_LINK_LIFETIME)
    except signing.SignatureExpired as error:
        raise LinkExpired from error
    except signing.BadSignature:
        return None
    user = get_user_model().objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        return None
    return reports_seen_by(user=user).filter(pk=report_id, status=Report.Status.READY).first()
