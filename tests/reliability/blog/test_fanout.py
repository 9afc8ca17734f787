"""Thousands are told of a post by real processes, through kills, flushes of Redis and outages of the mail provider.

``make reliability-fanout`` runs the kills with 100,000 recipients: FANOUT_RECIPIENTS and FANOUT_KILLS.
"""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction

from app.blog import changes, services
from app.blog.mailing import outage, planner
from app.blog.models import Delivery, MailOutage, Notification, NotificationChunk, Post
from app.blog.subscriptions.services import subscriptions_add
from app.blog.tasks import notify_subscribers
from pressroom import operator_actions
from pressroom.models import LiveRun, Status, TaskRun
from tests.support.loopback import HANG, Asked, HttpServer, Reply, SmtpServer, http_server, smtp_server
from tests.support.processes import Process, Stack
from tests.support.waiting import until

RECIPIENTS, KILLS = int(os.environ.get("FANOUT_RECIPIENTS", "0")), int(os.environ.get("FANOUT_KILLS", "4"))
SLOTS = 2


def publish(subscribers: int) -> Post:
    author = get_user_model().objects.create_user("author", "author@example.com")
    post = services.post_create(author=author, title="t", body="b")
    subscriptions_add(author=author, emails=(f"s{number}@example.com" for number in range(subscribers)))
    with transaction.atomic():
        services.post_publish(post_id=post.pk)
        notify_subscribers.delay(post.pk)
    return post


def run() -> TaskRun:
    return TaskRun.objects.filter(name=notify_subscribers.name).latest("pk")


def is_done() -> bool:
    return run().status == Status.SUCCEEDED


def mailed(asked: list[Asked]) -> Counter[tuple[str, str]]:
    """Address and Message-ID of each mail that the provider took."""
    return Counter(
        (own["to"][0]["email"], own["headers"]["Message-ID"]) for call in asked for own in call.json["personalizations"]
    )


def worker_of(stack: Stack, url: str, slots: int = 1) -> Process:
    queues = ("-Q", "emails,bulk", f"--concurrency={slots}")
    return stack.worker(*queues, EMAIL_URL=url, DEFAULT_FROM_EMAIL="press@x.kr")


@pytest.mark.parametrize("whole", [False, True], ids=["child", "whole worker"])
def test_a_killed_worker_sends_one_batch_twice_at_most(stack: Stack, whole: bool) -> None:
    """SendGrid has taken the third batch, and its worker is killed before it hears of it."""
    taken = threading.Event()

    def answer(asked: Asked) -> Reply:
        if len(server.asked) == 2:
            taken.set()
            return HANG
        return Reply(202)

    with http_server(answer) as server:
        url = f"sendgrid+http://:key@{server.address}"
        post = publish(4500)
        stack.relay()
        worker = worker_of(stack, url)
        assert taken.wait(60)
        if whole:
            worker.kill()
            worker_of(stack, url)
        else:
            for child in worker.children():
                os.kill(child, signal.SIGKILL)
        until(is_done, "all are told")

        mails = mailed(server.asked)
        assert len(mails) == 4500
        assert Counter(dict.fromkeys(mailed(server.asked[2:3]), 2)) == Counter(
            {mail: times for mail, times in mails.items() if times > 1}
        )
    assert Delivery.objects.filter(post=post).count() == Notification.objects.get().told == 4500
    assert (run().progress_current, run().progress_total) == (4500, 4500)
    assert sorted(TaskRun.objects.exclude(pk=run().pk).values_list("attempt", flat=True)) == [1, 1, 1, 1, 2]


@contextmanager
def provider(kind: str) -> Iterator[tuple[str, Callable[[], Counter[tuple[str, str]]], int]]:
    """A mail server that takes a moment: its URL, what it has taken so far, and the mails of a batch."""
    if kind == "sendgrid":

        def answer(asked: Asked) -> Reply:
            time.sleep(0.2)
            return Reply(202)

        with http_server(answer) as server:
            yield f"sendgrid+http://:key@{server.address}", lambda: mailed(server.asked), 1000
    else:
        with smtp_server() as (smtp, port):
            taken: Callable[[], Counter[Any]] = lambda: Counter((m["To"], m["Message-ID"]) for m in smtp.mails)  # noqa: E731
            yield f"smtp://127.0.0.1:{port}", taken, 1


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "recipients"), [("smtp", 1500), ("sendgrid", 20_000)])
def test_kills_and_flushes_lose_nobody(stack: Stack, redis_server: Any, kind: str, recipients: int) -> None:
    """Slots and whole workers die, one after the other, and Redis forgets everything twice."""
    recipients = RECIPIENTS or recipients
    slots_killed = 0
    with provider(kind) as (url, taken, batch):
        post = publish(recipients)
        stack.relay()
        worker = worker_of(stack, url, SLOTS)
        for kill in range(KILLS):
            goal = recipients * (kill + 1) // (KILLS + 2)
            until(lambda goal=goal: Delivery.objects.count() >= goal, "the next kill is due", timeout=1800)
            if kill % 2:
                worker.kill()
                slots_killed += SLOTS
                worker = worker_of(stack, url, SLOTS)
            else:
                os.kill(max(worker.children()), signal.SIGKILL)
                slots_killed += 1
            if kill in (1, 2):
                redis_server.client().flushall()
        until(is_done, "all are told", timeout=1800)
        mails = taken()

    assert {address for address, _ in mails} == {f"s{number}@example.com" for number in range(recipients)}
    assert len(mails) == recipients, "whoever is mailed again gets the same Message-ID"
    doubted = mails.total() - recipients
    print(f"{kind}: {recipients} recipients, {slots_killed} slots killed, {doubted} mails twice")
    assert doubted <= slots_killed * batch
    assert Delivery.objects.filter(post=post).count() == Notification.objects.get().told == recipients
    assert set(NotificationChunk.objects.values_list("status", flat=True)) == {"done"}
    assert not LiveRun.objects.exists()


@pytest.mark.parametrize("fault", [Reply(429), Reply(500)], ids=["429", "500"])
def test_a_provider_that_fails_for_a_moment_costs_and_doubles_nothing(stack: Stack, fault: Reply) -> None:
    server: HttpServer

    def answer(asked: Asked) -> Reply:
        return fault if len(server.asked) in (1, 2) else Reply(202)

    with http_server(answer) as server:
        publish(3500)
        stack.relay()
        worker_of(stack, f"sendgrid+http://:key@{server.address}")
        until(is_done, "all are told")

        refused = server.asked[1:3]
        assert set(mailed([asked for asked in server.asked if asked not in refused]).values()) == {1}
    assert Delivery.objects.count() == 3500
    assert not MailOutage.objects.exists()


def test_while_the_provider_is_away_the_chunks_wait_and_one_tries(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: HttpServer
    is_away = threading.Event()
    is_away.set()

    def answer(asked: Asked) -> Reply:
        return Reply(500) if is_away.is_set() else Reply(202)

    def each_has_waited() -> bool:
        """Each chunk had its turn, or more than one."""
        chunks = LiveRun.objects.filter(name="app.blog.tasks.notify_chunk")
        return chunks.count() == 25 and not chunks.filter(attempt=0).exists()

    with http_server(answer) as server:
        publish(25_000)
        stack.relay()
        worker_of(stack, f"sendgrid+http://:key@{server.address}", slots=4)
        until(lambda: MailOutage.objects.filter(failures__gte=outage.FEW + 1).exists(), "a probe has failed, too")
        until(each_has_waited, "the others wait")
        # Those that had begun before it was known, and one in each pause: 2, 4, 8 … s.
        assert len(server.asked) <= outage.FEW + 4 + 4
        is_away.clear()
        until(is_done, "all are told")
        assert Delivery.objects.count() == 25_000
        assert not MailOutage.objects.exists()
        assert len(server.asked) <= 25 + outage.FEW + 4 + 5


def test_a_mail_server_that_drops_the_connection_is_tried_again(stack: Stack) -> None:
    with smtp_server() as (server, port):
        server.on_data = {"s150@example.com": "drop"}
        publish(300)
        stack.relay()
        worker_of(stack, f"smtp://127.0.0.1:{port}")
        until(lambda: LiveRun.objects.filter(status=Status.RETRYING).exists(), "it was told")
        server.on_data = {}
        until(is_done, "all are told")

        mails = Counter(server.recipients())
    assert len(mails) == 300
    assert {address for address, times in mails.items() if times > 1} == {"s150@example.com"}


def test_slots_keep_their_connections_over_their_chunks(stack: Stack) -> None:
    with smtp_server() as (server, port):
        publish(12 * planner.CHUNK)
        stack.relay()
        worker_of(stack, f"smtp://127.0.0.1:{port}", SLOTS)
        until(is_done, "all are told")
        assert len(server.mails) == 12 * planner.CHUNK
        assert_few_connections(server)


def assert_few_connections(server: SmtpServer) -> None:
    """One for each slot, and another after 500 mails."""
    assert server.connections <= 2 * SLOTS


def test_a_cancelled_mailing_stops_and_goes_on_when_it_is_resumed(stack: Stack) -> None:
    with smtp_server() as (server, port):
        post = publish(3000)
        stack.relay()
        worker_of(stack, f"smtp://127.0.0.1:{port}", SLOTS)
        until(lambda: Delivery.objects.count() >= 200, "it is on its way")
        operator_actions.run_cancel(run=run(), user=None)
        until(lambda: not LiveRun.objects.exists(), "everything has stopped")
        told = Delivery.objects.count()
        assert told < 3000
        assert Notification.objects.get().status == "stopped"
        chunks = TaskRun.objects.filter(name="app.blog.tasks.notify_chunk")
        assert set(chunks.values_list("status", flat=True)) == {Status.CANCELLED, Status.SUCCEEDED}
        started = changes.notification_restart(post_id=post.pk)
        assert started is not None
        until(is_done, "all are told")

        mails = Counter(server.recipients())
        assert len(mails) == 3000
        # A process that was killed for the cancellation may have had a mail in flight.
        assert mails.total() <= 3000 + SLOTS
    assert Delivery.objects.count() == Notification.objects.get().told == 3000
