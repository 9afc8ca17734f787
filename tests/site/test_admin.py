"""Who may do what in the admin, at every page of every model, and in the operations pages. None is a 500."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from app.accounts.models import User
from app.blog.models import Post
from pressroom.models import BulkAction, Pause, Status, TaskCall, TaskRun, Undeliverable
from tests.site.conftest import ROLES, STAFF, Site, status_of, undone
from tests.unit.conftest import permit

LOOK, OPERATE = {"viewer", "operator"}, {"operator"}
EDIT = {"editor"}
NOBODY: set[str] = set()
PAGES: dict[str, tuple[set[str], set[str]]] = {
    # Model: who sees it, and who adds one, besides superusers. None adds what is only to be looked at.
    "auth.Group": (NOBODY, NOBODY),
    "token_blacklist.OutstandingToken": (NOBODY, NOBODY),
    "token_blacklist.BlacklistedToken": (NOBODY, NOBODY),
    "taskruns.Undeliverable": (LOOK, NOBODY),
    "accounts.User": (NOBODY, NOBODY),
    "blog.Post": (EDIT, EDIT),
    "blog.Subscriber": (NOBODY, NOBODY),
    "blog.Subscription": (NOBODY, NOBODY),
    "blog.Delivery": (NOBODY, NOBODY),
    "blog.Notification": (NOBODY, NOBODY),
    "blog.DailyViews": (NOBODY, NOBODY),
    "reports.Report": (NOBODY, NOBODY),
    "reports.SummaryMail": (NOBODY, NOBODY),
    "integrations.Ping": (NOBODY, NOBODY),
    "payments.Order": (NOBODY, NOBODY),
    "django_celery_beat.PeriodicTask": (LOOK, OPERATE),
    "django_celery_beat.ClockedSchedule": (LOOK, OPERATE),
    "django_celery_beat.CrontabSchedule": (LOOK, OPERATE),
    "django_celery_beat.IntervalSchedule": (LOOK, OPERATE),
    "django_celery_beat.SolarSchedule": (LOOK, OPERATE),
}
READ_ONLY = {
    "token_blacklist.OutstandingToken", "taskruns.Undeliverable", "reports.Report", "reports.SummaryMail",
    "integrations.Ping", "payments.Order", "blog.Subscription",
}  # fmt: skip


def test_no_model_is_forgotten() -> None:
    admin.autodiscover()
    labels = {model._meta.label for model in admin.site._registry} - {"operations.Operations"}
    assert labels == PAGES.keys()


def expected(role: str, allowed: set[str], is_there: bool = True) -> int:
    """302 leads to the sign-in; 403 is for who has signed in."""
    if role not in STAFF:
        return 302
    return 200 if is_there and role in allowed | {"superuser"} else 403


@pytest.mark.parametrize("label", PAGES)
def test_each_role_sees_the_pages_that_the_table_says(site: Site, label: str) -> None:
    app_label, model = label.lower().split(".")
    lookers, adders = PAGES[label]
    for role in ROLES:
        browser = site.browser(role)
        told = [browser.get(reverse(f"admin:{app_label}_{model}_{page}")).status_code for page in ("changelist", "add")]
        assert told == [expected(role, lookers), expected(role, adders, label not in READ_ONLY)], role


def test_a_posts_pages(site: Site) -> None:
    for page in ("change", "history", "delete"):
        url = reverse(f"admin:blog_post_{page}", args=[site.ids["draft"]])
        for role in ROLES:
            assert site.browser(role).get(url).status_code == expected(role, EDIT), (role, page)


@pytest.mark.parametrize(
    "name", ["overview", "tasks", "dead_letters", "bulk_actions", "bulk_action", "workers", "schedules", "task"]
)
def test_the_operations_pages_are_for_who_may_look_or_operate(site: Site, name: str) -> None:
    of = {"task": "ordered_run", "bulk_action": "action"}.get(name)
    url = reverse(f"operations:{name}", args=[site.ids[of]] if of else [])
    for role in ROLES:
        assert site.browser(role).get(url).status_code == expected(role, LOOK), role


@pytest.mark.parametrize(("action", "run"), [("cancel", "ordered_run"), ("run-again", "dead_run")])
def test_to_act_on_runs_is_for_who_may_operate(site: Site, action: str, run: str) -> None:
    before = TaskRun.objects.filter(status=Status.QUEUED).count()
    for role in ROLES:
        with undone():
            answer = site.browser(role).post(reverse("operations:act"), {"action": action, "run": str(site.ids[run])})
            acted = TaskRun.objects.filter(status=Status.QUEUED).count() != before
        may = role in ("operator", "superuser")
        assert (answer.status_code, acted) == (302 if may or role not in STAFF else 403, may), role


ALL_QUEUED = {"action": "cancel", "all": "on", "of": "tasks", "status": "queued", "confirmed": "yes"}


def test_to_act_on_all_that_match_is_for_who_may_operate(site: Site) -> None:
    for role in ROLES:
        may = role in ("operator", "superuser")
        with undone():
            told = site.browser(role).post(reverse("operations:act"), ALL_QUEUED)
            made = BulkAction.objects.exclude(pk=site.ids["action"]).first()
        assert (told.status_code, made is not None) == (302 if may or role not in STAFF else 403, may), role
        with undone():
            told = site.browser(role).post(reverse("operations:bulk_action_stop", args=[site.ids["action"]]))
            state = BulkAction.objects.get(pk=site.ids["action"]).state
        assert (told.status_code, state == "cancelled") == (302 if may or role not in STAFF else 403, may), role


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"of": "nothing"}, 400),
        ({"status": "odd"}, 400),
        ({"queue": "\0"}, 400),
        ({"text": "x" * 201}, 400),
        ({"since": "0001-01-01T00:00"}, 400),
        ({"until": "9999-12-31T23:59"}, 400),
        ({"owner": "nobody"}, 400),
        ({"action": "explode"}, 400),
        # Asked again, with the reason.
        ({"action": "move"}, 200),
        ({"action": "move", "queue": "nowhere"}, 400),
        ({"action": "move", "to_queue": "nowhere"}, 200),
        ({"action": "move", "to_queue": "emails", "to_priority": "1e99"}, 200),
        ({"action": "move", "to_priority": "256"}, 200),
        ({"confirmed": None, "error": "%_\\", "worker": "\ud800", "result": "'"}, 200),
    ],
    ids=str,
)
def test_an_odd_order_for_all_changes_nothing(site: Site, form: dict[str, Any], status: int) -> None:
    given = {name: value for name, value in (ALL_QUEUED | form).items() if value is not None}
    body = urlencode({name: value.encode("utf-8", "surrogatepass") for name, value in given.items()})
    answer = site.browser("operator").post(
        reverse("operations:act"), body, content_type="application/x-www-form-urlencoded"
    )
    assert answer.status_code == status
    assert BulkAction.objects.count() == 1


def test_the_same_order_twice_is_one(site: Site) -> None:
    browser = site.browser("operator")
    first = browser.post(reverse("operations:act"), ALL_QUEUED)
    again = browser.post(reverse("operations:act"), ALL_QUEUED, follow=True)
    made = BulkAction.objects.latest("pk")
    assert first["Location"] == reverse("operations:bulk_action", args=[made.pk])
    assert f"The same action is under way, as number {made.pk}." in again.content.decode()
    assert BulkAction.objects.count() == 2
    assert browser.get(reverse("operations:bulk_action", args=[2**63])).status_code == 404
    assert browser.get(reverse("operations:bulk_action", args=[10**40])).status_code == 404


@pytest.mark.parametrize(("kind", "name"), [("queue", "emails"), ("task", "app.blog.tasks.reindex_post")])
def test_to_pause_and_resume_is_for_who_may_operate(site: Site, kind: str, name: str) -> None:
    for role in ROLES:
        may = role in ("operator", "superuser")
        for action, is_there in (("pause", may), ("resume", False)):
            answer = site.browser(role).post(
                reverse("operations:flow_act"), {"action": action, "kind": kind, "name": name}
            )
            assert answer.status_code == (302 if may or role not in STAFF else 403), role
            assert Pause.objects.filter(kind=kind, name=name).exists() == is_there, role


# ---- Schedules -----------------------------------------------------------------------------------------------------

FORM = {
    "name": "mine", "task": "app.integrations.tasks.ping_external", "enabled": "on", "args": "[]", "kwargs": "{}",
    "description": "", "start_time_0": "", "start_time_1": "", "expires_0": "", "expires_1": "", "expire_seconds": "",
    "queue": "", "priority": "",
}  # fmt: skip


@pytest.fixture
def interval(db: None) -> IntervalSchedule:
    return IntervalSchedule.objects.create(every=1, period="hours")


def add(site: Site, role: str, hours: IntervalSchedule, **change: str) -> tuple[int, bool]:
    """The answer to a new schedule, and whether there is one."""
    form = FORM | {"interval": str(hours.pk)} | change
    with undone():
        answer = site.browser(role).post(reverse("admin:django_celery_beat_periodictask_add"), form)
        return answer.status_code, PeriodicTask.objects.exists()


def test_a_schedule_is_written_by_who_may_operate(site: Site, interval: IntervalSchedule) -> None:
    every = [f"django_celery_beat.{verb}_periodictask" for verb in ("view", "add", "change", "delete")]
    site.users["staff"] = permit(site.users["staff"], *every)
    for role in ROLES:
        status, is_there = add(site, role, interval)
        may = role in ("operator", "superuser")
        assert (status, is_there) == (302 if may or role not in STAFF else 403, may), role


@pytest.mark.parametrize(
    "change",
    [
        {"task": "app.payments.tasks.process_payment"},
        {"task": "app.accounts.tasks.send_welcome_email", "args": "[1]"},
        {"task": "celery.backend_cleanup"},
        {"task": "os.system"},
        {"task": ""},
        {"task": "x" * 300},
        {"task": "app.blog.tasks.reindex_all\x07"},
        {"regtask": "app.payments.tasks.process_payment", "task": ""},
        {"queue": "nowhere"},
        {"args": "{}"},
        {"args": "x"},
        {"args": "[" * 100_000},
        {"kwargs": "[]"},
        {"kwargs": "null"},
        {"name": "a\x07b"},
        {"interval": ""},
        {"priority": "256"},
        {"expire_seconds": "-1"},
        {"start_time_0": "99999-01-01", "start_time_1": "x"},
    ],
)
def test_a_schedule_that_may_not_be_is_refused_with_the_reason(
    site: Site, interval: IntervalSchedule, change: dict[str, str]
) -> None:
    for role in ("operator", "superuser"):
        assert add(site, role, interval, **change) == (200, False)


@pytest.mark.parametrize(
    "action", ["run_tasks", "enable_tasks", "disable_tasks", "toggle_tasks", "run_now", "pause", "resume"]
)
def test_who_only_looks_starts_and_stops_nothing(site: Site, interval: IntervalSchedule, action: str) -> None:
    row = PeriodicTask.objects.create(name="x", task="app.payments.tasks.process_payment", interval=interval)
    before = TaskRun.objects.count()
    for role in ("staff", "viewer", "editor"):
        url = reverse("admin:django_celery_beat_periodictask_changelist")
        answer = site.browser(role).post(url, {"action": action, "_selected_action": row.pk})
        # Who may look gets the list again, without actions.
        assert answer.status_code == (200 if role == "viewer" else 403)
    row.refresh_from_db()
    assert (row.enabled, TaskRun.objects.count()) == (True, before)


def test_run_now_runs_what_may_be_scheduled(site: Site, interval: IntervalSchedule) -> None:
    before = TaskRun.objects.count()
    for task, runs in (("app.payments.tasks.process_payment", 0), ("app.integrations.tasks.ping_external", 1)):
        row = PeriodicTask.objects.create(name=task, task=task, args='["x"]' if not runs else "[]", interval=interval)
        answer = site.browser("operator").post(reverse("operations:schedule_act", args=[row.pk]), {"action": "run-now"})
        assert answer.status_code == 302
        assert TaskRun.objects.count() == before + runs
        url = reverse("admin:django_celery_beat_periodictask_changelist")
        site.browser("operator").post(url, {"action": "run_now", "_selected_action": row.pk})
        assert TaskRun.objects.count() == before + 2 * runs


def test_messages_are_put_back_by_who_may_operate(site: Site, redis_server: Any) -> None:
    url = reverse("admin:taskruns_undeliverable_changelist")
    for role in ROLES:
        row = Undeliverable.objects.create(queue="default", message=b"x", reason="no task")
        site.browser(role).post(url, {"action": "discard", "_selected_action": row.pk})
        assert Undeliverable.objects.filter(pk=row.pk).exists() == (role not in ("operator", "superuser")), role


# ---- Posts ---------------------------------------------------------------------------------------------------------


def test_the_admin_publishes_changes_and_deletes_as_the_api_does(site: Site) -> None:
    post = site.ids["draft"]
    for role in ROLES:
        with undone():
            form = {"action": "publish", "_selected_action": post}
            site.browser(role).post(reverse("admin:blog_post_changelist"), form)
            published = status_of(post)
            started = set(
                TaskRun.objects.filter(pk__in=TaskCall.objects.filter(body__contains=f"[{post}]")).values_list(
                    "name", flat=True
                )
            )
        follows = {f"app.blog.tasks.{name}" for name in ("notify_subscribers", "reindex_post", "invalidate_caches")}
        may = role in ("editor", "superuser")
        assert (published, started) == (("published", follows) if may else ("draft", set())), role


def test_who_may_look_at_posts_does_not_publish_them(site: Site) -> None:
    looker = User.objects.create_user("looker", "looker@example.com", is_staff=True)
    site.users["looker"] = permit(looker, "blog.view_post")
    form = {"action": "publish", "_selected_action": site.ids["draft"]}
    assert site.browser("looker").post(reverse("admin:blog_post_changelist"), form).status_code == 200, "again"
    assert Post.objects.get(pk=site.ids["draft"]).status == "draft"


@pytest.mark.parametrize("text", ["a\x07b", "a\x00b", "\x1b[31m"])
def test_a_post_that_cannot_be_carried_is_refused_in_the_admin(site: Site, text: str) -> None:
    form = {"title": text, "body": text, "slug": "s", "author": site.users["author"].pk}
    assert site.browser("editor").post(reverse("admin:blog_post_add"), form).status_code == 200
    assert not Post.objects.filter(slug="s").exists()
