"""Subscriptions of addresses to authors: asking, confirming, ending, and cleaning up.

Whatever changes a subscription locks its address first, so that two changes cannot deadlock. The lock leaves room for
the foreign keys of deliveries, so it holds up no mailing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Lower, Now
from django.urls import reverse
from django.utils import timezone

from app.blog.models import Delivery, Post, Subscriber, Subscription, audience
from app.blog.subscriptions.links import confirmation_read, confirmation_token
from app.http.rates import parse_rate
from app.mail.send import compose, send

BATCH = 1_000
LONGEST = 254
"""Characters of an address."""
ASKED_AGAIN_AFTER = timedelta(hours=24)
"""An address gets one mail in this time with a link to confirm the subscription to an author."""
UNCONFIRMED_FOR = timedelta(days=30)
"""After this time, an address that has never confirmed is deleted."""


def authors() -> QuerySet[Any]:
    """Return the users who have published a post. They have a page and can be subscribed to."""
    published = Post.objects.filter(author=OuterRef("pk"), status=Post.Status.PUBLISHED)
    return get_user_model().objects.filter(Exists(published), is_active=True)


def author_path(author: Any) -> str:
    """Return the path of an author's page."""
    return reverse("author", args=[author.get_username()])


def folded(email: str) -> str:
    """Return the form of an address in which it is stored. Raises Django's ValidationError if that form is too long."""
    email = email.lower()
    if len(email) > LONGEST:
        raise ValidationError(f"Ensure this field has no more than {LONGEST} characters.")
    return email


def address_find(email: str) -> QuerySet[Subscriber]:
    """Return the address, whatever its case, as a queryset of one row or none. An index finds it."""
    return Subscriber.objects.alias(folded=Lower("email")).filter(folded=Lower(Value(email)))


def subscription_ask(*, author: Any, email: str) -> tuple[int, datetime]:
    """Note that somebody asks for the subscription of an address. Call this in a transaction.

    Returns the id of the subscription and the time of this request, for ``confirmation_send``. Known and unknown
    addresses take the same statements, and so does an address that has been asked about too many authors: an error
    would tell that somebody has asked before.
    """
    email = folded(email)
    known = address_find(email).annotate(now=Now()).select_for_update(no_key=True)
    subscriber = None
    # Again if the address was deleted between the two statements.
    while subscriber is None:
        Subscriber.objects.bulk_create([Subscriber(email=email)], ignore_conflicts=True)
        subscriber = known.first()
    now: datetime = subscriber.now
    may_ask = _may_ask(subscriber, author, now)
    Subscription.objects.bulk_create([Subscription(author=author, subscriber=subscriber)], ignore_conflicts=True)
    subscription = Subscription.objects.filter(author=author, subscriber=subscriber)
    is_due = Q(asked_at__isnull=True) | Q(asked_at__lte=now - ASKED_AGAIN_AFTER)
    subscription.filter(is_due).update(asked_at=now if may_ask else F("asked_at"))
    return subscription.get().pk, now


def _may_ask(subscriber: Subscriber, author: Any, now: datetime) -> bool:
    """Return whether the address may get a mail about the author: it has not been asked about too many others."""
    count, seconds = parse_rate(settings.LIMITS["subscription_mail"])
    recent = subscriber.subscriptions.filter(asked_at__gt=now - timedelta(seconds=seconds))
    return recent.exclude(author=author).count() < count


def confirmation_send(*, subscription_id: int, asked_at: datetime) -> bool:
    """Mail the link that confirms the subscription asked for at ``asked_at``. Raises what ``app.mail.send.send`` does.

    Returns False without a mail if the address was asked less than 24 hours before, was asked about too many authors,
    has confirmed, or is gone.
    """
    asked = Subscription.objects.filter(pk=subscription_id, asked_at=asked_at, author__is_active=True)
    subscription = asked.select_related("author", "subscriber").first()
    if subscription is None or _counts(subscription):
        return False
    link = settings.SITE_URL + reverse("confirm-subscription", args=[confirmation_token(subscription)])
    context = {"author": subscription.author, "link": link, "site": settings.SITE_URL}
    key = f"confirmation-{subscription.pk}-{asked_at.timestamp():.0f}"
    send(compose(template="blog/confirmation", context=context, to=subscription.subscriber.email, key=key))
    return True


def _counts(subscription: Subscription) -> bool:
    return audience(subscription.author_id).filter(pk=subscription.pk).exists()


def subscription_confirm(*, token: str) -> Subscription:
    """Let the subscription of a link count, and its address be active again. Returns it. Raises BadLink."""
    with transaction.atomic():
        _lock(confirmation_read(token).subscriber_id)
        # Read again under the lock: the address may have unsubscribed meanwhile.
        subscription = confirmation_read(token)
        if not _counts(subscription):
            Subscription.objects.filter(pk=subscription.pk).update(confirmed_at=Now(), unsubscribed_at=None)
            _switch_on(subscription.subscriber_id)
        return subscription


def subscriptions_add(*, author: Any, emails: Iterable[str]) -> None:
    """Subscribe addresses whose owners have confirmed elsewhere, for an import or the demo data.

    An address that has a subscription to the author keeps it as it is, so nobody who left is subscribed again.
    """
    rest = (email.lower() for email in emails)
    while some := list(islice(rest, BATCH)):
        with transaction.atomic():
            Subscriber.objects.bulk_create([Subscriber(email=email) for email in some], ignore_conflicts=True)
            known = Subscriber.objects.annotate(folded=Lower("email")).filter(folded__in=some)
            Subscription.objects.bulk_create(
                [Subscription(author=author, subscriber=one, confirmed_at=Now()) for one in known],
                ignore_conflicts=True,
            )


def token_find(token: str) -> Subscription | Subscriber | None:
    """Return the subscription that a link's token ends, the address of which it ends all, or None."""
    subscription = Subscription.objects.filter(token=token).select_related("author", "subscriber").first()
    return subscription or Subscriber.objects.filter(token=token).first()


def subscription_end(*, token: str, everywhere: bool = False) -> bool:
    """End the subscription with this token, or all of its address: ``everywhere``, or if it is the address's token.

    Returns False if nothing has the token. Ending it twice is not an error. Links to confirm that were sent before are
    void.
    """
    with transaction.atomic():
        found = token_find(token)
        if found is None:
            return False
        subscriber = found.subscriber if isinstance(found, Subscription) else found
        _lock(subscriber.pk)
        ended = subscriber.subscriptions.all()
        if isinstance(found, Subscription) and not everywhere:
            ended = ended.filter(pk=found.pk)
        ended.update(unsubscribed_at=Now())
        return True


def subscription_resume(*, token: str) -> bool:
    """Let the subscription with this token count again. Returns False if it was never confirmed, or is gone.

    Whoever has the token reads the mail of the address, so this needs no other mail.
    """
    with transaction.atomic():
        found = Subscription.objects.filter(token=token).first()
        if found is None:
            return False
        _lock(found.subscriber_id)
        confirmed = Subscription.objects.filter(pk=found.pk, confirmed_at__isnull=False)
        return bool(confirmed.update(unsubscribed_at=None))


def _lock(subscriber_id: int) -> None:
    Subscriber.objects.select_for_update(no_key=True).filter(pk=subscriber_id).first()


def _switch_on(subscriber_id: int) -> None:
    Subscriber.objects.filter(pk=subscriber_id).update(active=True, switched_off="", refusals=0)


def addresses_delete(addresses: QuerySet[Subscriber], *, skip_locked: bool = False) -> None:
    """Delete addresses with their subscriptions and the records of their mails.

    Locks them first, against a mailing that is recording and against somebody who subscribes at this moment. With
    ``skip_locked``, leaves out those that another transaction has locked.
    """
    with transaction.atomic():
        locked = list(addresses.select_for_update(skip_locked=skip_locked).order_by("pk").values_list("pk", flat=True))
        # The conditions once more: something may have happened before the lock.
        addresses.filter(pk__in=locked).delete()


def unconfirmed_cleanup(*, after: int = 0, seconds: float) -> int | None:
    """Delete what nobody confirmed in 30 days: subscriptions, then addresses with an id above ``after`` without any.

    An address about which a post was mailed stays, because statistics count it. Works for about ``seconds`` in batches.
    Returns where to continue, or None at the end.
    """
    deadline = time.monotonic() + seconds
    old = timezone.now() - UNCONFIRMED_FOR
    pending = Subscription.objects.filter(confirmed_at__isnull=True, created_at__lt=old)
    pending = pending.filter(Q(asked_at__isnull=True) | Q(asked_at__lt=old)).order_by("created_at")
    while batch := list(pending.values_list("pk", "subscriber_id")[:BATCH]):
        with transaction.atomic():
            addresses = Subscriber.objects.filter(pk__in={address for _, address in batch})
            # Somebody asks again, or confirms, at this moment, whose address is locked.
            free = addresses.select_for_update(no_key=True, skip_locked=True).values_list("pk", flat=True)
            deleted = pending.filter(pk__in=[pk for pk, _ in batch], subscriber__in=list(free)).delete()[0]
        if not deleted or time.monotonic() >= deadline:
            return after
    unused = Subscriber.objects.filter(
        ~Exists(Subscription.objects.filter(subscriber=OuterRef("pk"))),
        ~Exists(Delivery.objects.filter(subscriber=OuterRef("pk"))),
        active=True, created_at__lt=old,
    )  # fmt: skip
    # By ranges of ids, so that a batch costs the same wherever the unused addresses are.
    last = Subscriber.objects.order_by("pk").values_list("pk", flat=True).last() or 0
    while after < last:
        addresses_delete(unused.filter(pk__gt=after, pk__lte=after + BATCH * 10), skip_locked=True)
        after += BATCH * 10
        if time.monotonic() >= deadline:
            return after
    return None
