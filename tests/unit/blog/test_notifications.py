"""Telling subscribers: by a real SMTP server and one that speaks as SendGrid does, with the faults of both."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from app.blog.models import Delivery, Notification, Post, Subscriber, audience
from app.blog.notifications import ROUNDS, Left, pause_before_next_round, subscribers_notify
from app.blog.subscriptions import subscriptions_add
from app.blog.tasks import notify_subscribers
from app.mail.bulk import NoneTaken
from app.mail.send import MailUnavailable
from app.mail.url import email_settings
from tests.support.loopback import Asked, HttpServer, Reply, SmtpServer, http_server, smtp_server

pytestmark = pytest.mark.django_db


def subscribe(count: int) -> None:
    emails = (f"s{number}@example.com" for number in range(count))
    subscriptions_add(author=Post.objects.get().author, emails=emails)


def address(*numbers: int) -> list[str]:
    return [f"s{number}@example.com" for number in numbers]


def notify(post: Post, seconds: float = 60) -> Left:
    return subscribers_notify(post=post, seconds=seconds, progress=lambda *_: None)


@pytest.fixture
def smtp(settings: Any) -> Iterator[SmtpServer]:
    with smtp_server() as (server, port):
        for name, value in email_settings(f"smtp://127.0.0.1:{port}").items():
            setattr(settings, name, value)
        yield server


@pytest.fixture
def sendgrid(settings: Any) -> Iterator[HttpServer]:
    with http_server(lambda asked: Reply(202)) as server:
        for name, value in email_settings(f"sendgrid+http://:key@{server.address}").items():
            setattr(settings, name, value)
        yield server


def mailed(asked: list[Asked]) -> Counter[str]:
    return Counter(own["to"][0]["email"] for call in asked for own in call.json["personalizations"])


class TestTask:
    def test_tells_each_active_subscriber_once(self, published: Post) -> None:
        subscribe(250)
        Subscriber.objects.filter(email="s7@example.com").update(active=False)
        assert notify_subscribers.apply(args=[published.pk]).get() == 249
        assert notify_subscribers.apply(args=[published.pk]).get() == 249
        assert Counter(message.to[0] for message in mail.outbox) == Counter(
            f"s{number}@example.com" for number in range(250) if number != 7
        )
        assert Delivery.objects.count() == 249

    def test_a_draft_is_told_to_nobody(self, draft: Post) -> None:
        subscribe(1)
        assert notify_subscribers.apply(args=[draft.pk]).get() == 0
        assert not mail.outbox

    def test_without_subscribers_there_is_nothing_to_do(self, published: Post) -> None:
        assert notify_subscribers.apply(args=[published.pk]).get() == 0


def test_out_of_turn_it_says_that_there_is_more(published: Post) -> None:
    subscribe(3)
    said: list[tuple[int, int]] = []
    while subscribers_notify(post=published, seconds=0, progress=lambda *at: said.append(at)) is Left.MORE:
        assert len(said) < 10
    assert list(dict.fromkeys(said)) == [(1, 3), (2, 3), (3, 3)]
    assert len(mail.outbox) == 3


def test_progress_is_told_by_the_hundred(published: Post) -> None:
    subscribe(250)
    said: list[tuple[int, int]] = []
    subscribers_notify(post=published, seconds=60, progress=lambda *at: said.append(at))
    assert said == [(100, 250), (200, 250), (250, 250)]


def test_who_subscribes_meanwhile_is_told_too(published: Post) -> None:
    subscribe(100)
    assert notify(published) is Left.NOTHING
    subscriptions_add(author=published.author, emails=["late@example.com"])
    assert notify(published) is Left.NOTHING
    assert mail.outbox[-1].to == ["late@example.com"]
    assert len(mail.outbox) == 101


def test_every_mail_offers_a_way_out_and_has_an_id_of_its_own(published: Post, anonymous: APIClient) -> None:
    subscribe(2)
    notify(published)
    headers = [message.extra_headers for message in mail.outbox]
    assert len({header["Message-ID"] for header in headers}) == 2
    assert headers[0]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = headers[0]["List-Unsubscribe"].strip("<>").removeprefix("http://127.0.0.1:8000")
    assert anonymous.post(link).status_code == 200
    assert audience(published.author).get().subscriber.email == mail.outbox[1].to[0]


def test_a_turn_costs_the_same_whatever_was_told_before(published: Post) -> None:
    subscribe(5)
    costs = []
    for _ in range(4):
        with CaptureQueriesContext(connection) as queries:
            notify(published, seconds=0)
        costs.append(len(queries))
        counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
        assert bool(counts) == (len(costs) == 1), "counted once, at the start"
    assert costs[1] == costs[2] == costs[3]


class TestBySmtp:
    def test_goes_on_where_the_server_went_away(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(130)
        for number, told in ((105, 105), (115, 115)):
            smtp.replies = {f"s{number}@example.com": "drop"}
            with pytest.raises(MailUnavailable):
                notify(published)
            assert Delivery.objects.count() == Notification.objects.get().told == told
        smtp.replies = {}
        assert notify(published) is Left.NOTHING
        assert Counter(smtp.recipients()) == Counter(address(*range(130)))

    def test_taken_but_not_told_is_sent_again_with_the_same_id(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(5)
        smtp.on_data = {"s2@example.com": "drop"}
        with pytest.raises(MailUnavailable):
            notify(published)
        smtp.on_data = {}
        notify(published)
        assert Counter(smtp.recipients()) == Counter(address(0, 1, 2, 2, 3, 4))
        twice = [sent["Message-ID"] for sent in smtp.mails if sent["To"] == "s2@example.com"]
        assert len(twice) == 2
        assert len(set(twice)) == 1

    def test_who_is_refused_is_recorded_with_the_reason(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(3)
        smtp.replies = {"s1@example.com": "550 5.1.1 no such user"}
        assert notify(published) is Left.NOTHING
        assert notify(published) is Left.NOTHING
        assert smtp.recipients() == address(0, 2)
        assert list(Delivery.objects.exclude(refused="").values_list("subscriber__email", "refused")) == [
            ("s1@example.com", "550 5.1.1 no such user")
        ]

    def test_its_turn_ends_in_the_middle_of_a_batch(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(30)
        while notify(published, seconds=0) is Left.MORE:
            assert smtp.connections < 40
        assert Counter(smtp.recipients()) == Counter(address(*range(30)))

    def test_who_is_put_off_is_tried_again_after_all_others(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(130)
        smtp.replies = dict.fromkeys(address(3, 120), "451 4.7.1 greylisted")
        assert notify(published) is Left.PUT_OFF
        assert Delivery.objects.count() == 128
        smtp.replies = dict.fromkeys(address(120), "451 4.7.1 greylisted")
        assert notify(published) is Left.PUT_OFF
        smtp.replies = {}
        assert notify(published) is Left.NOTHING
        assert Counter(smtp.recipients()) == Counter(address(*range(130)))
        assert not Delivery.objects.exclude(refused="").exists()

    @pytest.mark.parametrize("reply", ["450 4.1.2 domain not found", "550 5.1.2 domain not found"])
    def test_many_bad_addresses_in_a_row_keep_nobody_from_theirs(
        self, published: Post, smtp: SmtpServer, reply: str
    ) -> None:
        subscribe(130)
        bad = range(5, 50)
        smtp.replies = dict.fromkeys(address(*bad), reply)
        for _ in range(2):
            with pytest.raises(NoneTaken):
                notify(published)
        assert notify(published) is Left.PUT_OFF
        good = [number for number in range(130) if number not in bad]
        assert Counter(smtp.recipients()) == Counter(address(*good))
        # Among themselves they are no reason to give up.
        calls = 0
        while (left := notify(published)) is not Left.NOTHING:
            calls += 1
            assert left is Left.MORE or Notification.objects.get().rounds <= ROUNDS
            assert calls < 50
        assert smtp.connections < 100
        assert Notification.objects.get().rounds == ROUNDS
        assert set(Delivery.objects.exclude(refused="").values_list("subscriber__email", "refused")) == {
            (email, reply) for email in address(*bad)
        }
        assert Counter(smtp.recipients()) == Counter(address(*good))

    @pytest.mark.parametrize("count", [3, 90])
    def test_a_relay_that_is_set_up_badly_costs_nobody_theirs(
        self, published: Post, smtp: SmtpServer, count: int
    ) -> None:
        subscribe(count)
        smtp.replies = dict.fromkeys(address(*range(count)), "554 5.7.1 relay access denied")
        for _ in range(count // 20):
            with pytest.raises(NoneTaken, match="relay access denied"):
                notify(published)
        assert notify(published) is Left.PUT_OFF
        assert not Delivery.objects.exists()
        smtp.replies = {}
        assert notify(published) is Left.NOTHING
        assert Counter(smtp.recipients()) == Counter(address(*range(count)))

    def test_its_turn_ends_among_those_who_are_put_off(self, published: Post, smtp: SmtpServer) -> None:
        """A turn that took longer than it has still brings the position on."""
        subscribe(10)
        smtp.replies = dict.fromkeys(address(*range(10)), "451 4.7.1 greylisted")
        assert notify(published, seconds=0) is Left.PUT_OFF

    def test_who_is_put_off_for_ever_counts_as_refused(self, published: Post, smtp: SmtpServer) -> None:
        subscribe(2)
        smtp.replies = dict.fromkeys(address(1), "451 4.7.1 greylisted")
        pauses = []
        while notify(published) is Left.PUT_OFF:
            pauses.append(pause_before_next_round(post=Post.objects.get()))
        assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]
        assert len(pauses) == ROUNDS
        assert Delivery.objects.get(subscriber__email="s1@example.com").refused == "451 4.7.1 greylisted"


class TestBySendGrid:
    def test_a_million_is_a_thousand_calls(self, published: Post, sendgrid: HttpServer) -> None:
        subscribe(2500)
        assert notify(published) is Left.NOTHING
        assert [len(asked.json["personalizations"]) for asked in sendgrid.asked] == [1000, 1000, 500]
        assert mailed(sendgrid.asked) == Counter(address(*range(2500)))
        assert Delivery.objects.count() == Notification.objects.get().told == 2500

    @pytest.mark.parametrize("status", [429, 500])
    def test_goes_on_with_the_batch_that_was_not_taken(
        self, published: Post, sendgrid: HttpServer, status: int
    ) -> None:
        subscribe(2500)
        sendgrid.answer = lambda asked: Reply(status if len(sendgrid.asked) == 1 else 202)
        with pytest.raises(MailUnavailable):
            notify(published)
        assert Delivery.objects.count() == 1000
        assert notify(published) is Left.NOTHING
        refused = sendgrid.asked.pop(1)
        assert mailed(sendgrid.asked) == Counter(address(*range(2500)))
        assert mailed([refused]) == Counter(address(*range(1000, 2000)))

    def test_an_address_that_is_none_skips_nobody(self, published: Post, sendgrid: HttpServer) -> None:
        """It is known before the others are asked for: a fault in between must not skip them."""
        subscribe(10)
        Subscriber.objects.filter(email="s9@example.com").update(email="nobody")
        sendgrid.answer = lambda asked: Reply(500 if not sendgrid.asked else 202)
        with pytest.raises(MailUnavailable):
            notify(published)
        assert notify(published) is Left.NOTHING
        assert mailed(sendgrid.asked[1:]) == Counter(address(*range(9)))
        assert Delivery.objects.exclude(refused="").get().subscriber.email == "nobody"

    def test_who_is_deleted_while_the_mail_is_under_way_costs_nothing(
        self, published: Post, sendgrid: HttpServer, django_db_blocker: Any
    ) -> None:
        subscribe(3)
        gone = Subscriber.objects.get(email="s1@example.com")
        ours = connection.cursor().connection

        def answer(asked: Asked) -> Reply:
            ours.execute("DELETE FROM blog_subscription WHERE subscriber_id = %s", [gone.pk])
            ours.execute("DELETE FROM blog_subscriber WHERE id = %s", [gone.pk])
            return Reply(202)

        sendgrid.answer = answer
        assert notify(published) is Left.NOTHING
        assert Delivery.objects.count() == 2

    def test_a_post_deleted_while_the_mail_is_under_way_ends_it(self, published: Post, sendgrid: HttpServer) -> None:
        subscribe(1500)
        ours = connection.cursor().connection

        def answer(asked: Asked) -> Reply:
            ours.execute("DELETE FROM blog_notification")
            ours.execute("DELETE FROM blog_post")
            return Reply(202)

        sendgrid.answer = answer
        assert notify(published) is Left.NOTHING
        assert len(sendgrid.asked) == 1
