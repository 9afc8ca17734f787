"""Two changes at the same moment: a mailing that records, somebody who subscribes, and what deletes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connections, transaction
from django.test import Client
from django.utils import timezone

from app.accounts.models import User
from app.blog import changes
from app.blog.models import Delivery, NotificationChunk, Post, Subscriber, Subscription
from app.blog.subscriptions.services import (
    subscription_ask,
    subscription_end,
    subscriptions_add,
    unconfirmed_cleanup,
)
from app.erasure import erase
from tests.support.locks import waiting_for_locks
from tests.support.probes import here
from tests.support.waiting import until
from tests.unit.blog.mailing import chunk_runs, start, subscribe

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], Any]], Future[Any]]]:
    """Calls a function in a thread with a connection of its own, until it has ended or waits for a lock."""
    threads = ThreadPoolExecutor(4)

    def begin(call: Callable[[], Any]) -> Future[Any]:
        def work() -> Any:
            try:
                return call()
            finally:
                connections.close_all()

        waited, begun = waiting_for_locks(), threads.submit(work)
        until(lambda: begun.done() or waiting_for_locks() > waited, "it ends, or waits for a lock")
        return begun

    yield begin
    threads.shutdown()


@contextmanager
def held(rows: Any) -> Iterator[None]:
    """Lock the rows for the block."""
    with transaction.atomic():
        assert list(rows.select_for_update())
        yield


def confirmed_user(name: str) -> User:
    return User.objects.create_user(name, f"{name}@example.com", email_verified_at=timezone.now())


class TestWhileAChunkRecords:
    """Its mails are out, and their records are about to be committed."""

    def test_an_author_deletes_the_account(self, published: Post, meanwhile: Any) -> None:
        subscribe(3)
        here.execute(start(published))
        [run] = chunk_runs()
        with held(NotificationChunk.objects.all()):
            recording = meanwhile(lambda: here.execute(run))
            erasing = meanwhile(lambda: erase(published.author))
        recording.result()
        erasing.result()
        assert mail.outbox
        assert not any(model.objects.exists() for model in (Post, Delivery, NotificationChunk, Subscription))

    @pytest.mark.parametrize("by", ["account", "admin"])
    def test_a_readers_address_is_deleted(self, published: Post, meanwhile: Any, admin_client: Client, by: str) -> None:
        reader = confirmed_user("s0")
        subscribe(3)
        here.execute(start(published))
        [run] = chunk_runs()
        address = Subscriber.objects.get(email=reader.email)
        ways = {
            "account": lambda: erase(reader),
            "admin": lambda: admin_client.post(f"/admin/blog/subscriber/{address.pk}/delete/", {"post": "yes"}),
        }
        with held(NotificationChunk.objects.all()):
            recording = meanwhile(lambda: here.execute(run))
            erasing = meanwhile(ways[by])
        recording.result()
        erasing.result()
        assert not Subscriber.objects.filter(pk=address.pk).exists()
        assert set(Delivery.objects.values_list("subscriber", flat=True)) <= {
            *Subscriber.objects.values_list("pk", flat=True)
        }


class TestAnErasure:
    @pytest.fixture
    def author(self, published: Post) -> User:
        User.objects.filter(pk=published.author.pk).update(email_verified_at=timezone.now())
        return User.objects.get(pk=published.author.pk)

    def test_of_two_authors_who_subscribe_to_each_other(self, author: User, meanwhile: Any) -> None:
        both = [author, confirmed_user("other")]
        Post.objects.create(author=both[1], title="b", body="b", slug="b", status=Post.Status.PUBLISHED)
        for one, reader in (both, reversed(both)):
            subscriptions_add(author=one, emails=[reader.email])
        third = Subscriber.objects.create(email="third@example.com")
        for post in Post.objects.all():
            Delivery.objects.create(post=post, subscriber=third)
        with held(Delivery.objects.all()):
            # Each has deleted the subscription of its own address, or waits for the other one.
            erasing = [meanwhile(lambda user=user: erase(user)) for user in both]
        for one in erasing:
            one.result()
        assert list(Subscriber.objects.all()) == [third]
        assert not Subscription.objects.exists()

    def test_of_an_author_who_ends_her_own_subscription_to_herself(self, author: User, meanwhile: Any) -> None:
        subscriptions_add(author=author, emails=[author.email])
        token = Subscriber.objects.get().token
        with held(Subscription.objects.all()):
            # It has locked the address, or waits for a lock before that.
            ending = meanwhile(lambda: subscription_end(token=token))
            erasing = meanwhile(lambda: erase(author))
        assert ending.result()
        erasing.result()
        assert not Subscriber.objects.exists()


class TestWhileSomebodySubscribes:
    @pytest.fixture
    def old(self) -> Subscriber:
        """An address that never confirmed anything."""
        Subscriber.objects.create(email="old@example.com")
        Subscriber.objects.update(created_at=timezone.now() - timedelta(days=31))
        return Subscriber.objects.get()

    @pytest.mark.parametrize("had_asked", [False, True])
    def test_the_clean_up_leaves_the_address(
        self, published: Post, old: Subscriber, meanwhile: Any, had_asked: bool
    ) -> None:
        if had_asked:
            Subscription.objects.create(author=published.author, subscriber=old)
            Subscription.objects.update(created_at=old.created_at)
        with transaction.atomic():
            pk, at = subscription_ask(author=published.author, email=old.email)
            cleaning = meanwhile(lambda: unconfirmed_cleanup(seconds=0))
        cleaning.result()
        assert Subscription.objects.get(asked_at=at).pk == pk

    def test_an_address_that_is_being_deleted_is_a_new_one(
        self, published: Post, old: Subscriber, meanwhile: Any
    ) -> None:
        with held(Subscriber.objects.all()):
            asking = meanwhile(lambda: changes.subscribe(author=published.author, email=old.email))
            old.delete()
        asking.result()
        assert Subscription.objects.get().subscriber.email == "old@example.com"
