"""Mail: composing one from templates, and the backend that writes one file a mail."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from email.utils import parseaddr
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage
from django.template.loader import render_to_string


def compose(
    *,
    template: str,
    context: dict[str, Any],
    to: str,
    key: str,
    headers: dict[str, str] | None = None,
    connection: BaseEmailBackend | None = None,
) -> EmailMultiAlternatives:
    """A mail in text and HTML from ``<template>.subject.txt``, ``.txt`` and ``.html``.

    ``key`` becomes the Message-ID: the same mail sent twice is known as one. ``connection`` is one to share.
    """
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    message = EmailMultiAlternatives(
        subject=" ".join(render_to_string(f"{template}.subject.txt", context).split()),
        body=render_to_string(f"{template}.txt", context),
        to=[to],
        headers={"Message-ID": f"<{key}@{domain}>", **(headers or {})},
        connection=connection,
    )
    message.attach_alternative(render_to_string(f"{template}.html", context), "text/html")
    return message


class FileBackend(BaseEmailBackend):
    """Writes each mail to a file of its own in EMAIL_FILE_PATH, whole or not at all."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Returns how many were written. Raises OSError unless ``fail_silently``."""
        folder = Path(settings.EMAIL_FILE_PATH)
        written = 0
        for message in email_messages:
            content = message.message()
            key = re.sub(r"[^\w.-]+", "_", content["Message-ID"].strip("<>"))
            path = folder / f"{time.time_ns()}-{key}.eml"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                unfinished = path.with_suffix(".part")
                unfinished.write_bytes(content.as_bytes())
                unfinished.rename(path)
            except OSError:
                if not self.fail_silently:
                    raise
                continue
            written += 1
        return written
