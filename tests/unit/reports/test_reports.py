"""Reports over HTTP, and what is in them: ordered, watched, downloaded, failed, cleaned up."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog.models import DailyViews, Delivery, Post, Subscriber, Subscription
from app.blog.subscriptions.services import subscriptions_add
from app.files.models import StoredFile
from app.files.storage import FileTooLarge
from app.reports import services
from app.reports.models import Report
from app.reports.periods import Period
from app.reports.sections import BY_REPORT, SECTIONS, Column, Section
from app.reports.tasks import assemble_report, build_section, cleanup_reports, reason_told
from pressroom.execution.end_hooks import End, Outcome
from pressroom.models import TaskRun
from tests.unit.conftest import client_of, permit

pytestmark = pytest.mark.django_db

REPORTS = "/api/reports/"
SEOUL = ZoneInfo("Asia/Seoul")
ORDER = {"type": "activity", "period": "2026-01", "format": "pdf"}


def order(client: APIClient, **change: str) -> Report:
    answer = client.post(REPORTS, ORDER | change)
    assert answer.status_code == 202, answer.content
    return Report.objects.get(pk=answer.json()["report"].rstrip("/").rpartition("/")[2])


def make(report: Report) -> Report:
    """What the workers do."""
    for section in report.sections.all():
        assert build_section(section.pk)
    assert assemble_report(str(report.pk)) == {"url": f"{REPORTS}{report.pk}/"}
    report.refresh_from_db()
    return report


def told(client: APIClient, report: Report) -> dict[str, Any]:
    document: dict[str, Any] = client.get(f"{REPORTS}{report.pk}/").json()
    return document


def content(report: Report) -> bytes:
    with default_storage.open(report.file) as file:
        read: bytes = file.read()
    return read


class TestPeriods:
    @pytest.mark.parametrize(
        ("text", "first", "last", "title"),
        [
            ("2026", "2026-01-01", "2026-12-31", "1 January 2026 – 31 December 2026"),
            ("2024-02", "2024-02-01", "2024-02-29", "February 2024"),
            ("2026-12", "2026-12-01", "2026-12-31", "December 2026"),
            ("2026-01-31", "2026-01-31", "2026-01-31", "31 January 2026"),
            ("2026-01-10/2026-02", "2026-01-10", "2026-02-28", "10 January 2026 – 28 February 2026"),
        ],
    )
    def test_are_told_as_iso_8601(self, text: str, first: str, last: str, title: str) -> None:
        period = Period.parse(text)
        assert (period.first.isoformat(), period.last.isoformat(), period.title) == (first, last, title)
        assert Period.parse(str(period)) == period

    @pytest.mark.parametrize(
        "text",
        ["", "x", "26", "2026-13", "2026-02-30", "2026-1", "0000", "2026/", "/2026", "2026-02/2026-01", "2000/2026",
         "2026-01-01/2026-01-02/2026", "２０２６", "-2026", "9999", "0001"],
    )  # fmt: skip
    def test_others_are_refused_and_nothing_is_started(self, as_author: Any, text: str) -> None:
        answer = as_author.post(REPORTS, ORDER | {"period": text})
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == "#/period"
        assert not Report.objects.exists()
        assert not TaskRun.objects.exists()

    def test_a_day_is_the_sites_day(self) -> None:
        period = Period.parse("2026-01-31")
        assert period.start == datetime(2026, 1, 31, tzinfo=SEOUL)
        assert period.end == datetime(2026, 2, 1, tzinfo=SEOUL)

    def test_a_chart_has_a_bar_a_day_or_a_bar_a_month(self) -> None:
        counts = {date(2026, 1, 1): 2, date(2026, 1, 31): 3}
        labels, values = Period.parse("2026-01").series(counts)
        assert (len(labels), labels[0], values[0], values[30], sum(values)) == (31, "01-01", 2, 3, 5)
        labels, values = Period.parse("2026").series(counts)
        assert (labels[0], values) == ("2026-01", [5] + [0] * 11)


class TestOrders:
    def test_is_answered_with_the_task_and_the_reports_address(self, as_author: Any, author: User) -> None:
        answer = as_author.post(REPORTS, ORDER)
        assert answer.status_code == 202
        task = answer.json()
        assert (answer["Location"], answer["Retry-After"]) == (task["url"], "1")
        assert (task["name"], task["queue"], task["status"]) == ("app.reports.tasks.build_report", "reports", "queued")
        report = as_author.get(task["report"]).json()
        assert report["task"] == task["url"]
        assert (report["type"], report["period"], report["format"]) == ("activity", "2026-01-01/2026-01-31", "pdf")
        assert (report["status"], report["progress"], report["download"]) == (
            "queued", {"current": 0, "total": len(BY_REPORT["activity"])}, None,
        )  # fmt: skip
        assert TaskRun.objects.get().owner == author

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [({"type": "nonsense"}, "#/type"), ({"format": "docx"}, "#/format"), ({"period": ["2026"]}, "#/period")],
    )
    def test_a_bad_one_starts_nothing(self, as_author: Any, change: dict[str, Any], pointer: str) -> None:
        answer = as_author.post(REPORTS, ORDER | change)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, pointer)
        assert not TaskRun.objects.exists()

    def test_a_key_orders_once(self, as_author: Any) -> None:
        for _ in range(2):
            assert as_author.post(REPORTS, ORDER, HTTP_IDEMPOTENCY_KEY="k").status_code == 202
        assert as_author.post(REPORTS, ORDER | {"format": "csv"}, HTTP_IDEMPOTENCY_KEY="k").status_code == 422
        assert Report.objects.count() == TaskRun.objects.count() == 1

    def test_are_their_owners_and_whose_who_may_view_reports(
        self, as_author: Any, as_reader: Any, reader: User
    ) -> None:
        report = order(as_author)
        url = f"{REPORTS}{report.pk}/"
        assert APIClient().get(url).status_code == 401
        assert as_reader.get(url).status_code == as_reader.delete(url).status_code == 404
        assert as_reader.get(REPORTS).json()["results"] == []
        permit(reader, "reports.view_report")
        assert as_reader.get(url).status_code == 200
        assert as_reader.delete(url).status_code == 403

    def test_subscribers_addresses_are_for_who_has_the_permission(self, as_reader: Any, reader: User) -> None:
        answer = as_reader.post(REPORTS, ORDER | {"type": "subscribers"})
        assert (answer.status_code, answer["Content-Type"]) == (403, "application/problem+json")
        assert not TaskRun.objects.exists()
        User.objects.update(is_staff=True)
        assert as_reader.post(REPORTS, ORDER | {"type": "subscribers"}).status_code == 403, "to be staff is not enough"
        permit(reader, "reports.order_subscribers")
        report = make(order(as_reader, type="subscribers"))
        link = told(as_reader, report)["download"]
        assert Client().get(link).status_code == 200
        # Without it one's own are closed, too.
        reader.user_permissions.clear()
        assert as_reader.get(f"{REPORTS}{report.pk}/").status_code == 404
        assert as_reader.get(REPORTS).json()["results"] == []
        assert Client().get(link).status_code == 404

    def test_no_cache_keeps_the_links(self, as_author: Any) -> None:
        make(order(as_author))
        assert as_author.get(REPORTS)["Cache-Control"] == "private, no-store"

    def test_every_type_has_two_sections_or_more(self) -> None:
        """A chord of one is a chain to Celery, which calls errbacks in another way."""
        assert set(BY_REPORT) == set(Report.Kind)
        for names in BY_REPORT.values():
            assert len(names) >= 2
            assert set(names) <= set(SECTIONS)


class TestFigures:
    @pytest.fixture
    def january(self, author: User) -> None:
        """Two posts in January by the site's clock and one just outside at either end."""
        edges = [
            datetime(2025, 12, 31, 23, 59, 59, tzinfo=SEOUL),
            datetime(2026, 1, 1, 0, 0, tzinfo=SEOUL),
            datetime(2026, 1, 31, 23, 59, 59, tzinfo=SEOUL),
            datetime(2026, 2, 1, 0, 0, tzinfo=SEOUL),
        ]
        for number, moment in enumerate(edges):
            post = Post.objects.create(
                author=author, title=f"=큐 {number}", slug=str(number), body="b", status="published",
                published_at=moment,
            )  # fmt: skip
            subscriber = Subscriber.objects.create(email=f"s{number}@example.com")
            Subscriber.objects.filter(pk=subscriber.pk).update(created_at=moment)
            Subscription.objects.create(
                author=author,
                subscriber=subscriber,
                confirmed_at=moment,
                unsubscribed_at=moment if number == 1 else None,
            )
            unconfirmed = Subscriber.objects.create(email=f"u{number}@example.com")
            Subscriber.objects.filter(pk=unconfirmed.pk).update(created_at=moment)
            Subscription.objects.create(author=author, subscriber=unconfirmed, asked_at=moment)
            Delivery.objects.create(post=post, subscriber=subscriber, refused="" if number < 2 else "550 no")
            Delivery.objects.filter(post=post).update(at=moment)
            DailyViews.objects.create(post=post, day=moment.date(), views=number + 2)
        Post.objects.create(author=author, title="draft", slug="draft", body="b")

    @pytest.mark.usefixtures("january")
    def test_are_of_the_period_alone(self) -> None:
        period = Period.parse("2026-01")
        facts = dict(SECTIONS["overview"].make(period).facts)
        assert facts == {
            "Posts published": 2, "Views": 7, "Mails delivered": 1, "Mails refused": 1,
            "New subscribers": 2, "New accounts": 0,
        }  # fmt: skip
        assert list(SECTIONS["posts"].make(period).rows) == [
            ["2026-01-01 00:00", "=큐 1", "author", "1", "0"],
            ["2026-01-31 23:59", "=큐 2", "author", "0", "1"],
        ]
        assert list(SECTIONS["views"].make(period).rows) == [["=큐 2", "4"], ["=큐 1", "3"]]
        assert list(SECTIONS["mails"].make(period).rows) == [["2026-01-01", "1", "0"], ["2026-01-31", "0", "1"]]
        assert SECTIONS["growth"].make(period).facts == [
            ("Subscribers", 2), ("New in the period", 2), ("Unsubscribed, all time", 1),
        ]  # fmt: skip
        assert [(row[0], row[2]) for row in SECTIONS["subscriber_list"].make(period).rows] == [
            ("s0@example.com", "active"), ("s1@example.com", "left"), ("s2@example.com", "active"),
        ]  # fmt: skip

    def test_long_lists_come_whole_page_by_page(self, author: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.blog.figures.PAGE", 3)
        moment = datetime(2026, 1, 5, tzinfo=SEOUL)
        for number in range(9):
            # Three of one moment each: the next page begins within them.
            Post.objects.create(
                author=author, title=f"{number}", slug=f"{number}", body="b", status="published",
                published_at=moment + timedelta(hours=number // 4),
            )  # fmt: skip
        subscriptions_add(author=author, emails=(f"{number}@example.com" for number in range(9)))
        Subscriber.objects.update(created_at=moment)
        period = Period.parse("2026-01")
        assert [row[1] for row in SECTIONS["posts"].make(period).rows] == [f"{number}" for number in range(9)]
        assert len({row[0] for row in SECTIONS["subscriber_list"].make(period).rows}) == 9

    def test_a_section_comes_back_from_its_file(self) -> None:
        made = SECTIONS["posts"].make(Period.parse("2026-01"))
        file = io.BytesIO()
        Section(made.facts, made.chart, [Column("Titel", 1.0)], iter([["안녕"], ["\n,\u2028"]])).save(file)
        file.seek(0)
        loaded = Section.load(file)
        assert loaded.columns == [Column("Titel", 1.0)]
        assert list(loaded.rows) == [["안녕"], ["\n,\u2028"]]

    @pytest.mark.usefixtures("january")
    def test_as_csv(self, as_author: Any) -> None:
        report = make(order(as_author, format="csv"))
        text = content(report)
        assert text.startswith(b"\xef\xbb\xbf"), "Excel reads it as UTF-8"
        rows = list(csv.reader(io.StringIO(text.decode("utf-8-sig"))))
        assert ["Overview"] in rows
        assert ["Posts published", "2"] in rows
        # A title that a spreadsheet would take for a formula.
        assert ["2026-01-01 00:00", "'=큐 1", "author", "1", "0"] in rows


class TestDownload:
    @pytest.fixture
    def ready(self, as_author: Any) -> Report:
        return make(order(as_author))

    def test_by_the_link_alone(self, as_author: Any, ready: Report) -> None:
        link = told(as_author, ready)["download"]
        answer = Client().get(link)
        assert answer.status_code == 200
        assert answer["Content-Type"] == "application/pdf"
        assert answer["Content-Disposition"] == 'attachment; filename="activity-2026-01-01-2026-01-31.pdf"'
        assert answer["Cache-Control"] == "private, no-store"
        assert answer.streaming
        assert b"".join(answer.streaming_content) == content(ready)

    def test_an_expired_link(self, as_author: Any, ready: Report, settings: Any) -> None:
        link = told(as_author, ready)["download"]
        settings.REPORT_LINK_LIFETIME = -1
        answer = Client().get(link)
        assert (answer.status_code, answer["Content-Type"]) == (403, "application/problem+json")
        assert "expired" in answer.json()["detail"]

    @pytest.mark.parametrize("forge", [lambda t: t[:-1] + "x", lambda t: "x" + t, lambda t: "x", lambda t: "a:b:c"])
    def test_a_forged_link(self, as_author: Any, ready: Report, forge: Any) -> None:
        token = told(as_author, ready)["download"].rstrip("/").rpartition("/")[2]
        answer = Client().get(f"{REPORTS}download/{forge(token)}/")
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")

    def test_a_link_ends_with_whom_it_was_given_to(self, as_author: Any, author: User, ready: Report) -> None:
        link = told(as_author, ready)["download"]
        author.is_active = False
        author.save()
        assert Client().get(link).status_code == 404

    def test_a_link_ends_with_the_report_or_its_file(self, as_author: Any, ready: Report) -> None:
        link = told(as_author, ready)["download"]
        default_storage.delete(ready.file)
        assert Client().get(link).status_code == 404
        assert as_author.delete(f"{REPORTS}{ready.pk}/").status_code == 204
        assert Client().get(link).status_code == 404

    def test_a_link_ends_with_the_permission(self, reader: User, ready: Report) -> None:
        permit(reader, "reports.view_report")
        link = told(client_of(reader), ready)["download"]
        assert Client().get(link).status_code == 200
        reader.user_permissions.clear()
        assert Client().get(link).status_code == 404


class TestMaking:
    def test_each_step_may_be_done_again(self, as_author: Any) -> None:
        report = make(order(as_author))
        before = content(report)
        make(report)
        assert content(report) == before
        assert StoredFile.objects.count() == 1, "the sections' own files are gone"

    def test_progress_is_told_of_the_report_and_of_its_task(self, as_author: Any) -> None:
        report = order(as_author)
        build_section(report.sections.all()[0].pk)
        assert told(as_author, report)["progress"] == {"current": 1, "total": 5}
        task = as_author.get(told(as_author, report)["task"]).json()
        assert task["progress"] == {"current": 1, "total": 6, "message": "sections"}

    def test_a_report_that_is_gone_is_no_error_and_leaves_no_file(self, as_author: Any) -> None:
        report = order(as_author)
        section, pk = report.sections.all()[0], report.pk
        report.delete()
        assert build_section(section.pk) is False
        assert assemble_report(str(pk)) is None
        assert not StoredFile.objects.exists()

    def test_a_report_removed_while_a_section_is_computed(self, as_author: Any, monkeypatch: Any) -> None:
        report = order(as_author)
        section = report.sections.select_related("report")[0]
        report.delete()
        services.section_build(section=section, progress=lambda *_: None)
        assert not StoredFile.objects.exists()

    def test_a_failure_does_not_undo_a_report_that_is_ready(self, as_author: Any) -> None:
        report = make(order(as_author))
        assert services.report_fail(report_id=report.pk, reason="late") is False
        assert told(as_author, report)["status"] == "ready"

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            ("OSError", "could not be made"),
            ("", "could not be made"),
            (FileTooLarge.__name__, "too large"),
            (SoftTimeLimitExceeded.__name__, "too long"),
            (TimeLimitExceeded.__name__, "too long"),
        ],
    )
    def test_who_ordered_it_reads_why_and_no_more(self, error: str, told: str) -> None:
        end = End(Outcome.FAILED, build_section.name, "", "", [], {}, "", error, "postgres://press:secret@db/press")
        assert told in reason_told(end)
        assert "secret" not in reason_told(end)

    def test_old_ones_are_removed_with_their_files(self, as_author: Any, settings: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(services, "BATCH", 2)
        old = [order(as_author) for _ in range(3)]
        new = order(as_author)
        make(old[0])
        long_ago = timezone.now() - timedelta(days=settings.REPORT_RETENTION, seconds=1)
        Report.objects.filter(pk__in=[report.pk for report in old]).update(created_at=long_ago)
        assert cleanup_reports() == 3
        assert list(Report.objects.all()) == [new]
        deleted = [run.arguments[0] for run in TaskRun.objects.filter(name="app.files.tasks.delete_files")]
        assert deleted == [[[f"reports/{old[0].pk}.pdf"]]]

    def test_the_admin_shows_them_with_links_and_changes_none(self, as_author: Any, admin_client: Any) -> None:
        report = make(order(as_author))
        default_storage.save("x", ContentFile(b""))
        page = admin_client.get("/admin/reports/report/").content.decode()
        # The link is the reader's, not the owner's: it is good without the owner.
        report.owner.is_active = False
        report.owner.save()
        link = page.partition("/api/reports/download/")[2].partition('"')[0]
        assert Client().get(f"/api/reports/download/{link}").status_code == 200
        assert f"/admin/operations/tasks/{report.task}/" in page
        assert "/api/reports/download/" in page
        detail = admin_client.get(f"/admin/reports/report/{report.pk}/change/")
        assert detail.status_code == 200
        assert b'name="_save"' not in detail.content
