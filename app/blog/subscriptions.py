"""Subscriptions of addresses to authors."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models.functions import Coalesce, Lower, Now

from app.blog.models import Subscriber, Subscription

BATCH = 1_000


def subscriptions_add(*, author: Any, emails: Iterable[str]) -> None:
    """Subscribe addresses whose owners have confirmed elsewhere, for an import or the demo data.

    An address that has a subscription to the author keeps it as it is, so nobody who left is subscribed again.
    """
    rest = (email.lower() for email in emails)
    while folded := list(islice(rest, BATCH)):
        with transaction.atomic():
            Subscriber.objects.bulk_create([Subscriber(email=email) for email in folded], ignore_conflicts=True)
            known = Subscriber.objects.annotate(folded=Lower("email")).filter(folded__in=folded)
            Subscription.objects.bulk_create(
                [Subscription(author=author, subscriber=one, confirmed_at=Now()) for one in known],
                ignore_conflicts=True,
            )


def subscription_end(*, token: str) -> bool:
    """End the subscription with this token, or all of the address with this token.

    Returns False if nothing has the token. Ending it twice is not an error.
    """
    ended = {"unsubscribed_at": Coalesce("unsubscribed_at", Now())}
    if Subscription.objects.filter(token=token).update(**ended):
        return True
    subscriber = Subscriber.objects.filter(token=token).first()
    if subscriber is None:
        return False
    subscriber.subscriptions.update(**ended)
    return True
