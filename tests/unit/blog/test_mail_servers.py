"""A mailing by a real SMTP server and one that speaks as SendGrid does, with the faults of both."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from app.accounts.models import User
from app.blog import changes, services
from app.blog.mailing import outage, planner
from app.blog.mailing.chunk import Left, chunk_send
from app.blog.mailing.planner import ROUNDS, pause_before_round
from app.blog.models import Delivery, MailOutage, Notification, NotificationChunk, Post, Subscriber
from app.blog.subscriptions.services import subscriptions_add
from app.mail import bulk, kept_connections
from app.mail.url import email_settings
from pressroom.models import LiveRun, Status, TaskRun
from tests.support.loopback import Asked, HttpServer, Reply, SmtpServer, http_server, smtp_server
from tests.support.probes import here
from tests.support.waiting import until
from tests.unit.blog.mailing import CHUNK, chunk_runs, pass_time, start, subscribe, work, work_to_the_end

pytestmark = pytest.mark.django_db(transaction=True)


def address(*numbers: int) -> list[str]:
    return [f"s{number}@example.com" for number in numbers]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(outage, "SPREAD", 0.2)
    yield
    kept_connections.close_idle()


@pytest.fixture
def smtp(settings: Any) -> Iterator[SmtpServer]:
    with smtp_server() as (server, port):
        for name, value in email_settings(f"smtp://127.0.0.1:{port}").items():
            setattr(settings, name, value)
        yield server
        kept_connections.close_idle()


@pytest.fixture
def sendgrid(settings: Any) -> Iterator[HttpServer]:
    with http_server(lambda asked: Reply(202)) as server:
        for name, value in email_settings(f"sendgrid+http://:key@{server.address}").items():
            setattr(settings, name, value)
        yield server
        kept_connections.close_idle()


def mailed(asked: list[Asked]) -> Counter[str]:
    return Counter(own["to"][0]["email"] for call in asked for own in call.json["personalizations"])


def is_done(run: TaskRun) -> bool:
    run.refresh_from_db()
    return bool(run.status == Status.SUCCEEDED and Notification.objects.get().status == "done")


class TestBySmtp:
    def test_it_goes_on_where_the_server_went_away(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(130)
        smtp.replies = {"s45@example.com": "drop"}
        run = start(published)
        work()
        retrying = LiveRun.objects.get(status="retrying")
        assert "closed" in retrying.error
        smtp.replies = {}
        work_to_the_end()
        assert is_done(run)
        assert Counter(smtp.recipients()) == Counter(address(*range(130)))
        assert not MailOutage.objects.exists()

    def test_taken_but_not_told_is_sent_again_with_the_same_id(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(5)
        smtp.on_data = {"s2@example.com": "drop"}
        start(published)
        work()
        smtp.on_data = {}
        work_to_the_end()
        assert Counter(smtp.recipients()) == Counter(address(0, 1, 2, 2, 3, 4))
        twice = [sent["Message-ID"] for sent in smtp.mails if sent["To"] == "s2@example.com"]
        assert len(twice) == 2
        assert len(set(twice)) == 1

    def test_who_is_refused_is_recorded_with_the_reason(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(3)
        smtp.replies = {"s1@example.com": "550 5.1.1 no such user"}
        run = start(published)
        work()
        assert is_done(run)
        assert sorted(smtp.recipients()) == address(0, 2)
        assert list(Delivery.objects.exclude(refused="").values_list("subscriber__email", "refused")) == [
            ("s1@example.com", "550 5.1.1 no such user")
        ]

    def test_an_address_that_refuses_three_posts_is_switched_off(self, author: User, smtp: SmtpServer) -> None:
        """One that was put off for ever is not, and one that accepts a post in between starts anew."""
        subscriptions_add(author=author, emails=address(0, 1, 2))
        for number in range(3):
            smtp.replies = {"s1@example.com": "550 5.1.1 no such user"}
            if number != 1:
                smtp.replies["s2@example.com"] = "550 5.1.1 not today"
            with transaction.atomic():
                post = services.post_create(author=author, title=f"t{number}", body="b")
                services.post_publish(post_id=post.pk)
            start(post)
            work()
        states = dict(Subscriber.objects.values_list("email", "refusals"))
        assert states == {"s0@example.com": 0, "s1@example.com": 3, "s2@example.com": 1}
        [off] = Subscriber.objects.filter(active=False)
        assert (off.email, "no such user" in off.switched_off) == ("s1@example.com", True)

    def test_its_turn_ends_in_the_middle_of_a_chunk(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(30)
        here.execute(start(published))
        [one] = NotificationChunk.objects.all()
        turns = 0
        while chunk_send(post_id=published.pk, first=one.first, task=one.task, seconds=0) is Left.MORE:
            turns += 1
            assert turns <= 30
        assert Counter(smtp.recipients()) == Counter(address(*range(30)))
        assert smtp.connections == 1

    def test_who_is_put_off_is_tried_again_after_all_others(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(230)
        smtp.replies = dict.fromkeys(address(3, 120), "451 4.7.1 greylisted")
        run = start(published)
        work()
        assert Delivery.objects.count() == 228
        assert Counter(NotificationChunk.objects.values_list("status", flat=True))["waiting"] == 2
        smtp.replies = dict.fromkeys(address(120), "451 4.7.1 greylisted")
        pass_time()
        work()
        smtp.replies = {}
        work_to_the_end()
        assert is_done(run)
        assert Counter(smtp.recipients()) == Counter(address(*range(230)))
        assert not Delivery.objects.exclude(refused="").exists()

    @pytest.mark.parametrize("reply", ["450 4.1.2 domain not found", "550 5.1.2 domain not found"])
    def test_many_bad_addresses_keep_nobody_from_theirs(self, published: Post, smtp: SmtpServer, reply: str) -> None:
        subscribe(130)
        bad = range(5, 50)
        smtp.replies = dict.fromkeys(address(*bad), reply)
        run = start(published)
        work_to_the_end()
        assert is_done(run)
        good = [number for number in range(130) if number not in bad]
        assert Counter(smtp.recipients()) == Counter(address(*good))
        assert Notification.objects.get().rounds == ROUNDS
        assert set(Delivery.objects.exclude(refused="").values_list("subscriber__email", "refused")) == {
            (email, reply) for email in address(*bad)
        }

    @pytest.mark.parametrize("count", [3, 90, 230])
    def test_a_relay_that_is_set_up_badly_costs_nobody_theirs(
        self, published: Post, smtp: SmtpServer, count: int
    ) -> None:
        subscribe(count)
        smtp.replies = dict.fromkeys(address(*range(count)), "554 5.7.1 relay access denied")
        run = start(published)
        work()
        for _ in range(5):
            pass_time()
            work()
        assert not Delivery.objects.exists()
        smtp.replies = {}
        work_to_the_end()
        assert is_done(run)
        assert Counter(smtp.recipients()) == Counter(address(*range(count)))

    def test_a_server_that_is_slow_to_put_mails_off_does_not_use_up_the_time(
        self, published: Post, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bulk, "LONGEST_STREAK", 0.0)
        subscribe(5)
        smtp.replies = dict.fromkeys(address(0, 1, 2), "451 4.7.1 later")
        start(published)
        here.execute(TaskRun.objects.get())
        here.execute(chunk_runs()[0])
        assert MailOutage.objects.get().failures == 1
        assert NotificationChunk.objects.get().put_off == 1
        smtp.replies = {}
        work_to_the_end()
        assert Counter(smtp.recipients()) == Counter(address(*range(5)))

    def test_who_is_put_off_for_ever_counts_as_refused(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(2)
        smtp.replies = dict.fromkeys(address(1), "451 4.7.1 greylisted")
        run = start(published)
        rounds: list[int] = []
        assert work_to_the_end(lambda: rounds.append(Notification.objects.get().rounds)) == ROUNDS
        assert [pause_before_round(number) for number in rounds] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
        assert is_done(run)
        assert Delivery.objects.get(subscriber__email="s1@example.com").refused == "451 4.7.1 greylisted"


class TestBySendGrid:
    def test_a_chunk_is_a_call(self, published: Post, sendgrid: HttpServer) -> None:
        subscribe(2500)
        run = start(published)
        work()
        assert sorted(len(asked.json["personalizations"]) for asked in sendgrid.asked) == [500, 1000, 1000]
        assert mailed(sendgrid.asked) == Counter(address(*range(2500)))
        assert Delivery.objects.count() == 2500
        assert is_done(run)

    @pytest.mark.parametrize("status", [429, 500])
    def test_a_batch_that_was_not_taken_is_sent_again(self, published: Post, sendgrid: HttpServer, status: int) -> None:
        subscribe(2500)
        sendgrid.answer = lambda asked: Reply(status if len(sendgrid.asked) == 1 else 202)
        run = start(published)
        work()
        assert Delivery.objects.count() in (1500, 2000)
        work_to_the_end()
        assert is_done(run)
        sendgrid.asked.pop(1)
        assert mailed(sendgrid.asked) == Counter(address(*range(2500)))

    def test_an_address_that_is_none_skips_nobody(self, published: Post, sendgrid: HttpServer) -> None:
        """It is known before the others are asked for: a fault in between must not skip them."""
        subscribe(10)
        Subscriber.objects.filter(email="s9@example.com").update(email="nobody")
        sendgrid.answer = lambda asked: Reply(500 if not sendgrid.asked else 202)
        run = start(published)
        work_to_the_end()
        assert is_done(run)
        assert mailed(sendgrid.asked[1:]) == Counter(address(*range(9)))
        assert Delivery.objects.exclude(refused="").get().subscriber.email == "nobody"

    def test_odd_words_about_an_address_do_not_mail_the_others_again(
        self, published: Post, sendgrid: HttpServer
    ) -> None:
        subscribe(3)
        odd = {"errors": [{"field": "personalizations.1.to", "message": "no \ud83d\x00"}]}
        sendgrid.answer = lambda asked: Reply(202) if sendgrid.asked else Reply(400, odd)
        run = start(published)
        work_to_the_end()
        assert is_done(run)
        assert mailed(sendgrid.asked[1:]) == Counter(address(0, 2))
        assert Delivery.objects.exclude(refused="").get().refused == "no \ufffd\ufffd"

    def test_who_is_deleted_while_the_mail_is_under_way_costs_nothing(
        self, published: Post, sendgrid: HttpServer
    ) -> None:
        subscribe(3)
        gone = Subscriber.objects.get(email="s1@example.com")
        ours = connection.cursor().connection

        def answer(asked: Asked) -> Reply:
            ours.execute("DELETE FROM blog_subscription WHERE subscriber_id = %s", [gone.pk])
            ours.execute("DELETE FROM blog_subscriber WHERE id = %s", [gone.pk])
            return Reply(202)

        sendgrid.answer = answer
        run = start(published)
        work()
        assert is_done(run)
        assert Delivery.objects.count() == 2

    def test_a_post_deleted_while_the_mail_is_under_way_ends_it(self, published: Post, sendgrid: HttpServer) -> None:
        subscribe(1500)
        ours = connection.cursor().connection

        def answer(asked: Asked) -> Reply:
            for table in ("blog_notificationchunk", "blog_notification", "blog_delivery", "blog_post"):
                ours.execute(f"DELETE FROM {table}")
            return Reply(202)

        sendgrid.answer = answer
        run = start(published)
        work_to_the_end()
        run.refresh_from_db()
        assert run.status == Status.SUCCEEDED
        assert len(sendgrid.asked) == 1


@pytest.fixture
def many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "CHUNK", 10)


@pytest.mark.usefixtures("many_chunks")
class TestOutage:
    @pytest.fixture
    def run(self, published: Post, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> TaskRun:
        """A mailing whose mail server drops each connection.

        Only ``pass_time`` ends a pause: on a busy machine the usual ones end while a test works.
        """
        monkeypatch.setattr(outage, "FIRST_PAUSE", 150.0)
        subscribe(200)
        smtp.replies = dict.fromkeys(address(*range(200)), "drop")
        return start(published)

    def test_after_a_few_attempts_the_others_wait(self, run: TaskRun, smtp: SmtpServer) -> None:
        work()
        assert smtp.connections == outage.FEW
        assert MailOutage.objects.get().failures == outage.FEW
        chunks = LiveRun.objects.filter(name=CHUNK)
        assert Counter(chunks.values_list("status", flat=True)) == {"retrying": outage.FEW, "queued": 20 - outage.FEW}
        assert not chunks.filter(run_at__lte=Now()).exists()

    def test_when_the_pause_is_over_one_tries(self, run: TaskRun, smtp: SmtpServer) -> None:
        work()
        pass_time()
        work()
        assert smtp.connections == outage.FEW + 1
        assert MailOutage.objects.get().failures == outage.FEW + 1

    def test_the_first_mail_that_is_accepted_ends_it(self, run: TaskRun, smtp: SmtpServer) -> None:
        work()
        smtp.replies = {}
        pass_time()
        here.execute(chunk_runs()[-1])
        assert not MailOutage.objects.exists()
        work_to_the_end()
        assert is_done(run)
        assert Counter(smtp.recipients()) == Counter(address(*range(200)))

    def test_odd_words_of_a_server_are_kept_as_far_as_they_can_be(self) -> None:
        outage.note_failure(outage.enter(), "no \ud83d\x00")
        assert MailOutage.objects.get().reason == "no \ufffd\ufffd"

    def test_the_pauses_grow_to_ten_minutes(self) -> None:
        pauses = []
        for _ in range(14):
            outage.note_failure(outage.Admission(timezone.now() + timedelta(seconds=1), has_failed=True), "x")
            row = MailOutage.objects.get()
            pauses.append(round((row.retry_at - row.paused_at).total_seconds()))
        assert pauses == [2, 2, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]

    def test_attempts_from_before_a_pause_make_it_no_longer(self) -> None:
        began = [outage.enter() for _ in range(8)]
        for admission in began:
            outage.note_failure(admission, "x")
        assert MailOutage.objects.get().failures == outage.FEW

    def test_only_one_may_try(self) -> None:
        for _ in range(outage.FEW):
            outage.note_failure(outage.enter(), "x")
        MailOutage.objects.update(retry_at=Now())
        assert outage.enter().has_failed
        with pytest.raises(outage.Away) as error:
            outage.enter()
        assert outage.PROBE - 5 < error.value.seconds < outage.PROBE + outage.SPREAD

    def test_after_an_hour_the_mailing_stops_as_one_dead_letter(
        self, run: TaskRun, smtp: SmtpServer, published: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work()
        monkeypatch.setattr(outage, "PATIENCE", timedelta(0))
        pass_time()
        work()
        run.refresh_from_db()
        assert (run.status, run.error_type) == (Status.DEAD, "MailingStopped")
        assert Notification.objects.get().failure.startswith("The mail server accepts no mail: ")
        assert not LiveRun.objects.exists()
        assert TaskRun.objects.filter(status=Status.DEAD).count() == 1
        monkeypatch.undo()
        smtp.replies = {}
        again = changes.notification_restart(post_id=published.pk)
        assert again is not None
        work_to_the_end()
        assert Counter(smtp.recipients()) == Counter(address(*range(200)))

    def test_a_chunk_that_fails_alone_holds_up_no_other(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(200)
        smtp.replies = {"s7@example.com": "drop"}
        start(published)
        work()
        assert NotificationChunk.objects.filter(status="done").count() == 19
        assert LiveRun.objects.get(name=CHUNK).status == "retrying"


class TestKeptConnections:
    def test_chunks_share_a_connection(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(430)
        start(published)
        work()
        assert len(smtp.mails) == 430
        assert smtp.connections == 1

    def test_it_is_replaced_after_many_mails(
        self, published: Post, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.mail.bulk.MOST_MAILS", 50)
        subscribe(230)
        start(published)
        work()
        assert smtp.connections == 5
        assert Counter(smtp.recipients()) == Counter(address(*range(230)))

    def test_a_server_that_takes_no_more_over_it_gets_a_new_one(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(5)
        smtp.on_mail = ["250 OK", "250 OK", "421 4.7.0 too many mails"]
        run = start(published)
        assert work() == 3
        assert is_done(run)
        assert smtp.connections == 2
        assert Counter(smtp.recipients()) == Counter(address(*range(5)))

    def test_a_server_that_refuses_the_sender_is_asked_twice_at_most(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(5)
        smtp.on_mail = ["250 OK", *["550 5.7.1 not from you"] * 50]
        start(published)
        work()
        assert smtp.connections == 2
        assert "not from you" in LiveRun.objects.get(status="retrying").error

    def test_one_that_the_server_has_closed_is_replaced(self, smtp: SmtpServer) -> None:
        with kept_connections.kept_connection() as first:
            first.backend.connection.sock.shutdown(2)
        with kept_connections.kept_connection() as second:
            assert second is not first
            assert second.backend.connection.noop()[0] == 250

    def test_one_that_is_idle_for_long_is_closed(self, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kept_connections, "IDLE", 0.1)
        with kept_connections.kept_connection() as one:
            smtp_connection = one.backend.connection
        until(lambda: smtp_connection.sock is None, "it is closed")
        with kept_connections.kept_connection() as other:
            assert other is not one

    def test_after_an_error_it_is_not_used_again(self, smtp: SmtpServer) -> None:
        with suppress(KeyError), kept_connections.kept_connection() as one:
            assert one.backend
            raise KeyError
        with kept_connections.kept_connection() as other:
            assert other is not one

    def test_two_at_a_time_are_two(self, smtp: SmtpServer) -> None:
        with kept_connections.kept_connection() as one, kept_connections.kept_connection() as other:
            assert one.backend.connection is not other.backend.connection

    def test_another_server_gets_another(self, smtp: SmtpServer, settings: Any) -> None:
        with kept_connections.kept_connection() as one:
            assert one.backend
        settings.EMAIL_PORT = 1
        with kept_connections.kept_connection() as other:
            assert other is not one

    def test_a_child_does_not_use_that_of_its_parent(self, smtp: SmtpServer) -> None:
        with kept_connections.kept_connection() as ours:
            assert ours.backend
        pid = os.fork()
        if not pid:
            with kept_connections.kept_connection() as theirs:
                os._exit(0 if theirs is not ours else 1)
        assert os.waitpid(pid, 0)[1] == 0
        with kept_connections.kept_connection() as again:
            assert again is ours
            assert again.backend.connection.noop()[0] == 250


def test_the_record_of_a_chunk_that_is_gone_stops_it(published: Post, smtp: SmtpServer) -> None:
    subscribe(3)
    here.execute(start(published))
    one = NotificationChunk.objects.get()
    NotificationChunk.objects.all().delete()
    assert chunk_send(post_id=published.pk, first=one.first, task=one.task, seconds=60) is Left.STOPPED
