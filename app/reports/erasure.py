"""Of a deleted account: its reports go, with their files."""

from __future__ import annotations

from typing import Any

from app.reports.models import Report, SummaryMail


def erase(user: Any) -> None:
    """Call it in a transaction."""
    Report.objects.filter(owner_id=user.pk).delete()
    SummaryMail.objects.filter(recipient_id=user.pk).delete()
