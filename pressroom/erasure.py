"""What the ledger does when an account is deleted: it keeps the runs without their owner, for operators."""

from __future__ import annotations

from typing import Any

from pressroom.models import EndedRun, IdempotencyKey, LiveRun


def erase(user: Any) -> None:
    """Remove the user as owner of all runs, and delete the user's idempotency keys. Call it in a transaction."""
    for runs in (LiveRun, EndedRun):
        runs.objects.filter(owner_id=user.pk).update(owner=None)
    IdempotencyKey.objects.filter(user_id=user.pk).delete()
