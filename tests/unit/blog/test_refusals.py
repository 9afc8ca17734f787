"""Addresses that are refused for good: when they are switched off, and what brings them back."""

import threading

import pytest
from django.db import connection, transaction

from app.accounts.models import User
from app.blog.models import Subscriber, audience
from app.blog.subscriptions.refusals import LIMIT, record_refusals
from app.blog.subscriptions.services import subscriptions_add
from tests.support.waiting import until

pytestmark = pytest.mark.django_db
GONE = "550 5.1.1 no such user"


@pytest.fixture
def kim(author: User) -> Subscriber:
    subscriptions_add(author=author, emails=["kim@example.com"])
    return Subscriber.objects.get()


def refuse(one: Subscriber, times: int = 1, reason: str = GONE) -> list[list[int]]:
    return [record_refusals(refused={one.pk: reason}, accepted=[]) for _ in range(times)]


def test_the_third_post_in_a_row_switches_it_off_with_the_reason(author: User, kim: Subscriber) -> None:
    assert refuse(kim, LIMIT) == [[], [], [kim.pk]]
    kim.refresh_from_db()
    assert (kim.active, kim.refusals) == (False, 3)
    assert kim.switched_off == f"It refused 3 posts in a row. The last answer: {GONE}"
    assert not audience(author).exists()


def test_a_mail_that_is_taken_starts_the_count_again(author: User, kim: Subscriber) -> None:
    refuse(kim, 2)
    assert record_refusals(refused={}, accepted=[kim.pk]) == []
    assert refuse(kim, 2) == [[], []]
    kim.refresh_from_db()
    assert (kim.active, kim.refusals, kim.switched_off) == (True, 2, "")
    assert audience(author).exists()


def test_what_is_off_stays_off_and_keeps_its_first_reason(kim: Subscriber) -> None:
    Subscriber.objects.update(active=False, switched_off="A complaint.")
    assert refuse(kim, 4) == [[], [], [], []]
    record_refusals(refused={}, accepted=[kim.pk])
    kim.refresh_from_db()
    assert (kim.active, kim.switched_off) == (False, "A complaint.")


@pytest.mark.parametrize("reason", ["", "\x00", "\ud800", "x" * 100_000, "%s %(ids)s {}"])
def test_odd_words_of_a_server_are_kept_as_far_as_they_can_be(kim: Subscriber, reason: str) -> None:
    assert refuse(kim, LIMIT, reason)[-1] == [kim.pk]
    kim.refresh_from_db()
    assert kim.switched_off.startswith("It refused 3 posts in a row. The last answer: ")
    assert len(kim.switched_off) < 600


def test_nobody_and_strangers_change_nothing(kim: Subscriber) -> None:
    assert record_refusals(refused={}, accepted=[]) == []
    assert record_refusals(refused={kim.pk + 1: GONE}, accepted=[kim.pk + 2, 0, -1]) == []
    # The refusal counts where somebody is said to be both.
    record_refusals(refused={kim.pk: GONE}, accepted=[kim.pk])
    kim.refresh_from_db()
    assert kim.refusals == 1


@pytest.mark.django_db(transaction=True)
def test_two_mailings_at_once_count_both_and_do_not_deadlock(author: User) -> None:
    subscriptions_add(author=author, emails=(f"s{number}@example.com" for number in range(50)))
    ids = list(Subscriber.objects.order_by("pk").values_list("pk", flat=True))
    failed: list[Exception] = []

    def count(order: list[int]) -> None:
        try:
            for _ in range(10):
                with transaction.atomic():
                    record_refusals(refused=dict.fromkeys(order, GONE), accepted=[])
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=count, args=[order]) for order in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    until(lambda: not any(thread.is_alive() for thread in threads), "both have counted")
    assert not failed
    assert set(Subscriber.objects.values_list("refusals", "active")) == {(20, False)}
