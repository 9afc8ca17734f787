"""Deletion of an account. Each app that stores a user's data has an ``erasure.py`` with ``erase(user)``.

All of them run in one transaction, so the account and its data are deleted together or not at all.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import connection, transaction

from pressroom.plugins import parts

ADVISORY_LOCK = 0x65726173
"""The key of the lock that an erasure holds. Two accounts may own parts of each other, such as subscriptions."""


def erase(user: Any) -> None:
    """Delete the user's account and data. The order of the apps does not matter: each sees the original user.

    While another account is erased, this waits, in a request as long as for any other lock.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        for module in parts("erasure", ["pressroom", *settings.DOMAIN_APPS]):
            module.erase(user)
