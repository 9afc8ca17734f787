"""The operations pages without a browser: who may do what, what the statements count, and how the search pages."""

from __future__ import annotations

import datetime
import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from celery.schedules import crontab
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from app.accounts.models import User
from app.queues import BY_NAME
from pressroom import operator_actions
from pressroom.bulk.executor import work_once
from pressroom.enqueue.ownership import owned_by
from pressroom.models import BrokenSchedule, Outage, Status, TaskRun, Tick, Worker
from pressroom.monitoring.queue_stats import read_ledger as figures_of_ledger
from pressroom.operations import schedules, search
from pressroom.operations.family import called, family
from pressroom.operations.past import SPANS, past
from pressroom.operations.search import find
from pressroom.operations.templatetags.operations import ago, count, duration
from pressroom.operations.templatetags.operations import call as written
from pressroom.operations.views.dead_letters import dead_groups
from pressroom.sql import ends, outages, runs, workers
from pressroom.sql.run_filter import RunFilter
from pressroom.text import zoned
from pressroom.uuid7 import uuid7_at
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db

PAGES = ("", "tasks/", "dead-letters/", "actions/", "workers/", "schedules/")


def call(*arguments: Any, queue: str = "default", **options: Any) -> TaskRun:
    return TaskRun.of(tasks.effect.apply_async(arguments or ("/dev/null", "x"), queue=queue, **options))


def claim(run: TaskRun) -> runs.Claim:
    claimed = runs.claim(run.pk, uuid.uuid4(), workers.register("test@here", '["default"]', 2))
    assert claimed is not None
    return claimed


def kill(run: TaskRun, error: str = "KeyError") -> TaskRun:
    """Make a dead letter of it, as its worker would."""
    assert ends.fail(claim(run), runs.Failure(error, "'x'", "Traceback: <b>here</b>"), None)
    run.refresh_from_db()
    return run


@pytest.fixture
def signed_in(db: None) -> Callable[..., Client]:
    """A client of somebody with these permissions."""

    def sign_in(*permissions: str, **fields: Any) -> Client:
        user = User.objects.create_user(f"user{User.objects.count()}", f"u{User.objects.count()}@example.com", **fields)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def operator(signed_in: Callable[..., Client]) -> Client:
    return signed_in("view_operations", "operate", is_staff=True)


class TestPermissions:
    @pytest.mark.parametrize("path", PAGES)
    def test_looking_is_a_permission_of_its_own(self, signed_in: Callable[..., Client], path: str) -> None:
        url = f"/admin/operations/{path}"
        assert Client().get(url)["Location"].startswith("/admin/login/")
        assert signed_in("view_operations").get(url)["Location"].startswith("/admin/login/"), "no staff"
        assert signed_in("view_taskrun", is_staff=True).get(url).status_code == 403
        assert signed_in("view_operations", is_staff=True).get(url).status_code == 200

    def test_operating_is_another(self, signed_in: Callable[..., Client]) -> None:
        dead = kill(call())
        looker = signed_in("view_operations", is_staff=True)
        page = looker.get(f"/admin/operations/tasks/{dead.pk}/").content.decode()
        assert "Traceback: &lt;b&gt;here&lt;/b&gt;" in page
        assert "Run again" not in page
        url = "/admin/operations/tasks/act/"
        assert looker.post(url, {"action": "run-again", "run": str(dead.pk)}).status_code == 403
        assert not TaskRun.objects.filter(retry_of=dead).exists()

    def test_a_form_of_another_site_is_refused(self, operator: Client) -> None:
        dead = kill(call())
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = operator.cookies
        url = "/admin/operations/tasks/act/"
        assert strict.post(url, {"action": "run-again", "run": str(dead.pk)}).status_code == 403
        assert operator.get(url).status_code == 405

    def test_the_index_shows_it_to_who_may_look(self, signed_in: Callable[..., Client]) -> None:
        link = "/admin/operations/operations/"
        assert link in signed_in("view_operations", is_staff=True).get("/admin/").content.decode()
        assert link not in signed_in("view_taskrun", is_staff=True).get("/admin/").content.decode()


class TestActions:
    URL = "/admin/operations/tasks/act/"

    def test_one_is_run_again_and_the_page_says_who(self, operator: Client) -> None:
        dead = kill(call())
        page = f"/admin/operations/tasks/{dead.pk}/"
        answer = operator.post(self.URL, {"action": "run-again", "run": str(dead.pk), "back": page}, follow=True)
        new = TaskRun.objects.get(retry_of=dead)
        assert answer.redirect_chain == [(page, 302)]
        entry = LogEntry.objects.get()
        assert entry.change_message == f"run again as {new.pk}"
        assert f"<strong>{entry.user}</strong>" in answer.content.decode()

    def test_many_are_asked_for_once_more(self, operator: Client) -> None:
        called = [call() for _ in range(3)]
        form = {"action": "cancel", "run": [str(run.pk) for run in called]}
        asked = operator.post(self.URL, form)
        assert "Cancel these 3?" in asked.content.decode()
        assert TaskRun.objects.filter(status=Status.QUEUED).count() == 3
        operator.post(self.URL, form | {"confirmed": "yes"})
        assert TaskRun.objects.filter(status=Status.CANCELLED).count() == 3
        assert LogEntry.objects.count() == 3

    def test_all_of_a_kind_and_no_other(self, operator: Client) -> None:
        these = [kill(call(), "KeyError") for _ in range(3)]
        other = kill(call(), "ValueError")
        form = {
            "action": "discard",
            "all": "on",
            "of": "dead_letters",
            "name": "probe.effect",
            "error_type": "KeyError",
        }
        asked = operator.post(self.URL, form).content.decode()
        assert "3 runs</strong> can be changed now" in asked
        page = operator.post(self.URL, form | {"confirmed": "yes"}, follow=True)
        [(url, _)] = page.redirect_chain
        assert 'class="ops-button ops-danger">Stop' in page.content.decode()
        while work_once():
            pass
        assert "3 changed." in operator.get(url, headers={"X-Fragment": "1"}).content.decode()
        assert not TaskRun.objects.filter(pk__in=[run.pk for run in these]).exists()
        assert TaskRun.objects.get(pk=other.pk).status == Status.DEAD
        assert "discarded: 3 changed" in operator.get("/admin/operations/").content.decode()

    @pytest.mark.parametrize("form", [{"action": "explode"}, {"action": "cancel", "run": "x"}, {}])
    def test_nonsense_is_refused(self, operator: Client, form: dict[str, str]) -> None:
        assert operator.post(self.URL, form).status_code == 400

    def test_what_cannot_be_is_told(self, operator: Client) -> None:
        dead = kill(call())
        told = operator.post(self.URL, {"action": "cancel", "run": str(dead.pk)}, follow=True).content.decode()
        assert "1 skipped: The task has already ended." in told

    def test_never_leads_to_another_site(self, operator: Client) -> None:
        answer = operator.post(self.URL, {"action": "cancel", "run": str(call().pk), "back": "https://evil.example/"})
        assert answer["Location"] == "/admin/operations/tasks/"


def keys(page: search.Page) -> list[uuid.UUID]:
    return [run.pk for run in page.runs]


class TestSearch:
    def test_pages_by_key(self) -> None:
        called = [call() for _ in range(5)]
        first = find(RunFilter(), 2)
        second = find(RunFilter(), 2, first.before)
        third = find(RunFilter(), 2, second.before)
        assert keys(first) + keys(second) + keys(third) == [run.pk for run in reversed(called)]
        assert (third.before, third.looked_back_to) == (None, None)

    def test_each_filter(self) -> None:
        korean, mail = call("/dev/null", "내일 50%_\\"), call(queue="emails")
        dead, running = kill(call()), call("/dev/null", "RUNS")
        claim(running)
        owner = User.objects.create_user("owner", "owner@example.com")
        with owned_by(owner):
            owned = call()
        done = call()
        assert ends.succeed(claim(done), json.dumps({"said": "내일"}))
        change_run(done.pk, worker_id=None)
        for wanted, expected in (
            (RunFilter(text="내일 50%_\\"), [korean]),
            (RunFilter(text="0%_"), [korean]),
            (RunFilter(text="5%0"), []),
            (RunFilter(text="runs"), [running]),
            (RunFilter(queue="emails"), [mail]),
            (RunFilter(status="dead"), [dead]),
            (RunFilter(status="running"), [running]),
            (RunFilter(status="queued"), [owned, mail, korean]),
            (RunFilter(status="dead", error_type="ValueError"), []),
            (RunFilter(names=("probe.effect",), status="dead"), [dead]),
            (RunFilter(names=("probe.none", "probe.effect"), queue="emails"), [mail]),
            (RunFilter(names=("probe.none",)), []),
            (RunFilter(key=str(mail.pk)), [mail]),
            (RunFilter(key=mail.celery_id), [mail]),
            (RunFilter(key="nobody's"), []),
            (RunFilter(error="keyerr"), [dead]),
            (RunFilter(error="'X'"), [dead]),
            (RunFilter(error="x", status="cancelled"), []),
            (RunFilter(error="x", result="x"), []),
            (RunFilter(worker="TEST@"), [running, dead]),
            (RunFilter(worker="test@here", status="dead"), [dead]),
            (RunFilter(worker="nobody"), []),
            (RunFilter(owner_id=owner.pk), [owned]),
            (RunFilter(owner_id=owner.pk, status="queued", queue="emails"), []),
            (RunFilter(result="내일"), [done]),
            (RunFilter(result="내_일"), []),
        ):
            assert RunFilter.from_json(json.loads(json.dumps(wanted.to_json()))) == wanted
            assert keys(find(wanted)) == [run.pk for run in expected], wanted

    def test_by_the_request_that_called(self, signed_in: Callable[..., Client]) -> None:
        run = call()
        headers = json.loads(run.headers) | {"__django_structlog__": {"request_id": "a-request-1"}}
        change_run(run.pk, headers=json.dumps(headers))
        call()
        assert keys(find(RunFilter(key="a-request-1"))) == [run.pk]

    def test_by_time(self) -> None:
        noon = datetime.datetime(2026, 3, 2, 12, tzinfo=datetime.UTC)
        hour = datetime.timedelta(hours=1)
        at = []
        for hours in (-1, 0, 1):
            run = call()
            change_run(run.pk, id=uuid7_at(noon + hours * hour))
            at.append(uuid7_at(noon + hours * hour))
        assert keys(find(RunFilter(since=noon, until=noon + hour))) == [at[1]]
        assert keys(find(RunFilter(since=noon, until=None)))[-2:] == [at[2], at[1]]

    def test_says_how_far_it_has_looked_and_goes_on_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "LOOKED_THROUGH", 3)
        oldest = call("/dev/null", "wanted")
        later = [call() for _ in range(4)]
        page = find(RunFilter(text="wanted"))
        assert page.runs == []
        assert page.before == later[1].pk
        assert page.looked_back_to is not None
        assert abs(page.looked_back_to - later[1].created_at) < datetime.timedelta(seconds=5)
        assert keys(find(RunFilter(text="wanted"), before=page.before)) == [oldest.pk]

    def test_part_of_a_name_is_enough(self, operator: Client) -> None:
        call()
        assert "probe.effect" in operator.get("/admin/operations/tasks/?name=robe.eff").content.decode()

    @pytest.mark.parametrize(
        "query",
        [
            "status=odd",
            "queue=none",
            "since=yesterday",
            "since=2026-01-02T00:00&until=2026-01-01T00:00",
            "owner=nobody",
            "error=%00",
            "since=0001-01-01T00:00",
            "until=9999-12-31T23:59",
            "since=1970-01-01T00:00",
        ],
    )
    def test_what_is_not_valid_is_told(self, operator: Client, query: str) -> None:
        call()
        page = operator.get(f"/admin/operations/tasks/?{query}").content.decode()
        assert "errorlist" in page
        assert "probe.effect</a>" not in page


class TestFigures:
    def test_the_overview_tells_of_every_queue(self, operator: Client) -> None:
        long_ago = timezone.now() - datetime.timedelta(seconds=90)
        for _ in range(2):
            call(eta=long_ago)
        claim(call(queue="emails"))
        kill(call(queue="emails"))
        page = operator.get("/admin/operations/").content.decode()
        rows = {name: page.partition(f'?queue={name}"')[2].partition("</tr>")[0] for name in BY_NAME}
        cells = {
            name: [re.sub(r"<[^>]+>", "", cell).split()[0] for cell in re.findall(r"<td.*?</td>", row)][:6]
            for name, row in rows.items()
        }
        # Waiting, oldest, running, workers, slots, dead.
        assert cells["default"][0] == "2"
        assert "over 1 min" in rows["default"]
        assert cells["emails"] == ["0", "–", "1", "0", "0", "1"]
        for name in BY_NAME.keys() - {"default", "emails"}:
            assert cells[name] == ["0", "–", "0", "0", "0", "0"]

    def test_the_overview_tells_what_is_paused_and_resumes_it(self, operator: Client) -> None:
        change_run(call().pk, run_at=timezone.now() - datetime.timedelta(minutes=1))
        for kind, name in (("queue", "default"), ("task", "probe.effect")):
            operator.post("/admin/operations/flow/act/", {"action": "pause", "kind": kind, "name": name})
        page = operator.get("/admin/operations/").content.decode()
        assert page.count(" by ") >= 2
        assert "1 paused" in page
        for kind, name in (("queue", "default"), ("task", "probe.effect")):
            assert f'id="pause-{kind}-{name}">Resume' in page
            operator.post("/admin/operations/flow/act/", {"action": "resume", "kind": kind, "name": name})
        page = operator.get("/admin/operations/", follow=True).content.decode()
        assert "Resume" not in page
        assert page.count("resumed") >= 2
        odd = {"action": "pause", "kind": "x", "name": "\0"}
        answer = operator.post("/admin/operations/flow/act/", odd, follow=True)
        assert "Only a queue, a task or a key of a task can be paused." in answer.content.decode()

    def test_the_last_hour(self) -> None:
        now = timezone.now().replace(second=30, microsecond=0)
        for minutes, wait in ((5, 1.0), (5, 2.0), (5, 9.0), (7, 4.0), (70, 5.0)):
            run = call()
            assert ends.succeed(claim(run), None)
            at = now - datetime.timedelta(minutes=minutes)
            change_run(run.pk, finished_at=at, started_at=at, run_at=at - datetime.timedelta(seconds=wait))
        dead = kill(call())
        change_run(dead.pk, finished_at=now - datetime.timedelta(minutes=7))
        hour = {minute.at: minute for minute in past(SPANS["1h"]).steps}
        assert len(hour) == 60
        five = hour[now.replace(second=0) - datetime.timedelta(minutes=5)]
        assert (five.succeeded, five.dead) == (3, 0)
        assert five.wait.p50 == pytest.approx(2.0, rel=0.2)
        assert five.wait.p99 == pytest.approx(9.0, rel=0.2)
        seven = hour[now.replace(second=0) - datetime.timedelta(minutes=7)]
        assert (seven.succeeded, seven.dead) == (1, 1)
        assert sum(minute.succeeded for minute in hour.values()) == 4

    @pytest.mark.parametrize(("span", "steps"), [("", 60), ("?span=1h", 60), ("?span=24h", 24), ("?span=7d", 168)])
    def test_longer_spans(self, operator: Client, span: str, steps: int) -> None:
        run = call()
        assert ends.succeed(claim(run), None)
        kill(call())
        page = operator.get(f"/admin/operations/{span}").content.decode()
        table = page.partition('id="past-table"')[2].partition("</table>")[0]
        assert table.count('scope="row"') == steps
        row = page.partition('id="by-task-table"')[2].partition("probe.effect</a>")[2].partition("</tr>")[0]
        assert re.findall(r">([^<>]+)</td>", row)[:2] == ["1", "1"]
        assert 'aria-current="true"' in page

    @pytest.mark.parametrize("span", ["2h", "", "\0", "7d" * 1000])
    def test_an_unknown_span_is_refused(self, operator: Client, span: str) -> None:
        assert operator.get("/admin/operations/", {"span": span}).status_code == 400

    def test_dead_letters_by_kind(self) -> None:
        for error in ("KeyError", "ValueError", "KeyError"):
            kill(call(), error)
        assert [(group.error_type, group.count) for group in dead_groups()] == [
            ("KeyError", 2),
            ("ValueError", 1),
        ]


class TestSchedules:
    @pytest.fixture
    def hourly(self, db: None) -> PeriodicTask:
        every = IntervalSchedule.objects.create(every=1, period="hours")
        return PeriodicTask.objects.create(
            name="hourly", task="pressroom.tasks.prune", interval=every, last_run_at=timezone.now()
        )

    def test_last_next_and_late(self, hourly: PeriodicTask) -> None:
        minute = datetime.timedelta(minutes=1)
        cron = CrontabSchedule.from_schedule(crontab(hour=3, minute=0))
        cron.save()
        now = timezone.now()
        nightly = PeriodicTask.objects.create(name="nightly", task="x", crontab=cron)
        PeriodicTask.objects.filter(pk=hourly.pk).update(last_run_at=now - 61 * minute)
        first, second = schedules.schedules()
        assert first.next_run_at is not None
        assert abs(first.next_run_at - (now - minute)) < minute / 6
        assert first.late_by == pytest.approx(60, abs=10)
        assert second.row == nightly
        assert second.next_run_at is not None
        assert (timezone.localtime(second.next_run_at).hour, second.late_by) == (3, 0)
        assert now < second.next_run_at <= now + datetime.timedelta(days=1)

    def test_pause_and_resume_tell_beat_and_say_who(self, operator: Client, hourly: PeriodicTask) -> None:
        url = f"/admin/operations/schedules/{hourly.pk}/act/"
        before = PeriodicTasks.last_change()
        operator.post(url, {"action": "pause"})
        assert not PeriodicTask.objects.get(pk=hourly.pk).enabled
        assert schedules.schedules()[0].next_run_at is None
        paused = PeriodicTasks.last_change()
        assert paused is not None
        assert before is None or paused > before
        assert "already paused" in operator.post(url, {"action": "pause"}, follow=True).content.decode()
        operator.post(url, {"action": "resume"})
        assert PeriodicTasks.last_change() > paused
        (schedule,) = schedules.schedules()
        assert schedule.next_run_at is not None
        assert schedule.next_run_at > timezone.now()
        assert [entry.change_message for entry in LogEntry.objects.order_by("id")] == ["paused", "resumed"]

    def test_run_now_leaves_the_next_run_where_it_was(self, operator: Client, hourly: PeriodicTask) -> None:
        operator.post(f"/admin/operations/schedules/{hourly.pk}/act/", {"action": "run-now"})
        run = TaskRun.objects.get(name="pressroom.tasks.prune")
        assert run.owner is not None
        assert json.loads(run.headers)["periodic_task_name"] == "hourly"
        assert PeriodicTask.objects.get(pk=hourly.pk).last_run_at == hourly.last_run_at
        assert LogEntry.objects.get().change_message == f"run now as {run.pk}"

    @pytest.mark.parametrize(
        ("table", "change"),
        [
            ("periodictask", "args = 'x'"),
            ("periodictask", "interval_id = NULL"),
            ("periodictask", "last_run_at = 'infinity'"),
            ("intervalschedule", "every = 0"),
            ("intervalschedule", "period = 'moons'"),
            ("crontabschedule", "timezone = 'Mars/Olympus'"),
        ],
        ids=str,
    )
    def test_a_broken_one_is_shown_with_its_error_and_can_be_paused(
        self, operator: Client, hourly: PeriodicTask, table: str, change: str
    ) -> None:
        if table == "crontabschedule":
            PeriodicTask.objects.update(interval=None, crontab=CrontabSchedule.objects.create())
        every = IntervalSchedule.objects.create(every=2, period="hours")
        PeriodicTask.objects.create(name="a neighbour", task="pressroom.tasks.prune", interval=every)
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE django_celery_beat_{table} SET {change} WHERE id IN (SELECT min(id) FROM "
                           f"django_celery_beat_{table})")  # fmt: skip
        neighbour, broken = schedules.schedules()
        assert (neighbour.error, neighbour.next_run_at is None) == ("", False)
        assert broken.error
        page = operator.get("/admin/operations/schedules/").content.decode()
        assert page.count("</span> broken</span>") == 1
        url = f"/admin/operations/schedules/{hourly.pk}/act/"
        told = operator.post(url, {"action": "run-now"}, follow=True).content.decode()
        assert "Hourly: The schedule cannot be run:" in told
        assert not TaskRun.objects.exists()
        assert "Hourly is paused." in operator.post(url, {"action": "pause"}, follow=True).content.decode()
        assert not PeriodicTask.objects.only("enabled").get(pk=hourly.pk).enabled
        assert not figures_of_ledger().broken_schedules, "beat has not seen it"

    def test_what_beat_has_set_aside_is_shown_even_without_a_row(self, operator: Client, hourly: PeriodicTask) -> None:
        for stage, name in (("call", "hourly"), ("code", "hourly"), ("code", "n" * 201)):
            BrokenSchedule.objects.create(stage=stage, name=name, error=f"<b>{stage}</b>", since=timezone.now())
        page = operator.get("/admin/operations/schedules/").content.decode()
        assert page.count("</span> broken</span>") == 2
        assert page.count("&lt;b&gt;code&lt;/b&gt;") == 2
        assert figures_of_ledger().broken_schedules == 2

    def test_a_task_that_is_not_there_is_told(self, operator: Client, hourly: PeriodicTask) -> None:
        PeriodicTask.objects.update(task="app.gone")
        url = f"/admin/operations/schedules/{hourly.pk}/act/"
        told = operator.post(url, {"action": "run-now"}, follow=True).content.decode()
        assert "The task app.gone does not exist." in told
        assert operator.post(url, {"action": "explode"}).status_code == 400
        assert operator.post("/admin/operations/schedules/0/act/", {"action": "pause"}).status_code == 404


def test_a_worker_is_drained_lost_silent_or_alive(operator: Client) -> None:
    names = ("drained", "lost", "silent", "draining", "alive")
    ids = {name: workers.register(f"{name}-one@here", '["default"]', 2) for name in names}
    workers.beat(ids["draining"], 5 * 1024 * 1024, stopping=True)
    workers.end([ids["drained"]])
    workers.end([ids["lost"]], lost=True)
    Worker.objects.filter(pk=ids["silent"]).update(heartbeat_at=timezone.now() - datetime.timedelta(minutes=1))
    page = operator.get("/admin/operations/workers/").content.decode()
    for name in names:
        row = page.partition(f"{name}-one@here")[2].partition("</tr>")[0]
        assert f"ops-{name}" in row
    assert "5.0\xa0MB" in page


def test_the_live_part_alone_is_to_be_had(operator: Client) -> None:
    for path in PAGES:
        whole = operator.get(f"/admin/operations/{path}").content.decode()
        part = operator.get(f"/admin/operations/{path}", headers={"X-Fragment": "1"}).content.decode()
        assert "<html" in whole
        assert "<html" not in part
        assert "<script" not in part


def test_what_a_running_task_calls_is_found(operator: Client) -> None:
    parent = call()
    claim(parent)
    parent.refresh_from_db()
    child = call(parent_id=parent.celery_id, root_id=parent.celery_id)
    call()
    tree = family(parent).tree
    assert [node.run for node in tree.children] == [child]
    assert [node.run for node in family(child).ancestors] == [parent]
    page = operator.get(f"/admin/operations/tasks/{parent.pk}/").content.decode()
    assert f'<a href="/admin/operations/tasks/{child.pk}/">' in page


def test_a_retry_is_not_its_own_caller(operator: Client) -> None:
    """Celery names the task that runs as the caller of its own retry."""
    first = call()
    headers = json.loads(first.headers) | {"parent_id": first.celery_id}
    change_run(first.pk, headers=json.dumps(headers))
    first = kill(first)
    again = operator_actions.run_again(run=first, user=None)
    for run in (first, again):
        shown = family(TaskRun.objects.get(pk=run.pk))
        assert shown.ancestors == []
        assert shown.tree.children == []
    assert "no stored run" not in operator.get(f"/admin/operations/tasks/{again.pk}/").content.decode()


def test_what_took_anothers_place_was_called_by_it() -> None:
    caller = call()
    claimed = claim(caller)
    assert ends.ignore(claimed)
    instead = TaskRun.of(
        tasks.effect.apply_async(("/dev/null", "x"), task_id=caller.celery_id, parent_id=caller.celery_id)
    )
    assert [node.run for node in family(instead).ancestors] == [caller]


def test_what_is_away_is_said_on_each_page(operator: Client) -> None:
    def shown(path: str) -> str:
        return operator.get(f"/admin/operations/{path}", headers={"X-Fragment": "1"}).content.decode()

    run = call()
    paths = (*PAGES, f"tasks/{run.pk}/")
    for path in paths:
        assert "ops-away" not in shown(path)
    outages.begin("redis", 90)
    since = Outage.objects.get().since
    outages.begin("redis", 0)
    assert Outage.objects.get().since == since
    for path in paths:
        assert re.search(r"Redis is away</strong> since <time [^>]+>[\d: -]+ [+-]\d\d:\d\d</time>", shown(path))
        assert zoned(since) in shown(path)
    outages.over("redis")
    Tick.objects.create(name="relay", at=timezone.now() - datetime.timedelta(minutes=5))
    for path in paths:
        assert "The relay has made no round</strong> since" in shown(path)
    Tick.objects.update(at=timezone.now())
    for path in paths:
        assert "ops-away" not in shown(path)


@pytest.mark.parametrize(("zone", "offset"), [("UTC", "+00:00"), ("Asia/Seoul", "+09:00"), ("America/St_Johns", "-0")])
def test_times_have_their_zone(operator: Client, zone: str, offset: str) -> None:
    run = kill(call())
    operator.post("/admin/operations/flow/act/", {"action": "pause", "kind": "queue", "name": "default"})
    with timezone.override(zone):
        for path in (*PAGES, "?span=7d", f"tasks/{run.pk}/", f"tasks/{call().pk}/"):
            page = operator.get(f"/admin/operations/{path}").content.decode()
            found = re.findall(r"\d\d\d\d-\d\d-\d\d[ T]\d\d:\d\d[^<\"]*", page.partition('id="live"')[2])
            assert all(re.search(r"[+-]\d\d:\d\d$", at.split(": ")[0].split(" by ")[0]) for at in found), found
            assert not found or any(offset in at for at in found)


def test_the_calls_of_a_run_are_read_from_its_results() -> None:
    group = [["g", None], [[["a", None], None], [["b", ["p", None]], None]]]
    assert list(called(json.dumps([[["x", None], None], group]))) == ["x", "a", "b"]
    assert list(called(None)) == []


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, "–"), (0.0854, "85 ms"), (0.9996, "1 s"), (3.21, "3.2 s"), (59.99, "1 min"), (250, "4 min 10 s"),
     (3600, "1 h"), (7500, "2 h 5 min"), (90_000, "1 d 1 h")],
)  # fmt: skip
def test_durations(seconds: float | None, told: str) -> None:
    assert duration(seconds) == told


def test_numbers_times_and_calls_are_written_for_people() -> None:
    assert (count(9_999), count(10_000)) == ("9,999", "10,000+")
    assert ago(timezone.now() - datetime.timedelta(seconds=5)) == "5 s ago"
    assert ago(timezone.now() + datetime.timedelta(seconds=61)).startswith("in 1 min")
    body = json.dumps([[1, "내일"], {"to": None}, {"chain": None}])
    assert written(body) == '1, "내일", to=null'
    assert written(body[:12]) == body[2:12]
    assert written(json.dumps([["x" * 500], {}, {}])).endswith("…")
