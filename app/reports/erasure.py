"""Erasure of a user's reports, with their files."""

from __future__ import annotations

from typing import Any

from app.reports.models import Report, SummaryMail


def erase(user: Any) -> None:
    """Delete the user's data. Call this in a transaction."""
    Report.objects.filter(owner_id=user.pk).delete()
    SummaryMail.objects.filter(recipient_id=user.pk).delete()
