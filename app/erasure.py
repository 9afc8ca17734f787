"""The end of an account: each app that has something of a user's brings ``erasure.py``, with ``erase(user)``.

One transaction, so that an account is there with all that is its own, or gone with it.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction

from pressroom.plugins import parts


def erase(user: Any) -> None:
    """Remove the user's account and what belongs to it. The order does not matter: each sees the user as they were."""
    with transaction.atomic():
        for module in parts("erasure", ["pressroom", *settings.DOMAIN_APPS]):
            module.erase(user)
