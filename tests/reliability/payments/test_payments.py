"""Payment by real workers, killed in the worst moment: charged once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from app.payments.models import Order
from app.payments.services import order_begin_payment, order_create
from app.payments.tasks import process_payment
from pressroom.models import LiveRun, Status, TaskRun
from tests.support.ledger_rows import change_run
from tests.support.probes.ledger import done
from tests.support.processes import Process, Stack
from tests.support.waiting import until
from tests.unit.payments.stripe_contract import Stripe, late_answer, lost_answer, stored_500, stripe_api, unreachable


@pytest.fixture
def stripe() -> Iterator[Stripe]:
    with stripe_api() as server:
        yield server


def worker(stack: Stack, stripe: Stripe) -> Process:
    return stack.worker(
        STRIPE_SECRET_KEY="sk_test_loopback", STRIPE_WEBHOOK_SECRET="whsec_x", STRIPE_API_BASE=stripe.web.url
    )


def pay(method: str = "pm_card_visa") -> tuple[Order, TaskRun]:
    owner = get_user_model().objects.create_user("author")
    with transaction.atomic():
        order = order_create(owner=owner, plan="monthly")
        order_begin_payment(order_id=order.pk, payment_method=method)
        run = TaskRun.of(process_payment.delay(str(order.pk)))
    return order, run


@pytest.mark.parametrize("step", ["create", "confirm"])
def test_a_worker_killed_between_the_charge_and_the_finish(stack: Stack, stripe: Stripe, step: str) -> None:
    stripe.faults[step] = [late_answer]
    stack.relay()
    first = worker(stack, stripe)
    order, run = pay()
    until(lambda: stripe.charges if step == "confirm" else stripe.intents, "Stripe has done it")
    first.kill()
    worker(stack, stripe)
    until(done, "it is done")

    order.refresh_from_db()
    run.refresh_from_db()
    assert (order.status, run.status, run.losses) == ("paid", Status.SUCCEEDED, 1)
    assert len(stripe.charges) == 1
    assert len(stripe.keys_of(step)) == 2
    assert [len(set(stripe.keys_of(each))) for each in ("create", "confirm")] == [1, 1]


def test_retried_three_times_a_minute_apart(stack: Stack, stripe: Stripe) -> None:
    stripe.faults["confirm"] = [stored_500, unreachable, lost_answer]
    stack.relay()
    worker(stack, stripe)
    order, run = pay()

    def waits() -> bool:
        run.refresh_from_db()
        return run.status == Status.RETRYING and run.attempt == attempt

    for attempt in (1, 2, 3):
        until(waits, f"attempt {attempt} has failed")
        pause = run.run_at - run.attempts.get(number=attempt).finished_at
        assert abs(pause.total_seconds() - 60) < 2
        change_run(run.pk, run_at=timezone.now())
    until(done, "it has ended")
    run.refresh_from_db()
    order.refresh_from_db()
    # The third attempt has charged, its answer was lost; what the fourth asks is answered from Stripe's memory.
    assert (run.status, order.status, len(stripe.charges)) == (Status.SUCCEEDED, "paid", 1)


def test_given_up_the_order_is_in_nobodys_way_and_can_be_run_again(stack: Stack, stripe: Stripe) -> None:
    from pressroom.operator_actions import run_again

    stripe.faults["create"] = [unreachable] * 4
    stack.relay()
    worker(stack, stripe)
    order, run = pay()
    until(lambda: LiveRun.objects.filter(run_at__gt=timezone.now()).update(run_at=timezone.now()) == 0 and done(), "4")
    run.refresh_from_db()
    assert (run.status, run.error_type, run.attempt) == (Status.DEAD, "Unavailable", 4)
    assert Order.objects.get().status == "processing"
    run_again(run=run, user=None)
    until(done, "it is done")
    order.refresh_from_db()
    assert (order.status, len(stripe.charges)) == ("paid", 1)


def test_a_decline_ends_the_task_well(stack: Stack, stripe: Stripe) -> None:
    stack.relay()
    worker(stack, stripe)
    order, run = pay("pm_card_chargeDeclined")
    until(done, "it is done")
    order.refresh_from_db()
    run.refresh_from_db()
    assert (order.status, order.failure) == ("failed", "Your card was declined.")
    assert (run.status, run.attempt, run.result) == (Status.SUCCEEDED, 1, '"failed"')
