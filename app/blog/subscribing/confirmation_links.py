"""The signed links by which an address confirms a subscription.

Nothing is stored. A link is valid for EMAIL_LINK_TIMEOUT, and until its address unsubscribes: an old link does not
undo that. Using it twice is no error.
"""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.core import signing
from django.db.models import Q

from app.blog.models import Subscription

SALT = "app.blog.confirmation"
LONGEST = 500


class BadLink(Exception):
    """The link is not ours, has expired, or its address has unsubscribed. The exception does not say which."""


def confirmation_token(subscription: Subscription) -> str:
    """Return the part of a link that confirms the subscription, as the address asked for it at ``asked_at``."""
    assert subscription.asked_at is not None
    return signing.dumps({"subscription": subscription.pk, "asked": subscription.asked_at.isoformat()}, salt=SALT)


def confirmation_read(token: str) -> Subscription:
    """Return the subscription that a link confirms, with author and subscriber. Raises BadLink."""
    try:
        claims = signing.loads(token[: LONGEST + 1], salt=SALT, max_age=settings.EMAIL_LINK_TIMEOUT)
    except (signing.BadSignature, ValueError) as error:
        raise BadLink from error
    is_later = Q(unsubscribed_at__isnull=True) | Q(unsubscribed_at__lt=datetime.fromisoformat(claims["asked"]))
    found = Subscription.objects.filter(is_later, pk=claims["subscription"], author__is_active=True)
    subscription = found.select_related("author", "subscriber").first()
    if subscription is None:
        raise BadLink
    return subscription
