"""From a call to a row: nothing is sent by the caller, everything is stored with its transaction or not at all."""

import datetime
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import redis
from celery.exceptions import ImproperlyConfigured
from celery.utils.saferepr import saferepr
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models.signals import post_save
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.exceptions import EncodeError

from app.celery import app
from app.queues import BY_NAME
from pressroom import conf
from pressroom.enqueue.argument_repr import flat_repr
from pressroom.enqueue.ownership import OwnershipMiddleware, owned_by
from pressroom.models import LiveRun, Status, TaskRun
from pressroom.sql import dispatch, ends, lost_attempts, runs, workers
from pressroom.uuid7 import uuid7
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks

User = get_user_model()


class Refusal(Exception):
    """Ends a transaction that is to be rolled back."""


def make_user(name: str = "reader") -> Any:
    return User.objects.create_user(name, f"{name}@example.com", "a-long-passphrase-1")


# ---- Both spellings, in a view and in a receiver ---------------------------------------------------------------------


def view(call: Callable[[], object]) -> Callable[[HttpRequest], HttpResponse]:
    def respond(request: HttpRequest) -> HttpResponse:
        try:
            with transaction.atomic():
                make_user()
                call()
                if "fail" in request.GET:
                    raise Refusal
        except Refusal:
            return HttpResponse(status=409)
        return HttpResponse(status=201)

    return respond


def call_now() -> None:
    tasks.effect.delay("nowhere", "in the transaction")


def call_on_commit() -> None:
    transaction.on_commit(lambda: tasks.effect.delay("nowhere", "after the commit"))


urlpatterns = [path("now/", view(call_now)), path("on-commit/", view(call_on_commit)), path("plain/", view(lambda: 0))]


@pytest.mark.urls(__name__)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("url", ["/now/", "/on-commit/"])
class TestInAView:
    def test_commit_stores_the_call(self, url: str) -> None:
        assert Client().post(url).status_code == 201
        assert TaskRun.objects.get().status == Status.QUEUED

    def test_rollback_leaves_no_task(self, url: str) -> None:
        assert Client().post(f"{url}?fail").status_code == 409
        assert not TaskRun.objects.exists()
        assert not User.objects.exists()


@pytest.mark.urls(__name__)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", [call_now, call_on_commit])
class TestInAReceiver:
    @pytest.fixture(autouse=True)
    def receiver(self, call: Callable[[], None]) -> Any:
        def receive(**_: Any) -> None:
            call()

        post_save.connect(receive, sender=User)
        yield
        post_save.disconnect(receive, sender=User)

    def test_commit_stores_the_call(self) -> None:
        assert Client().post("/plain/").status_code == 201
        assert TaskRun.objects.count() == 1

    def test_rollback_leaves_no_task(self) -> None:
        assert Client().post("/plain/?fail").status_code == 409
        assert not TaskRun.objects.exists()


# ---- Redis away ------------------------------------------------------------------------------------------------------


@pytest.mark.urls(__name__)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("url", ["/now/", "/on-commit/"])
class TestWithoutRedis:
    def test_stopped(self, url: str, redis_server: Any) -> None:
        redis_server.stop()
        assert Client().post(url).status_code == 201
        assert TaskRun.objects.count() == 1

    def test_hanging(self, url: str, redis_server: Any) -> None:
        redis_server.pause(20_000)
        assert Client().post(url).status_code == 201
        with pytest.raises(redis.TimeoutError):
            # It still hangs: so nothing in the request has waited for it.
            redis_server.client(socket_timeout=0.05).ping()
        assert TaskRun.objects.count() == 1


# ---- What is stored --------------------------------------------------------------------------------------------------


@pytest.mark.django_db
class TestTheRow:
    def test_says_what_was_called(self) -> None:
        result = tasks.effect.apply_async(["a"], {"line": "b"}, queue="emails", priority=3)
        run = TaskRun.of(result)
        assert (run.name, run.queue, run.priority, run.status) == ("probe.effect", "emails", 3, Status.QUEUED)
        assert run.arguments == (["a"], {"line": "b"})
        assert run.celery_id == result.id
        assert run.published_at is None

    def test_due_times_are_the_databases(self) -> None:
        eta = timezone.now() + datetime.timedelta(hours=3)
        at_once, later, at_eta = (
            TaskRun.of(tasks.effect.apply_async(["a", "b"], **when))
            for when in ({}, {"countdown": 60}, {"eta": eta, "expires": eta + datetime.timedelta(hours=1)})
        )
        assert abs((at_once.run_at - at_once.created_at).total_seconds()) < 0.01
        assert abs((later.run_at - later.created_at).total_seconds() - 60) < 0.01
        assert at_eta.run_at == eta
        assert at_eta.expires_at == eta + datetime.timedelta(hours=1)

    def test_seconds_to_expiry_count_from_the_call(self) -> None:
        run = TaskRun.of(tasks.effect.apply_async(["a", "b"], expires=30))
        assert run.expires_at is not None
        assert abs((run.expires_at - run.created_at).total_seconds() - 30) < 0.01

    def test_the_message_carries_no_time_that_a_worker_would_act_on(self) -> None:
        run = TaskRun.of(tasks.effect.apply_async(["a", "b"], countdown=60, expires=90))
        assert '"eta": null' in run.headers
        assert '"expires": null' in run.headers

    def test_limits_are_the_queues_unless_said_otherwise(self) -> None:
        of_queue = TaskRun.of(tasks.effect.apply_async(["a", "b"], queue="emails"))
        of_call = TaskRun.of(tasks.effect.apply_async(["a", "b"], time_limit=9, soft_time_limit=8))
        assert f'"timelimit": [{BY_NAME["emails"].time_limit}, {BY_NAME["emails"].soft_time_limit}]' in of_queue.headers
        assert '"timelimit": [9, 8]' in of_call.headers

    def test_keys_are_in_order_of_time(self) -> None:
        called = [TaskRun.of(tasks.effect.delay("a", str(number))) for number in range(3)]
        assert sorted(called, key=lambda run: run.pk.bytes[:6]) == called
        assert {run.pk.version for run in called} == {7}


@pytest.mark.django_db
class TestRefusals:
    @pytest.mark.parametrize(
        "wrap", [lambda u: u, lambda u: [u], lambda u: {"user": [u]}], ids=["bare", "list", "dict"]
    )
    def test_a_model_instance(self, wrap: Callable[[Any], Any]) -> None:
        user = make_user()
        with pytest.raises(EncodeError, match=f"pass its id \\({user.pk}\\)"):
            tasks.effect.delay("nowhere", wrap(user))
        assert not TaskRun.objects.exists()

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"queue": "nowhere"}, "nowhere"),
            ({"serializer": "pickle"}, "sent as JSON"),
        ],
    )
    def test_options(self, options: dict[str, str], error: str) -> None:
        with pytest.raises(Exception, match=error):
            tasks.effect.apply_async(["a", "b"], **options)
        assert not TaskRun.objects.exists()

    def test_an_unknown_queue_object(self) -> None:
        from kombu import Queue

        with pytest.raises(ImproperlyConfigured, match="TASKRUNS_QUEUES"):
            tasks.effect.apply_async(["a", "b"], queue=Queue("stray"))

    def test_a_wrong_number_of_arguments(self) -> None:
        with pytest.raises(TypeError):
            tasks.effect.delay("only one")
        assert not TaskRun.objects.exists()

    def test_a_live_duplicate_of_an_id_and_the_transaction_goes_on(self) -> None:
        tasks.effect.apply_async(["a", "b"], task_id="mine")
        with pytest.raises(runs.DuplicateTaskIdError, match="mine"):
            tasks.effect.apply_async(["a", "c"], task_id="mine")
        assert TaskRun.objects.get().arguments == (["a", "b"], {})

    def test_an_id_may_come_back_once_its_run_has_ended(self) -> None:
        first = TaskRun.of(tasks.effect.apply_async(["a", "b"], task_id="mine"))
        change_run(first.pk, status=Status.SUCCEEDED)
        second = TaskRun.of(tasks.effect.apply_async(["a", "c"], task_id="mine"))
        assert first.pk != second.pk


@pytest.mark.django_db
class TestOwner:
    def test_of_a_request_is_its_user(self) -> None:
        user = make_user()
        request = HttpRequest()
        request.user = user
        OwnershipMiddleware(lambda _: HttpResponse(tasks.effect.delay("a", "b").id))(request)
        assert TaskRun.objects.get().owner == user

    def test_of_a_block_is_whom_it_names(self) -> None:
        user = make_user()
        with owned_by(user):
            tasks.effect.delay("a", "b")
        tasks.effect.delay("a", "c")
        assert [run.owner for run in TaskRun.objects.order_by("created_at")] == [user, None]

    def test_of_a_block_for_nobody_is_nobody_whoever_is_signed_in(self) -> None:
        request = HttpRequest()
        request.user = make_user()

        def view(_: HttpRequest) -> HttpResponse:
            with owned_by(None):
                return HttpResponse(tasks.effect.delay("a", "b").id)

        OwnershipMiddleware(view)(request)
        assert TaskRun.objects.get().owner is None


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine says nothing of the strategy
@given(values=st.lists(SCALARS), most=st.integers(2, 60))
def test_arguments_are_told_as_celery_tells_them(values: list[Any], most: int) -> None:
    for given_values in (values, tuple(values)):
        assert flat_repr(given_values, most) == saferepr(given_values, most)


@pytest.mark.parametrize("values", [([1],), ("a", {}), [b"a"], [Decimal(1)], "text", {}])
def test_other_arguments_are_left_to_celery(values: Any) -> None:
    assert flat_repr(values, 1024) is None


class Unreadable(dict[str, int]):
    """Its items cannot be read, as a lazy mapping whose source is gone."""

    def items(self) -> Any:
        raise LookupError("no items")


@pytest.mark.django_db
def test_arguments_that_cannot_be_shown_are_refused_as_what_cannot_be_sent() -> None:
    with pytest.raises(EncodeError, match="cannot be stored as JSON: no items"):
        tasks.effect.delay("a", Unreadable(a=1))
    assert not LiveRun.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("task_id", ["x" * 3_000_000, "\x00", 5, None])
def test_an_id_that_no_call_can_have_is_revoked_nowhere(task_id: Any) -> None:
    assert tasks.effect.app.control.revoke([task_id]) is None


# ---- The statements --------------------------------------------------------------------------------------------------


@pytest.fixture
def worker_id(db: None) -> int:
    return workers.register("test@here", '["default"]', 1)


def claimed(worker_id: int) -> runs.Claim:
    run = TaskRun.of(tasks.effect.delay("a", "b"))
    claim = runs.claim(run.pk, uuid.uuid4(), worker_id)
    assert claim is not None
    return claim


class TestClaimAndFinish:
    def test_one_claim_only(self, worker_id: int) -> None:
        claim = claimed(worker_id)
        assert runs.claim(claim.run_id, uuid.uuid4(), worker_id) is None

    def test_a_claim_may_be_repeated_with_its_token(self, worker_id: int) -> None:
        claim = claimed(worker_id)
        assert runs.claim(claim.run_id, claim.token, worker_id) == claim
        assert claim.attempt == 1

    def test_a_claim_tells_how_long_the_run_waited(self, worker_id: int) -> None:
        run = TaskRun.of(tasks.effect.apply_async(["a", "b"], eta=timezone.now() - datetime.timedelta(seconds=60)))
        claim = runs.claim(run.pk, uuid.uuid4(), worker_id)
        assert claim is not None
        assert 60 <= claim.waited < 360

    def test_no_claim_before_it_is_due_nor_after_it_expired_nor_by_a_dead_worker(self, worker_id: int) -> None:
        early = TaskRun.of(tasks.effect.apply_async(["a", "b"], countdown=60))
        late = TaskRun.of(tasks.effect.apply_async(["a", "b"], expires=-1))
        due = TaskRun.of(tasks.effect.delay("a", "b"))
        assert runs.claim(early.pk, uuid.uuid4(), worker_id) is None
        assert runs.claim(late.pk, uuid.uuid4(), worker_id) is None
        workers.end([worker_id])
        assert runs.claim(due.pk, uuid.uuid4(), worker_id) is None

    def test_a_finish_by_who_has_lost_the_claim_writes_nothing(self, worker_id: int) -> None:
        old = claimed(worker_id)
        workers.end([worker_id])
        assert len(lost_attempts.lose_orphans()) == 1
        new = runs.claim(old.run_id, uuid.uuid4(), workers.register("other@here", "[]", 1))
        assert new is not None
        assert new.attempt == 2

        assert not ends.succeed(old, '"stale"')
        assert not ends.fail(old, runs.LOST, None)
        assert not runs.progress(old, 1, 2, "stale")
        assert lost_attempts.lose_claim(old.run_id, old.token) == []
        assert not runs.ended(old)
        assert ends.succeed(new, '"fresh"')
        assert runs.ended(new)
        assert TaskRun.objects.get().result == '"fresh"'

    def test_one_that_is_to_be_cancelled_does_not_go_on(self, worker_id: int) -> None:
        retried, lost = claimed(worker_id), claimed(worker_id)
        assert ends.cancel_claim(retried.run_id, retried.token, only_if_requested=True) == []
        for claim in (retried, lost):
            assert runs.cancel_running(claim.run_id)
        assert workers.claims(worker_id, 60) == ({retried.token, lost.token}, set())
        assert workers.claims(worker_id, -1)[1] == {retried.token, lost.token}
        assert len(ends.cancel_claim(retried.run_id, retried.token, only_if_requested=True)) == 1
        assert [row.status for row in lost_attempts.lose_claim(lost.run_id, lost.token)] == ["cancelled"]
        assert {run.status for run in TaskRun.objects.all()} == {Status.CANCELLED}
        assert all(run.finished_at for run in TaskRun.objects.all())

    def test_a_dead_letter_after_max_attempts(self, worker_id: int) -> None:
        run = TaskRun.of(tasks.effect.apply_async(["a", "b"], queue="emails"))
        most = BY_NAME["emails"].max_attempts
        for attempt in range(1, most + 1):
            claim = runs.claim(run.pk, uuid.uuid4(), worker_id)
            assert claim is not None
            assert claim.attempt == attempt
            assert len(lost_attempts.lose_claim(run.pk, claim.token)) == 1
        run.refresh_from_db()
        assert (run.status, run.losses, run.attempts.count()) == (Status.DEAD, most, most)

    def test_what_was_lost_goes_before_what_came_after_it(self, worker_id: int) -> None:
        lost = claimed(worker_id)
        tasks.effect.delay("a", "later")
        assert lost_attempts.lose_claim(lost.run_id, lost.token)
        assert [row.run_id for row in dispatch.take_due({"default": 1})] == [lost.run_id]

    def test_what_a_leaving_worker_gives_up_is_not_counted(self, worker_id: int) -> None:
        claim = claimed(worker_id)
        assert runs.release(worker_id) == 1
        run = TaskRun.objects.get(pk=claim.run_id)
        assert (run.status, run.attempt, run.losses) == (Status.QUEUED, 0, 0)


def test_the_database_knows_a_suspect_as_we_do(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef('taskruns_take_due_4'::regproc)")
        source = cursor.fetchone()[0]
    counts = re.findall(r"losses (?:>=|<) (\d+)", source)
    assert counts == [str(conf.SUSPECT_AFTER)] * 3


def values(run: LiveRun) -> dict[str, Any]:
    """Its columns."""
    return {field.attname: getattr(run, field.attname) for field in LiveRun._meta.concrete_fields}


@pytest.mark.django_db
class TestTakeDue:
    def test_no_more_than_the_window(self) -> None:
        for number in range(5):
            tasks.effect.delay("a", str(number))
        assert len(dispatch.take_due({"default": 3})) == 3
        assert dispatch.take_due({"default": 3}) == []
        dispatch.unpublish([TaskRun.objects.filter(published_at__isnull=False).first().pk])  # type: ignore[union-attr]
        assert len(dispatch.take_due({"default": 3})) == 1

    def test_in_order_of_priority_then_time_and_only_what_is_due(self) -> None:
        for priority, countdown in ((5, 0), (0, 0), (0, 60), (3, 0)):
            tasks.effect.apply_async(["a", f"{priority}/{countdown}"], priority=priority, countdown=countdown)
        taken = dispatch.take_due({"default": 10})
        assert [TaskRun.objects.get(pk=row.run_id).priority for row in taken] == [0, 3, 5]

    def test_a_full_window_of_one_queue_does_not_hold_back_another(self) -> None:
        tasks.effect.apply_async(["a", "1"], queue="emails")
        tasks.effect.apply_async(["a", "2"], queue="emails")
        tasks.effect.apply_async(["a", "3"], queue="default")
        taken = dispatch.take_due({"emails": 1, "default": 1})
        assert sorted(row.queue for row in taken) == ["default", "emails"]

    def test_what_is_due_some_other_day_is_not_read(self) -> None:
        """Else the relay, which asks four times a second, is slow for as long as they wait."""
        with transaction.atomic():
            for priority in (0, 0, 5):
                tasks.effect.apply_async(["a", "soon"], countdown=3600, priority=priority)
            tasks.effect.apply_async(["a", "now"], priority=9)
        template = LiveRun.objects.filter(run_at__gt=timezone.now()).first()
        assert template is not None
        LiveRun.objects.bulk_create(
            [
                LiveRun(**values(template) | {"id": uuid7(), "celery_id": str(number), "priority": number % 3})
                for number in range(3_000)
            ]
        )
        read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'taskruns_liverun'"
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE taskruns_liverun")
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(read)
            before = cursor.fetchone()
            [taken] = dispatch.take_due({"default": 100})
            cursor.execute(read)
            after = cursor.fetchone()
        assert TaskRun.objects.get(pk=taken.run_id).priority == 9
        assert before is not None
        assert after is not None
        assert after[0] - before[0] < 50

    def test_uses_its_index(self) -> None:
        with connection.cursor() as cursor:
            # What the planner would choose depends on when the table was last analysed; what it can do does not.
            for way in ("seqscan", "bitmapscan", "sort"):
                cursor.execute(f"SET LOCAL enable_{way} = off")
            cursor.execute(
                f"EXPLAIN SELECT id FROM taskruns_liverun WHERE queue = 'default' AND status IN {runs.WAITING} "
                "AND published_at IS NULL AND held IS NULL AND run_at <= clock_timestamp() "
                "ORDER BY priority, run_at LIMIT 5"
            )
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "liverun_due" in plan
        assert "Sort" not in plan


def test_every_task_has_the_ledgers_tracer() -> None:
    app.loader.import_default_modules()
    traced: list[Any] = []
    for task in app.tasks.values():
        before = task.__trace__
        task.__trace__ = tracer = lambda *_: None
        if task.__trace__ is not None and task.__trace__ is not tracer:
            traced.append(task.name)
        task._tracer = before
    assert set(traced) == set(app.tasks)


def test_a_class_task_gets_the_tracer_too() -> None:
    from celery import Task

    class Plain(Task):
        name = "probe.class_task"

        def run(self) -> int:
            return 1

    registered = app.register_task(Plain())
    try:
        registered.__trace__ = tracer = lambda *_: None
        assert registered.__trace__ is not tracer
    finally:
        app.tasks.pop("probe.class_task")
