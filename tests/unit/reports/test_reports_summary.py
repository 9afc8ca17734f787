"""The daily summary: to whom, about which day, once."""

from __future__ import annotations

import io
from datetime import date, datetime
from smtplib import SMTPRecipientsRefused, SMTPServerDisconnected
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab
from django.conf import settings as django_settings
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from pypdf import PdfReader

from app.accounts.models import User
from app.blog.models import Post
from app.mail.send import MailUnavailable
from app.reports.models import SummaryMail
from app.reports.summaries import summary_send
from app.reports.tasks import send_daily_summary

pytestmark = pytest.mark.django_db

DAY = date(2026, 1, 5)


@pytest.fixture(autouse=True)
def staff(db: None) -> list[User]:
    """Two who are to have it, and those who are not."""
    make = User.objects.create_user
    make("reader", "reader@example.com")
    make("gone", "gone@example.com", is_staff=True, is_active=False)
    make("silent", "", is_staff=True)
    author = make("kim", "kim@example.com", is_staff=True)
    moment = datetime(2026, 1, 5, 9, 0, tzinfo=ZoneInfo("Asia/Seoul"))
    Post.objects.create(
        author=author, title="어제의 글", slug="p", body="b", status="published", published_at=moment
    )  # fmt: skip
    return [author, make("lee", "lee@example.com", is_staff=True)]


class Moody(EmailBackend):
    """Takes the first mail; what it does with the next is the class's mood."""

    mood: Exception | None = None

    def send_messages(self, messages: Any) -> int:
        if Moody.mood is not None and mail.outbox:
            raise Moody.mood
        return super().send_messages(messages)


@pytest.fixture
def moody(settings: Any) -> Any:
    settings.EMAIL_BACKEND = f"{__name__}.Moody"
    yield Moody
    Moody.mood = None


def test_goes_to_active_staff_with_the_report(staff: list[User]) -> None:
    assert summary_send(day=DAY) == 2
    assert [message.to for message in mail.outbox] == [["kim@example.com"], ["lee@example.com"]]
    message = mail.outbox[0]
    assert message.subject == "Pressroom on 5 January 2026"
    assert message.extra_headers["Message-ID"] == f"<summary-2026-01-05-{staff[0].pk}@example.com>"
    assert "Posts published: 1" in message.body
    html = message.alternatives[0][0]
    assert "Posts published" in html
    name, content, kind = message.attachments[0]
    assert (name, kind) == ("summary-2026-01-05.pdf", "application/pdf")
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)
    assert "어제의 글" in text


def test_goes_to_each_once_a_day() -> None:
    assert [summary_send(day=DAY), summary_send(day=DAY)] == [2, 0]
    assert summary_send(day=date(2026, 1, 6)) == 2
    assert len(mail.outbox) == 4


def test_who_was_sent_it_before_a_failure_is_not_sent_it_again(moody: Any, staff: list[User]) -> None:
    moody.mood = SMTPServerDisconnected("gone")
    with pytest.raises(MailUnavailable):
        summary_send(day=DAY)
    assert [sent.recipient for sent in SummaryMail.objects.all()] == staff[:1]
    moody.mood = None
    assert summary_send(day=DAY) == 1
    assert [message.to for message in mail.outbox] == [["kim@example.com"], ["lee@example.com"]]


def test_a_refused_address_is_recorded_and_stops_nobody(moody: Any) -> None:
    moody.mood = SMTPRecipientsRefused({"lee@example.com": (550, b"nobody")})
    assert summary_send(day=DAY) == 2
    assert sum(bool(sent.refused) for sent in SummaryMail.objects.all()) == 1
    assert summary_send(day=DAY) == 0


def test_who_is_put_off_is_tried_again_alone(moody: Any) -> None:
    moody.mood = SMTPRecipientsRefused({"lee@example.com": (450, b"later")})
    with pytest.raises(MailUnavailable, match="later"):
        summary_send(day=DAY)
    moody.mood = None
    assert summary_send(day=DAY) == 1
    assert [message.to for message in mail.outbox] == [["kim@example.com"], ["lee@example.com"]]


def test_is_scheduled_at_nine_on_working_days_in_seoul() -> None:
    schedule = django_settings.CELERY_BEAT_SCHEDULE["send-daily-summary"]
    assert schedule["task"] == send_daily_summary.name
    assert schedule["schedule"] == crontab(hour=9, minute=0, day_of_week="1-5")
    assert django_settings.CELERY_TIMEZONE == "Asia/Seoul"
    assert send_daily_summary.queue == "emails"
