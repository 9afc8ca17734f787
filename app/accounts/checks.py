"""The system check of existing accounts. ``manage.py check --database default`` and ``migrate`` run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.db import ProgrammingError, transaction

from app.accounts.models import User


def names_alike(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Warn about users whose name reads like another user's. Such names date from before names were folded.

    These users sign in by the name exactly as written.
    """
    if not databases:
        return []
    try:
        with transaction.atomic():
            alike = list(User.objects.filter(username_key=None).order_by("pk").values_list("pk", flat=True)[:20])
    except ProgrammingError:  # The migration that adds the table or the column has not run yet.
        return []
    if not alike:
        return []
    return [
        checks.Warning(
            f"These users have a name that another user has in another case or form: {', '.join(map(str, alike))}.",
            hint="They keep the name and sign in by it exactly as written. Rename one of each pair in the admin.",
            id="pressroom.W069",
        )
    ]
