"""What is wrong with the accounts that there are, as ``manage.py check --database default`` and ``migrate`` say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.db import ProgrammingError, transaction

from app.accounts.models import User


def names_alike(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Users from before names were folded whose names read like another's. They sign in by the name as written."""
    if not databases:
        return []
    try:
        with transaction.atomic():
            alike = list(User.objects.filter(username_key=None).order_by("pk").values_list("pk", flat=True)[:20])
    except ProgrammingError:  # before the migration that makes the table, or the column
        return []
    if not alike:
        return []
    return [
        checks.Warning(
            f"Users whose name another user has in another case or form: {', '.join(map(str, alike))}.",
            hint="They keep it, and sign in by it as written. Rename one of each pair in the admin.",
            id="pressroom.W069",
        )
    ]
