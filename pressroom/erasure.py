"""Of a deleted account: its runs stay for operators, and are nobody's; its idempotency keys go."""

from __future__ import annotations

from typing import Any

from pressroom.models import IdempotencyKey, TaskRun


def erase(user: Any) -> None:
    """Call it in a transaction."""
    TaskRun.objects.filter(owner_id=user.pk).update(owner=None)
    IdempotencyKey.objects.filter(user_id=user.pk).delete()
