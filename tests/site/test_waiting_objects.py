"""Whatever of the site waits for a task says how that ended, and can be tried again: nothing is stuck."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.files.base import ContentFile
from django.db import models
from PIL import Image
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog import covers
from app.blog.models import Cover, Notification, NotificationChunk, Post
from app.blog.subscriptions.services import subscriptions_add
from app.blog.tasks import resize_cover
from app.payments.models import Order
from app.reports.models import Report, ReportSection
from app.reports.tasks import assemble_report, build_section
from pressroom import operator_actions
from pressroom.checks import our_tasks
from pressroom.enqueue.ownership import owned_by
from pressroom.models import Status, TaskRun
from tests.support.ledger_rows import change_run
from tests.support.probes import here
from tests.unit.blog.mailing import work

pytestmark = pytest.mark.django_db

VISA = {"payment_method": "pm_card_visa"}


@dataclass
class Waiting:
    """An object that waits for a run."""

    run: TaskRun
    tell: Callable[[], tuple[str, str]]
    """Status and reason, as the API tells its owner."""
    again: Callable[[], Any]
    """The answer to its owner, who has it tried again."""
    waits: tuple[str, ...]
    """The statuses in which it waits."""
    comes_back: bool = True
    """Whether running the run again brings it back to waiting."""


def newest() -> TaskRun:
    return TaskRun.objects.order_by("-id")[0]


def order(client: APIClient) -> Waiting:
    url = f"/api/orders/{client.post('/api/orders/', {'plan': 'monthly'}).json()['id']}/"
    assert client.post(f"{url}pay/", VISA).status_code == 202

    def tell() -> tuple[str, str]:
        told = client.get(url).json()
        return told["status"], told["failure"]

    return Waiting(newest(), tell, lambda: client.post(f"{url}pay/", VISA), ("processing",))


def report(client: APIClient) -> Waiting:
    ordered = client.post("/api/reports/", {"type": "activity", "period": "2026-01"}).json()

    def tell() -> tuple[str, str]:
        told = client.get(ordered["report"]).json()
        return told["status"], told["error"]

    run = TaskRun.objects.get(pk=ordered["id"])
    return Waiting(run, tell, lambda: client.post(f"{ordered['report']}retry/"), ("queued", "running"))


def being_made(client: APIClient, step: Callable[[TaskRun, Report], Any]) -> Waiting:
    """A report whose task has given its place to others, of which one is looked at."""
    waiting = report(client)
    ordered = waiting.run
    change_run(ordered.pk, status=Status.REPLACED)
    with owned_by(ordered.owner):
        waiting.run = TaskRun.of(step(ordered, Report.objects.get()))
    return waiting


def section(client: APIClient) -> Waiting:
    def step(ordered: TaskRun, report: Report) -> Any:
        return build_section.apply_async((report.sections.all()[0].pk,), root_id=ordered.celery_id)

    waiting = being_made(client, step)
    waiting.comes_back = False
    return waiting


def assembly(client: APIClient) -> Waiting:
    def step(ordered: TaskRun, report: Report) -> Any:
        return assemble_report.apply_async((str(report.pk),), task_id=ordered.celery_id, root_id=ordered.celery_id)

    return being_made(client, step)


def post(client: APIClient) -> str:
    return f"/api/posts/{client.post('/api/posts/', {'title': 'News', 'body': 'b'}).json()['id']}/"


def notification(client: APIClient) -> Waiting:
    url = post(client)
    subscriptions_add(author=User.objects.get(username="author"), emails=["reader@example.com"])
    client.post(f"{url}publish/")
    run = TaskRun.objects.get(name="app.blog.tasks.notify_subscribers")

    def tell() -> tuple[str, str]:
        told = client.get(f"{url}notification/").json()
        return told["status"], told["error"]

    return Waiting(run, tell, lambda: client.post(f"{url}notification/"), ("running",))


def cover(client: APIClient) -> Waiting:
    url, picture = post(client), io.BytesIO()
    Image.new("RGB", (10, 10)).save(picture, "PNG")

    def upload() -> Any:
        return client.generic("PUT", f"{url}cover/", picture.getvalue(), content_type="image/png")

    assert upload().status_code == 202

    def tell() -> tuple[str, str]:
        told = client.get(url).json()["cover_upload"]
        return told["status"], told["error"]

    return Waiting(newest(), tell, upload, ("processing",))


OBJECTS: dict[str, Callable[[APIClient], Waiting]] = {
    "app.payments.tasks.process_payment": order,
    "app.reports.tasks.build_report": report,
    "app.reports.tasks.build_section": section,
    "app.reports.tasks.assemble_report": assembly,
    "app.blog.tasks.notify_subscribers": notification,
    "app.blog.tasks.resize_cover": cover,
}
NOTHING_WAITS = {
    "pressroom.tasks.prune", "pressroom.tasks.tell_end", "pressroom.tasks.call_errbacks",
    "app.accounts.tasks.cleanup_expired_tokens", "app.accounts.tasks.send_welcome_email",
    "app.accounts.tasks.send_email_link", "app.accounts.tasks.send_password_reset_email",
    "app.accounts.tasks.send_password_changed_email", "app.accounts.tasks.send_email_changed_email",
    "app.blog.tasks.invalidate_caches", "app.blog.tasks.record_view", "app.blog.tasks.reindex_all",
    "app.blog.tasks.reindex_post", "app.blog.tasks.reindex_posts", "app.blog.tasks.roll_up_views",
    "app.blog.tasks.send_confirmation_email", "app.blog.tasks.cleanup_unconfirmed",
    "app.files.tasks.delete_files",
    "app.integrations.tasks.call_external_api", "app.integrations.tasks.notify_slack",
    "app.integrations.tasks.ping_external",
    "app.reports.tasks.cleanup_reports", "app.reports.tasks.send_daily_summary",
}  # fmt: skip
"""Tasks that no row's status depends on: what they leave undone is done by the next one, or by nobody."""


PARTS = {"app.blog.tasks.notify_chunk"}
"""Tasks that the site calls as parts of another one, which waits for them: tests/unit/blog/test_notifications.py."""


@pytest.fixture(autouse=True)
def payments(settings: Any) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_here"


def test_each_task_is_waited_for_or_is_not() -> None:
    """A new task is in one of the two lists; with ``on_end``, in the first, whose objects are tried in every way."""
    ours = {task.name: task for task in our_tasks() if task.name.startswith(("app.", "pressroom."))}
    assert {name for name, task in ours.items() if task.on_end} == OBJECTS.keys() | PARTS
    assert ours.keys() - OBJECTS.keys() - PARTS <= NOTHING_WAITS


def test_each_model_that_waits_has_a_task_that_tells_it() -> None:
    """A row waits where it names a task, or says when something is ready, done or ended."""
    waits = {
        model
        for app in settings.DOMAIN_APPS
        for model in apps.get_app_config(app.rpartition(".")[2]).get_models()
        if {"task", "task_id", "run", "ready_at", "done_at", "ended_at"}
        & {one.name for one in model._meta.get_fields()}
        or any(
            {"queued", "processing", "running"} & {str(value) for value, _ in one.flatchoices}
            for one in model._meta.get_fields()
            if isinstance(one, models.Field)
        )
    }
    assert waits == {Order, Report, ReportSection, Notification, NotificationChunk, Cover}


@pytest.mark.parametrize("way", here.WAYS)
@pytest.mark.parametrize("task", OBJECTS)
def test_it_says_so_and_its_owner_tries_again(as_author: APIClient, task: str, way: Callable[[TaskRun], None]) -> None:
    waiting = OBJECTS[task](as_author)
    assert waiting.run.name == task
    status, reason = waiting.tell()
    assert (status in waiting.waits, reason) == (True, "")
    way(waiting.run)
    status, reason = waiting.tell()
    assert status not in waiting.waits
    if way in (here.cancelled, here.cancelled_while_it_runs):
        assert "cancelled" in reason
    assert reason.endswith(".")
    before = TaskRun.objects.count()
    assert waiting.again().status_code == 202
    status, reason = waiting.tell()
    assert (status in waiting.waits, reason) == (True, "")
    assert (TaskRun.objects.count(), newest().status) == (before + 1, Status.QUEUED)
    # Nor does the old run, run again and lost again, take the new one's place.
    if way is not here.discarded:
        again = operator_actions.run_again(run=waiting.run, user=None)
        here.cancelled(again)
        if task not in ("app.blog.tasks.notify_subscribers", "app.blog.tasks.resize_cover"):
            assert waiting.tell() == (status, "")


@pytest.mark.parametrize("way", [way for way in here.WAYS if way is not here.discarded])
@pytest.mark.parametrize("task", OBJECTS)
def test_run_again_it_waits_again(as_author: APIClient, task: str, way: Callable[[TaskRun], None]) -> None:
    waiting = OBJECTS[task](as_author)
    way(waiting.run)
    new = operator_actions.run_again(run=waiting.run, user=None)
    status, reason = waiting.tell()
    assert (status in waiting.waits, reason == "") == (waiting.comes_back, waiting.comes_back)
    if waiting.comes_back:
        here.cancelled(new)
        assert waiting.tell()[0] not in waiting.waits


def test_a_report_whose_sections_are_computed_is_cancelled_by_the_task_it_was_ordered_with(
    as_author: APIClient,
) -> None:
    waiting = section(as_author)
    ordered = Report.objects.get().task
    assert as_author.post(f"/api/tasks/{ordered}/cancel/").status_code == 202
    assert waiting.tell() == ("failed", "It was cancelled.")
    waiting.run.refresh_from_db()
    assert waiting.run.status == Status.CANCELLED
    assert as_author.post(f"/api/tasks/{ordered}/cancel/").status_code == 409


def test_what_is_done_stays_done(as_author: APIClient) -> None:
    """A report that is ready, an order that is paid, a cover that is made: a late end of a task changes nothing."""
    for make, done in ((order, ("paid", "")), (report, ("ready", ""))):
        waiting = make(as_author)
        Order.objects.update(status="paid")
        Report.objects.update(status="ready")
        here.cancelled(waiting.run)
        assert waiting.tell() == done
    url = post(as_author)
    made = Cover.objects.create(post=Post.objects.get(pk=url.split("/")[3]), original="")
    made.original = covers.default_storage.save(f"covers/{made.key}/original", ContentFile(b"x"))
    run = TaskRun.of(resize_cover.delay(made.pk))
    Cover.objects.update(ready_at=made.created_at, widths=[1])
    here.failed(run)
    assert as_author.get(url).json()["cover_upload"] is None


def test_what_is_gone_is_no_error(as_author: APIClient) -> None:
    for make, model in ((order, Order), (report, Report), (section, Report), (notification, Post), (cover, Post)):
        waiting = make(as_author)
        model.objects.all().delete()  # type: ignore[attr-defined]
        here.failed(waiting.run)
    assert not TaskRun.objects.filter(name="pressroom.tasks.tell_end").exists()


@pytest.mark.django_db(transaction=True)
def test_mail_that_has_stopped_goes_on_and_nobody_is_told_twice(as_author: APIClient, mailoutbox: Any) -> None:
    waiting = notification(as_author)
    here.cancelled(waiting.run)
    waiting.again()
    run = newest()
    work()
    run.refresh_from_db()
    assert (run.status, waiting.tell(), len(mailoutbox)) == ("succeeded", ("done", ""), 1)
    assert waiting.again().status_code == 409


@pytest.mark.django_db(transaction=True)
def test_an_interrupted_order_is_paid_by_another_card_and_charged_once(as_author: APIClient, settings: Any) -> None:
    from tests.unit.payments.stripe_contract import stripe_api

    with stripe_api() as stripe:
        settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = "sk_test_loopback", stripe.web.url
        waiting = order(as_author)
        here.cancelled(waiting.run)
        url = f"/api/orders/{Order.objects.get().pk}/"
        assert as_author.post(f"{url}pay/", {"payment_method": "pm_card_other"}).status_code == 202
        assert here.execute(newest()).status == "succeeded"
        assert as_author.get(url).json()["status"] == "paid"
        assert len(stripe.charges) == 1
        # The old task, run again, finds it paid.
        again = operator_actions.run_again(run=waiting.run, user=None)
        assert here.execute(again).status == "succeeded"
        assert len(stripe.charges) == 1


def test_a_name_that_is_not_a_uuid_is_no_report(as_author: APIClient) -> None:
    assert as_author.post(f"/api/reports/{uuid.uuid4()}/retry/").status_code == 404
