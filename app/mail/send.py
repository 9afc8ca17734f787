"""Mail: composing and sending single mails, and a backend that writes each mail to a file."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from email.utils import parseaddr
from functools import cache
from pathlib import Path
from smtplib import SMTPDataError, SMTPRecipientsRefused
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage
from django.template.loader import render_to_string

from pressroom.text import carried

SERVICE_CLOSING = 421
"""The only reply to a recipient that concerns the whole server (RFC 5321, 3.8)."""


class MailUnavailable(Exception):
    """The server or provider accepts no mail now, or none from us. Try this mail and others later."""


class MailRefused(Exception):
    """The server refused this mail permanently. It may accept others."""


class MailPutOff(Exception):
    """The server refused this mail temporarily. It may accept others."""


def message_id(key: str) -> str:
    """Return the Message-ID of the mail with this ``key``, in the sender's domain."""
    return f"<{key}@{_domain(settings.DEFAULT_FROM_EMAIL)}>"


@cache
def _domain(sender: str) -> str:
    return parseaddr(sender)[1].rpartition("@")[2]


def rendered(template: str, context: dict[str, Any]) -> str:
    """Render a template. Replaces characters that a mail cannot carry, from text stored before they were refused."""
    return carried(render_to_string(template, context))


def rendered_line(template: str, context: dict[str, Any]) -> str:
    """Render a template to one line, as for a subject."""
    return " ".join(rendered(template, context).split())


def compose(
    *,
    template: str,
    context: dict[str, Any],
    to: str,
    key: str,
    headers: dict[str, str] | None = None,
    connection: BaseEmailBackend | None = None,
) -> EmailMultiAlternatives:
    """Compose a mail in text and HTML from ``<template>.subject.txt``, ``.txt`` and ``.html``.

    ``key`` becomes the Message-ID, by which mail programs recognize a mail that was sent twice. ``connection`` is an
    open connection to share.
    """
    message = EmailMultiAlternatives(
        subject=rendered_line(f"{template}.subject.txt", context),
        body=rendered(f"{template}.txt", context),
        to=[to],
        headers={"Message-ID": message_id(key), **(headers or {})},
        connection=connection,
    )
    message.attach_alternative(rendered(f"{template}.html", context), "text/html")
    return message


def send(message: EmailMessage) -> None:
    """Send a mail to one recipient. Raises MailUnavailable, MailPutOff or MailRefused with the server's reply."""
    try:
        message.send()
    except SMTPRecipientsRefused as error:
        [(code, text)] = error.recipients.values()
        raise _verdict(code, text) from error
    except SMTPDataError as error:
        raise _verdict(error.smtp_code, error.smtp_error) from error
    except no_answer_errors() as error:
        is_refusal = type(error).__name__ == "AnymailInvalidAddress"
        raise (MailRefused if is_refusal else MailUnavailable)(str(error)) from error


def no_answer_errors() -> tuple[type[Exception], ...]:
    """Return the classes of errors that mean that the mail server, or the provider, did not take a mail."""
    return (OSError, *provider_errors(settings.EMAIL_BACKEND))  # smtplib's errors are OSErrors


@cache
def provider_errors(backend: str) -> tuple[type[Exception], ...]:
    """Return the classes of errors that Django's mail backend of this name raises, beside those of SMTP and sockets."""
    if not backend.startswith("anymail."):
        return ()
    # Loads requests and botocore, which few processes need.
    from anymail.exceptions import AnymailError
    from botocore.exceptions import BotoCoreError, ClientError

    return AnymailError, BotoCoreError, ClientError


def _verdict(code: int, text: bytes | str) -> Exception:
    said = f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
    if code == SERVICE_CLOSING:
        return MailUnavailable(said)
    return MailRefused(said) if code >= 500 else MailPutOff(said)


class FileBackend(BaseEmailBackend):
    """Writes each mail to its own file in EMAIL_FILE_PATH, completely or not at all."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Write the mails. Returns how many were written. Raises OSError unless ``fail_silently``."""
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
