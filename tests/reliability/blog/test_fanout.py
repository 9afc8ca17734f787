"""Thousands are told of a post by real processes, through kills and outages of the mail provider."""

import os
import signal
import threading
from collections import Counter

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction

from app.blog import services
from app.blog.models import Delivery, Notification, Post
from app.blog.subscriptions import subscriptions_add
from app.blog.tasks import notify_subscribers
from pressroom.models import Status, TaskRun
from tests.support.loopback import HANG, Asked, HttpServer, Reply, http_server, smtp_server
from tests.support.processes import Process, Stack
from tests.support.waiting import until


def publish(subscribers: int) -> Post:
    author = get_user_model().objects.create_user("author", "author@example.com")
    post = services.post_create(author=author, title="t", body="b")
    subscriptions_add(author=author, emails=(f"s{number}@example.com" for number in range(subscribers)))
    with transaction.atomic():
        services.post_publish(post_id=post.pk)
        notify_subscribers.delay(post.pk)
    return post


def run() -> TaskRun:
    return TaskRun.objects.get()


def mailed(asked: list[Asked]) -> Counter[tuple[str, str]]:
    """Address and Message-ID of each mail that the provider took."""
    return Counter(
        (own["to"][0]["email"], own["headers"]["Message-ID"]) for call in asked for own in call.json["personalizations"]
    )


def worker_of(stack: Stack, url: str) -> Process:
    return stack.worker("-Q", "emails", "--concurrency=1", EMAIL_URL=url, DEFAULT_FROM_EMAIL="press@x.kr")


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
        until(lambda: run().status == Status.SUCCEEDED, "all are told")

        mails = mailed(server.asked)
        assert len(mails) == 4500
        twice = [address for (address, _), times in mails.items() if times == 2]
        assert sorted(twice) == sorted(f"s{number}@example.com" for number in range(2000, 3000))
        assert max(mails.values()) == 2
    assert Delivery.objects.filter(post=post).count() == Notification.objects.get().told == 4500
    assert (run().progress_current, run().progress_total, run().attempt) == (4500, 4500, 2)


@pytest.mark.parametrize("fault", [Reply(429), Reply(500)], ids=["429", "500"])
def test_a_provider_that_fails_for_a_while_costs_and_doubles_nothing(stack: Stack, fault: Reply) -> None:
    server: HttpServer

    def answer(asked: Asked) -> Reply:
        return fault if len(server.asked) in (1, 2) else Reply(202)

    with http_server(answer) as server:
        publish(3500)
        stack.relay()
        worker_of(stack, f"sendgrid+http://:key@{server.address}")
        until(lambda: run().status == Status.SUCCEEDED, "all are told")

        refused = server.asked[1:3]
        assert mailed(refused[:1]) == mailed(refused[1:])
        assert set(mailed([asked for asked in server.asked if asked not in refused]).values()) == {1}
    assert Delivery.objects.count() == 3500
    assert [attempt.outcome for attempt in run().attempts.all()] == ["retried", "retried"]


def test_a_mail_server_that_drops_the_connection_is_tried_again(stack: Stack) -> None:
    with smtp_server() as (server, port):
        server.on_data = {"s150@example.com": "drop"}
        publish(300)
        stack.relay()
        worker_of(stack, f"smtp://127.0.0.1:{port}")
        until(lambda: run().status == Status.RETRYING, "it was told")
        server.on_data = {}
        until(lambda: run().status == Status.SUCCEEDED, "all are told")

        mails = Counter(server.recipients())
    assert len(mails) == 300
    assert [address for address, times in mails.items() if times > 1] == ["s150@example.com"]
