"""Options of tasks that send one mail."""

from __future__ import annotations

from typing import Any

from app.mail.send import MailPutOff, MailUnavailable

ONE_MAIL: dict[str, Any] = {
    "bind": True,
    "queue": "emails",
    "autoretry_for": (MailUnavailable, MailPutOff),
    "max_retries": 20,
    "retry_backoff": True,
    "retry_backoff_max": 600,
}
"""Options of each task that sends one mail. A task retries for about an hour."""
