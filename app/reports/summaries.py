"""The daily summary: yesterday's statistics, mailed to the staff with the report as PDF."""

from __future__ import annotations

import io
from datetime import date, timedelta

from django.conf import settings
from django.core.mail import get_connection
from django.utils import timezone

from app.accounts import services as accounts
from app.mail.send import MailPutOff, MailRefused, MailUnavailable, compose, send
from app.reports.models import Report, SummaryMail
from app.reports.periods import Period
from app.reports.sections import BY_REPORT, made, overview, titled
from app.reports.services import pdf_write


def yesterday() -> date:
    """Return yesterday's date in the time zone of the site."""
    return timezone.localdate() - timedelta(days=1)


def summary_send(*, day: date) -> int:
    """Mail the day's summary to all active staff who have an address and have not received it. Returns how many.

    A mail is recorded once the mail server has accepted it. If the worker dies in between, that one mail is sent again,
    with the same Message-ID. Raises MailUnavailable if the server accepts no mail now or has put off some; the other
    recipients have then received theirs.
    """
    told = SummaryMail.objects.filter(day=day).values("recipient")
    recipients = list(accounts.staff_to_mail().exclude(pk__in=told))
    if not recipients:
        return 0
    period = Period(day, day)
    names = BY_REPORT[Report.Kind.ACTIVITY]
    file = io.BytesIO()
    sections = made(names, period)
    pdf_write(
        file, title="Daily summary", period=period, titles=titled(names), sections=sections, reader="the staff"
    )  # fmt: skip
    facts = [(name, f"{value:,}") for name, value in overview(period).facts]
    context = {"period": period, "facts": facts, "site": settings.SITE_URL}
    put_off: list[str] = []
    with get_connection() as connection:
        for user in recipients:
            mail = compose(
                template="reports/summary",
                context={**context, "user": user},
                to=user.email,
                key=f"summary-{day}-{user.pk}",
                connection=connection,
            )
            mail.attach(f"summary-{day}.pdf", file.getvalue(), "application/pdf")
            refused = ""
            try:
                send(mail)
            except MailPutOff as error:
                put_off.append(str(error))
                continue
            except MailRefused as error:
                refused = str(error)
            SummaryMail.objects.get_or_create(day=day, recipient=user, defaults={"refused": refused})
    if put_off:
        raise MailUnavailable("; ".join(put_off))
    return len(recipients)
