"""A small site, and who comes to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.core.cache import cache
from django.db import transaction
from django.test import Client
from rest_framework.test import APIClient

from app.accounts.models import User
from app.accounts.services import user_make_author
from app.blog import services as blog
from app.blog.models import Notification, Post
from app.blog.subscriptions.services import subscriptions_add
from app.blog.tasks import notify_subscribers
from app.payments.services import order_create
from app.reports import services as reports
from app.reports.periods import Period
from app.reports.tasks import build_report
from pressroom import operator_actions
from pressroom.bulk import orders
from pressroom.enqueue.ownership import owned_by
from pressroom.models import Limit, TaskRun
from pressroom.sql import limits
from pressroom.sql.run_filter import RunFilter
from tests.support.probes import here
from tests.unit.conftest import (  # noqa: F401 - fixtures
    anonymous,
    as_author,
    author,
    empty_cache,
    permit,
    quick_passwords,
    reader,
    static_files_when_asked_for,
)  # fmt: skip

PERMISSIONS: dict[str, tuple[str, ...]] = {
    "reader": (),
    "author": (),
    "other": (),
    "staff": (),
    "viewer": ("operations.view_operations",),
    "operator": ("operations.operate",),
    "editor": ("blog.view_post", "blog.add_post", "blog.change_post", "blog.delete_post"),
    "superuser": (),
}
ROLES = ("stranger", *PERMISSIONS)
"""All objects are the author's. `other` is another author; from `staff` on they may enter the admin."""
STAFF = ROLES[ROLES.index("staff") :]


@dataclass
class Site:
    """The users by role, and ids of what belongs to the author."""

    users: dict[str, User]
    ids: dict[str, Any] = field(default_factory=dict)

    def api(self, role: str) -> APIClient:
        client = APIClient(raise_request_exception=False)
        if role != "stranger":
            client.force_authenticate(self.users[role])
        return client

    def browser(self, role: str) -> Client:
        client = Client(raise_request_exception=False)
        if role != "stranger":
            client.force_login(self.users[role])
        return client


@pytest.fixture
def site(db: None, settings: Any) -> Site:
    settings.STRIPE_SECRET_KEY = "sk_test_here"
    users = {}
    for role, permissions in PERMISSIONS.items():
        user = User.objects.create_user(
            role, f"{role}@example.com", is_staff=role in STAFF, is_superuser=role == "superuser"
        )
        if role in ("author", "other"):
            user_make_author(user)
        users[role] = permit(user, *permissions)
    site, writer = Site(users), users["author"]
    with owned_by(writer):
        drafted = blog.post_create(author=writer, title="A draft", body="b")
        published = blog.post_create(author=writer, title="News", body="b")
        blog.post_publish(post_id=published.pk)
        subscriptions_add(author=writer, emails=["subscriber@example.com"])
        Notification.objects.create(post=published, total=3, failure="It was cancelled.")
        mails = TaskRun.of(notify_subscribers.delay(published.pk))
        order = order_create(owner=writer, plan="monthly")
        made = [report(writer, kind) for kind in ("activity", "subscribers")]
        waiting = TaskRun.objects.get(pk=report(writer, "activity").task)
    dead = TaskRun.objects.get(pk=made[0].task)
    here.failed(dead)
    pause = operator_actions.pause(kind="queue", name="reports", user=None)
    limits.sync([limits.Limit("task", "probe.effect", 2, None, None)])
    limit = Limit.objects.get(name="probe.effect")
    action = orders.order(kind="run-now", wanted=RunFilter(queue="emails"), user=users["operator"])
    site.ids = {
        "draft": drafted.pk, "published": published.pk, "order": order.pk, "failed_report": made[0].pk,
        "subscribers_report": made[1].pk, "ordered_run": waiting.pk, "sites_run": mails.pk, "dead_run": dead.pk,
        "pause": pause.pk, "limit": limit.pk, "action": action.pk,
    }  # fmt: skip
    return site


def report(owner: User, kind: str) -> Any:
    import uuid

    key = uuid.uuid4()
    run = TaskRun.of(build_report.delay(str(key)))
    return reports.report_create(
        report_id=key, task_id=run.pk, owner=owner, kind=kind, period=Period.parse("2026-01"), file_format="csv"
    )


@contextmanager
def undone() -> Iterator[None]:
    """What an attempt did is undone after it, and it is the first one."""
    cache.clear()
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def status_of(post: int) -> str:
    return Post.objects.values_list("status", flat=True).get(pk=post)
