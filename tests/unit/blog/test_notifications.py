"""Telling an author's subscribers: the plan of chunks, and each way in which a part of it ends."""

from collections import Counter

import pytest
from django.core import mail
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog import changes, notifications, services
from app.blog.mailing import chunk, planner
from app.blog.mailing.chunk import Left
from app.blog.models import Delivery, Notification, NotificationChunk, Post, Subscriber, Subscription, audience
from app.blog.subscriptions.services import subscriptions_add
from app.blog.tasks import notify_chunk
from pressroom import operator_actions
from pressroom.execution import settle
from pressroom.models import LiveRun, Status, TaskRun
from tests.support.probes import here
from tests.unit.blog.mailing import (
    CHUNK,
    MAILING,
    chunk_runs,
    pass_time,
    start,
    subscribe,
    work,
    work_to_the_end,
)

pytestmark = pytest.mark.django_db(transaction=True)


def mailed() -> Counter[str]:
    return Counter(message.to[0] for message in mail.outbox)


def everyone(count: int) -> Counter[str]:
    return Counter(f"s{number}@example.com" for number in range(count))


def statuses() -> Counter[str]:
    return Counter(NotificationChunk.objects.values_list("status", flat=True))


@pytest.fixture
def other() -> Post:
    """A published post of another author."""
    author = User.objects.create_user("other", "other@example.com")
    post = services.post_create(author=author, title="Other", body="b")
    with transaction.atomic():
        services.post_publish(post_id=post.pk)
    return post


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of ten, of which four are called at a time."""
    monkeypatch.setattr(planner, "CHUNK", 10)
    monkeypatch.setattr(planner, "OPEN", 4)
    monkeypatch.setattr(notifications, "WAKE_EVERY", 2)


class TestPlan:
    def test_tells_each_subscriber_once(self, published: Post) -> None:
        subscribe(250)
        Subscription.objects.filter(subscriber__email="s7@example.com").update(unsubscribed_at="2026-01-01T00:00Z")
        for _ in range(2):
            run = start(published)
            work()
            run.refresh_from_db()
            assert (run.status, run.result, run.progress_current, run.progress_total) == ("succeeded", "249", 249, 249)
        assert mailed() == everyone(250) - Counter(["s7@example.com"])
        assert Delivery.objects.count() == 249
        assert Notification.objects.get().status == "done"

    @pytest.mark.parametrize(
        ("count", "chunks"), [(0, 0), (1, 1), (9, 1), (10, 1), (11, 2), (40, 4), (41, 5), (95, 10)]
    )
    @pytest.mark.usefixtures("small")
    def test_an_audience_of_any_size(self, published: Post, count: int, chunks: int) -> None:
        subscribe(count)
        run = start(published)
        work()
        run.refresh_from_db()
        assert (run.status, run.result) == (Status.SUCCEEDED, str(count))
        assert mailed() == everyone(count)
        assert NotificationChunk.objects.count() == chunks == TaskRun.objects.filter(name=CHUNK).count()

    @pytest.mark.usefixtures("small")
    def test_gaps_between_ids_make_no_chunk_smaller(self, published: Post) -> None:
        subscribe(35)
        Subscriber.objects.filter(email__in=[f"s{number}@example.com" for number in range(5, 15)]).delete()
        subscriptions_add(author=published.author, emails=[f"late{number}@example.com" for number in range(5)])
        start(published)
        work()
        sizes = NotificationChunk.objects.order_by("first").values_list("told", flat=True)
        assert list(sizes) == [10, 10, 10]
        assert set(mailed().values()) == {1}

    @pytest.mark.usefixtures("small")
    def test_few_chunks_are_called_at_a_time(self, published: Post) -> None:
        subscribe(95)
        start(published)
        most = 0
        while (run := next(iter(LiveRun.objects.filter(status="queued").order_by("run_at", "pk")), None)) is not None:
            here.execute(TaskRun.objects.get(pk=run.pk))
            most = max(most, LiveRun.objects.filter(name=CHUNK).count())
        assert most == 4
        assert mailed() == everyone(95)

    def test_a_chunk_runs_on_the_queue_for_bulk_mail_and_belongs_to_the_site(self, published: Post) -> None:
        subscribe(1)
        run = start(published)
        here.execute(run)
        called = TaskRun.objects.get(name=CHUNK)
        assert (called.queue, called.owner_id, run.queue) == ("bulk", None, "emails")
        assert called.arguments[0][0] == published.pk

    def test_a_draft_is_told_to_nobody(self, draft: Post) -> None:
        subscribe(1)
        run = start(draft)
        work()
        run.refresh_from_db()
        assert run.result == "0"
        assert not mail.outbox

    def test_who_subscribes_meanwhile_is_told_too(self, published: Post) -> None:
        subscribe(100)
        here.execute(start(published))
        subscriptions_add(author=published.author, emails=["late@example.com"])
        work()
        assert mailed() == everyone(100) + Counter(["late@example.com"])

    @pytest.mark.usefixtures("small")
    def test_two_mailings_of_one_post_tell_each_once(self, published: Post) -> None:
        subscribe(95)
        runs = [start(published), start(published)]
        work_to_the_end()
        for run in runs:
            run.refresh_from_db()
        assert [run.status for run in runs] == [Status.SUCCEEDED] * 2
        assert mailed() == everyone(95)
        assert TaskRun.objects.filter(name=CHUNK).count() == 10

    @pytest.mark.usefixtures("small")
    def test_the_mailings_of_two_authors_do_not_touch_each_other(self, published: Post, other: Post) -> None:
        subscriptions_add(author=published.author, emails=[f"s{number}@example.com" for number in range(30)])
        subscriptions_add(author=other.author, emails=[f"s{number}@example.com" for number in range(20, 50)])
        start(published)
        start(other)
        work()
        assert mailed() == everyone(50) + Counter(f"s{number}@example.com" for number in range(20, 30))
        assert set(Notification.objects.values_list("told", flat=True)) == {30}

    @pytest.mark.usefixtures("small")
    def test_a_step_costs_the_same_whatever_was_told_before(self, published: Post) -> None:
        subscribe(160)
        run = start(published)
        costs = []
        for _ in range(4):
            with CaptureQueriesContext(connection) as queries:
                here.execute(run)
            costs.append(len(queries))
            for called in chunk_runs():
                here.execute(called)
            pass_time()
        assert costs[1] == costs[2] == costs[3]

    def test_every_mail_offers_a_way_out_and_has_an_id_of_its_own(self, published: Post, anonymous: APIClient) -> None:
        subscribe(2)
        start(published)
        work()
        headers = [message.extra_headers for message in mail.outbox]
        assert len({header["Message-ID"] for header in headers}) == 2
        assert headers[0]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        link = headers[0]["List-Unsubscribe"].strip("<>").removeprefix("http://127.0.0.1:8000")
        assert anonymous.post(link).status_code == 200
        assert [one.subscriber.email for one in audience(published.author)] == [mail.outbox[1].to[0]]


class TestMeanwhile:
    """Something changes between the plan and the mail."""

    @pytest.mark.parametrize("how", ["unsubscribed", "deleted", "switched off"])
    def test_who_leaves_is_not_mailed(self, published: Post, how: str) -> None:
        subscribe(3)
        here.execute(start(published))
        if how == "unsubscribed":
            Subscription.objects.filter(subscriber__email="s1@example.com").update(unsubscribed_at="2026-01-01T00:00Z")
        elif how == "deleted":
            Subscriber.objects.filter(email="s1@example.com").delete()
        else:
            Subscriber.objects.filter(email="s1@example.com").update(active=False)
        work()
        assert mailed() == Counter(["s0@example.com", "s2@example.com"])
        assert Notification.objects.get().status == "done"

    @pytest.mark.parametrize("how", ["deleted", "unpublished", "author deleted"])
    @pytest.mark.usefixtures("small")
    def test_a_post_that_is_no_longer_public_is_mailed_to_nobody_else(self, published: Post, how: str) -> None:
        subscribe(35)
        run = start(published)
        here.execute(run)
        here.execute(chunk_runs()[0])
        if how == "deleted":
            changes.post_delete(post_id=published.pk)
        elif how == "unpublished":
            Post.objects.update(status=Post.Status.DRAFT)
        else:
            User.objects.filter(pk=published.author_id).delete()
        work_to_the_end()
        run.refresh_from_db()
        assert (run.status, run.result) == (Status.SUCCEEDED, "0")
        assert len(mail.outbox) == 10

    def test_a_chunk_stops_between_two_mails_if_the_post_is_withdrawn(
        self, published: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        subscribe(5)
        here.execute(start(published))
        record = chunk._record

        def withdrawn(*args: object, **kwargs: object) -> bool:
            Post.objects.update(status=Post.Status.DRAFT)
            return record(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(chunk, "_record", withdrawn)
        work()
        assert mailed() == everyone(1)


class TestCancelled:
    @pytest.mark.usefixtures("small")
    def test_cancelling_the_mailing_cancels_its_chunks_and_resuming_tells_the_rest(self, published: Post) -> None:
        subscribe(95)
        run = start(published)
        here.execute(run)
        here.execute(chunk_runs()[0])
        operator_actions.run_cancel(run=run, user=None)
        assert not LiveRun.objects.exists()
        assert Counter(TaskRun.objects.values_list("name", "status")) == {
            (MAILING, "cancelled"): 1, (CHUNK, "cancelled"): 3, (CHUNK, "succeeded"): 1,
        }  # fmt: skip
        notification = Notification.objects.get()
        assert (notification.status, notification.failure, notification.told) == ("stopped", "It was cancelled.", 10)
        assert statuses() == {"failed": 3, "done": 1}
        assert work() == 0

        assert changes.notification_restart(post_id=published.pk) is not None
        work()
        assert mailed() == everyone(95)
        assert (Notification.objects.get().status, Notification.objects.get().told) == ("done", 95)

    @pytest.mark.usefixtures("small")
    def test_running_a_cancelled_mailing_again_continues_it(self, published: Post) -> None:
        subscribe(95)
        run = start(published)
        here.execute(run)
        here.execute(chunk_runs()[1])
        operator_actions.run_cancel(run=run, user=None)
        again = operator_actions.run_again(run=TaskRun.objects.get(pk=run.pk), user=None)
        work()
        again.refresh_from_db()
        assert (again.status, again.progress_current) == (Status.SUCCEEDED, 95)
        assert mailed() == everyone(95)

    @pytest.mark.usefixtures("small")
    def test_a_chunk_that_runs_stops_after_the_mail_in_flight(
        self, published: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        subscribe(35)
        run = start(published)
        here.execute(run)
        record = chunk._record

        def cancelled(*args: object, **kwargs: object) -> bool:
            if len(mail.outbox) == 3:
                operator_actions.run_cancel(run=run, user=None)
            return record(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(chunk, "_record", cancelled)
        first = chunk_runs()[0]
        assert here.execute(first).status == Status.CANCELLED
        assert len(mail.outbox) == 3
        assert statuses() == {"failed": 4}
        assert Delivery.objects.count() == 3
        monkeypatch.setattr(chunk, "_record", record)
        changes.notification_restart(post_id=published.pk)
        work()
        assert mailed() == everyone(35)

    @pytest.mark.usefixtures("small")
    def test_an_old_run_of_a_chunk_mails_nobody_once_another_has_it(self, published: Post) -> None:
        """It was cancelled, the mailing was resumed, and its process is not dead yet."""
        subscribe(5)
        here.execute(start(published))
        [one] = NotificationChunk.objects.all()
        NotificationChunk.objects.update(task="another")
        assert chunk.chunk_send(post_id=published.pk, first=one.first, task=one.task, seconds=60) is Left.STOPPED
        notifications.chunk_end(post_id=published.pk, first=one.first, task=one.task)
        assert statuses() == {"called": 1}
        assert not mail.outbox

    @pytest.mark.usefixtures("small")
    def test_cancelled_between_plan_and_end_it_leaves_no_chunk_behind(
        self, published: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The request comes while the mailing's own run plans, in another transaction."""
        subscribe(35)
        run = start(published)
        claim = here.claimed(run)
        operator_actions.run_cancel(run=run, user=None)
        assert settle.revoke_claimed(run.pk, claim.token, only_if_requested=True)
        assert not LiveRun.objects.exists()
        assert not NotificationChunk.objects.exists()
        assert Notification.objects.get().status == "stopped"


class TestFailed:
    @pytest.fixture
    def one_dead_chunk(self, published: Post, monkeypatch: pytest.MonkeyPatch, small: None) -> TaskRun:
        subscribe(35)
        run = start(published)
        here.execute(run)
        bad = chunk_runs()[1]
        with monkeypatch.context() as patch:
            patch.setattr(chunk, "_letter", lambda post: 1 / 0)
            here.execute(bad)
        work_to_the_end()
        run.refresh_from_db()
        return run

    def test_it_leaves_the_others_alone_and_is_a_dead_letter(self, one_dead_chunk: TaskRun) -> None:
        assert len(mail.outbox) == 25
        [dead] = TaskRun.objects.filter(name=CHUNK, status=Status.DEAD)
        assert dead.error_type == "ZeroDivisionError"
        assert (one_dead_chunk.status, one_dead_chunk.error_type) == (Status.DEAD, "MailingStopped")
        notification = Notification.objects.get()
        assert (notification.status, notification.told) == ("stopped", 25)
        assert notification.failure == "1 of 4 parts of the mailing failed."
        assert NotificationChunk.objects.get(status="failed").failure == "division by zero"

    def test_a_fault_of_all_chunks_makes_few_dead_letters(
        self, published: Post, monkeypatch: pytest.MonkeyPatch, small: None
    ) -> None:
        subscribe(95)
        run = start(published)
        with monkeypatch.context() as patch:
            patch.setattr(chunk, "_letter", lambda post: 1 / 0)
            work_to_the_end()
        run.refresh_from_db()
        assert run.status == Status.DEAD
        assert TaskRun.objects.filter(name=CHUNK, status=Status.DEAD).count() == planner.OPEN
        assert Notification.objects.get().failure == "4 of 4 parts of the mailing failed."
        operator_actions.run_again(run=run, user=None)
        work_to_the_end()
        assert mailed() == everyone(95)

    def test_run_again_it_completes_the_mailing(self, one_dead_chunk: TaskRun) -> None:
        operator_actions.run_again(run=TaskRun.objects.get(name=CHUNK, status=Status.DEAD), user=None)
        assert statuses() == {"called": 1, "done": 3}
        work()
        assert mailed() == everyone(35)
        assert (Notification.objects.get().status, Notification.objects.get().told) == ("done", 35)

    def test_the_mailing_run_again_calls_it_again(self, one_dead_chunk: TaskRun) -> None:
        operator_actions.run_again(run=one_dead_chunk, user=None)
        work()
        assert mailed() == everyone(35)
        assert Notification.objects.get().status == "done"
        assert TaskRun.objects.filter(name=CHUNK).count() == 5

    def test_run_again_after_the_mailing_has_been_resumed_it_mails_nobody(self, one_dead_chunk: TaskRun) -> None:
        dead = TaskRun.objects.get(name=CHUNK, status=Status.DEAD)
        changes.notification_restart(post_id=Post.objects.get().pk)
        work()
        assert mailed() == everyone(35)
        operator_actions.run_again(run=dead, user=None)
        work()
        assert mailed() == everyone(35)

    def test_run_again_while_the_mailing_goes_on_it_is_waited_for(
        self, published: Post, monkeypatch: pytest.MonkeyPatch, small: None
    ) -> None:
        subscribe(35)
        run = start(published)
        here.execute(run)
        bad = chunk_runs()[1]
        with monkeypatch.context() as patch:
            patch.setattr(chunk, "_letter", lambda post: 1 / 0)
            here.execute(bad)
        operator_actions.run_again(run=TaskRun.objects.get(pk=bad.pk), user=None)
        work_to_the_end()
        run.refresh_from_db()
        assert (run.status, run.result) == (Status.SUCCEEDED, "35")
        assert mailed() == everyone(35)

    def test_a_lost_mailing_run_goes_on_where_it_was(self, published: Post, small: None) -> None:
        subscribe(95)
        run = start(published)
        here.execute(run)
        pass_time()
        here.lost_too_often(TaskRun.objects.get(pk=run.pk))
        run.refresh_from_db()
        assert run.status == Status.DEAD
        assert Notification.objects.get().failure == "It could not continue."
        assert not LiveRun.objects.exists()
        operator_actions.run_again(run=run, user=None)
        work()
        assert mailed() == everyone(95)


def test_the_task_of_a_chunk_that_is_gone_ends(published: Post) -> None:
    run = TaskRun.of(notify_chunk.delay(published.pk, 1, 100))
    assert here.execute(run).status == Status.SUCCEEDED
