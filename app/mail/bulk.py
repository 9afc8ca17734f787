"""One letter to many recipients: in batches if the provider supports them, else one by one over one connection.

The outcome of each batch is reported before the next one is sent, so that the caller can record it. If the process
dies, only one batch is in doubt. A mail that is sent again has the same Message-ID (SMTP, SendGrid) or the same key in
its X-Metadata (SES, which creates its own Message-IDs).
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from smtplib import SMTPException, SMTPSenderRefused
from typing import TYPE_CHECKING, Any, Literal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import sanitize_address
from django.core.validators import validate_email

from app.mail.kept_connections import MOST_MAILS, KeptConnection, kept_connection
from app.mail.send import (
    MailPutOff,
    MailRefused,
    MailUnavailable,
    message_id,
    no_answer_errors,
    rendered,
    rendered_line,
    send,
)  # fmt: skip
from app.mail.url import SENDGRID, SES

if TYPE_CHECKING:
    from anymail.exceptions import AnymailRequestsAPIError

ONE_CLICK = {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
"""RFC 8058: unsubscribe with one click, without a page."""
NONE_TAKEN = 20
"""Number of mails in a row that were not accepted after which the fault may be the server's, not the addresses'."""
LONGEST_STREAK = 45.0
"""Seconds without an accepted mail after which that is assumed too. A slow server must not use up a task's time."""
BATCH_SIZES = {SENDGRID: 1000, SES: 50}
"""Maximum batch size of the providers, by Django's EMAIL_BACKEND."""
READ_AHEAD = 25
"""Recipients read at a time if mails go out one by one. Who unsubscribes after that still gets the mail."""


SIMPLE = re.compile(
    r"(?=.{6,254}\Z)[a-z0-9_+-]{1,20}(?:\.[a-z0-9_+-]{1,20}){0,2}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,4}[a-z]{2,63}",
    re.ASCII | re.IGNORECASE,
)
"""Most addresses have this form and are valid. Only the others need the long checks."""


class NoneTaken(MailUnavailable):
    """NONE_TAKEN mails in a row, or those of LONGEST_STREAK, were not accepted. They were reported as put off."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient of the letter."""

    id: int
    """The caller's id of the recipient."""
    email: str
    key: str
    """Identifies this mail permanently."""
    unsubscribe: str
    """URL that ends the subscription when it is posted to."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one recipient's mail."""

    recipient: Recipient
    verdict: Literal["taken", "refused", "put off"]
    reason: str = ""
    """The server's reply, if it did not accept the mail."""
    by_name: bool = False
    """Whether the refusal is about this address itself, independent of the other mails."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail that is rendered once, with a mark in the place of each recipient's own link."""

    subject: str
    text: str
    html: str
    mark: str

    @classmethod
    def render(cls, template: str, context: dict[str, Any]) -> Letter:
        """Render ``<template>.subject.txt``, ``.txt`` and ``.html``, which get the link as ``unsubscribe``."""
        # The mark is random, so that the author of a post cannot guess it.
        mark = f"[[{secrets.token_hex(16)}]]"
        context = {**context, "unsubscribe": mark}
        subject = rendered_line(f"{template}.subject.txt", context)
        return cls(subject, rendered(f"{template}.txt", context), rendered(f"{template}.html", context), mark)


def batch_size() -> int:
    """Return how many mails go into one call of the provider, or how many recipients to read at a time by SMTP."""
    return BATCH_SIZES.get(settings.EMAIL_BACKEND, READ_AHEAD)


def send_letter(letter: Letter, batches: Iterable[list[Recipient]]) -> Generator[list[Outcome]]:
    """Send the letter to batches of ``batch_size()`` recipients. Yield outcomes as soon as they are known.

    Outcomes come in the order of the batches without gaps. A refusal counts as one only if the server has accepted the
    letter for somebody. Otherwise the fault may be the server's, and the outcome is "put off".

    Raises MailUnavailable if the server accepts no mail now. A recipient without an outcome got no mail, or may have
    got it if the connection broke. NoneTaken is the only such error that the addresses may have caused.
    """
    believed = False
    # Outcomes that are not reported yet: what they mean depends on whether the server accepts the next mails.
    streak: list[Outcome] = []
    since = time.monotonic()
    try:
        with closing(_sent(letter, batches)) as sent:
            for outcomes in sent:
                streak += outcomes
                if any(outcome.verdict == "taken" for outcome in outcomes):
                    believed = True
                    # Yield them together: a caller that stops here must know of every mail that was accepted.
                    yield streak
                    streak, since = [], time.monotonic()
                    continue
                doubtful = sum(not outcome.by_name for outcome in streak)
                if doubtful >= NONE_TAKEN or (doubtful and time.monotonic() - since >= LONGEST_STREAK):
                    yield [_in_doubt(outcome) for outcome in streak]
                    raise NoneTaken(f"Mails in a row that were not taken: {doubtful}. {streak[-1].reason}")
            if streak:
                # This includes short lists: retrying a dead address is cheap, losing a good one to a bad relay is not.
                yield streak if believed else [_in_doubt(outcome) for outcome in streak]
    except no_answer_errors() as error:
        raise MailUnavailable(str(error)) from error


def _in_doubt(outcome: Outcome) -> Outcome:
    return outcome if outcome.by_name else replace(outcome, verdict="put off")


def _sent(letter: Letter, batches: Iterable[list[Recipient]]) -> Generator[list[Outcome]]:
    """Yield the outcomes of all recipients in their order, as soon as they are known."""
    with kept_connection() as connection:
        if settings.EMAIL_BACKEND not in BATCH_SIZES:
            for batch in batches:
                for recipient in batch:
                    yield [_invalid(recipient) or _one(letter, recipient, connection)]
            return
        by_provider = _by_sendgrid if settings.EMAIL_BACKEND == SENDGRID else _by_ses
        for batch in batches:
            # One invalid address would make the provider refuse the whole batch.
            invalid = [outcome for outcome in map(_invalid, batch) if outcome]
            bad = {outcome.recipient.id for outcome in invalid}
            valid = [recipient for recipient in batch if recipient.id not in bad]
            outcomes = [*invalid, *by_provider(letter, valid, connection.backend)]
            known = {outcome.recipient.id: outcome for outcome in outcomes}
            yield [known[recipient.id] for recipient in batch]


def _invalid(recipient: Recipient) -> Outcome | None:
    """Return a refusal if the address is invalid, so that no server needs to be asked, else None."""
    if SIMPLE.fullmatch(recipient.email):
        return None
    try:
        validate_email(recipient.email)
        # A valid address may still have no form in DNS, because a label is too long or has a forbidden letter.
        sanitize_address(recipient.email, "utf-8")
    except ValidationError as error:
        return Outcome(recipient, "refused", " ".join(error.messages), by_name=True)
    except ValueError as error:
        return Outcome(recipient, "refused", str(error), by_name=True)
    # Django's pattern ignores case, so it accepts the few letters whose other case is ASCII, like "\u017f".
    if not recipient.email.rpartition("@")[0].isascii():
        return Outcome(recipient, "refused", "The part before the @ is not ASCII.", by_name=True)
    return None


def _one(letter: Letter, recipient: Recipient, connection: KeptConnection) -> Outcome:
    """Send a mail. If the server takes no more over this connection, send it over a new one."""
    message = EmailMultiAlternatives(
        letter.subject,
        letter.text.replace(letter.mark, recipient.unsubscribe),
        to=[recipient.email],
        headers=_own_headers(recipient) | ONE_CLICK | {"Message-ID": message_id(recipient.key)},
    )
    message.attach_alternative(letter.html.replace(letter.mark, recipient.unsubscribe), "text/html")
    if connection.mails >= MOST_MAILS:
        connection.close()
    try:
        _send_over(message, connection)
    except MailRefused as error:
        return Outcome(recipient, "refused", str(error))
    except MailPutOff as error:
        return Outcome(recipient, "put off", str(error))
    except MailUnavailable as error:
        # The reply came before the mail, so the mail is not in doubt.
        if not connection.mails or not isinstance(error.__cause__, SMTPSenderRefused):
            raise
        connection.close()
        return _one(letter, recipient, connection)
    return Outcome(recipient, "taken")


def _send_over(message: EmailMultiAlternatives, connection: KeptConnection) -> None:
    try:
        message.connection = connection.backend
    except (SMTPException, OSError) as error:
        raise MailUnavailable(str(error)) from error
    send(message)
    connection.mails += 1


def _own_headers(recipient: Recipient) -> dict[str, str]:
    return {"List-Unsubscribe": f"<{recipient.unsubscribe}>"}


def _ascii(email: str) -> str:
    """Return the address with its domain in DNS form, by which anymail finds the data of a recipient."""
    local, _, domain = email.rpartition("@")
    return email if domain.isascii() else f"{local}@{domain.encode('idna').decode()}"


# ---- SendGrid: POST /v3/mail/send, 1,000 personalizations a call -----------------------------------------------------


def _by_sendgrid(letter: Letter, people: list[Recipient], connection: BaseEmailBackend) -> list[Outcome]:
    """Send a batch. SendGrid accepts all mails of a call, or none and names the addresses to leave out."""
    from anymail.exceptions import AnymailRequestsAPIError

    outcomes: list[Outcome] = []
    while people:
        try:
            _post_to_sendgrid(letter, people, connection)
        except AnymailRequestsAPIError as error:
            refused = _named_by_sendgrid(error, len(people))
            if not refused:
                raise
            outcomes += [Outcome(people[place], "refused", why, by_name=True) for place, why in refused.items()]
            people = [recipient for place, recipient in enumerate(people) if place not in refused]
        else:
            return outcomes + [Outcome(recipient, "taken") for recipient in people]
    return outcomes


def _post_to_sendgrid(letter: Letter, people: list[Recipient], backend: Any) -> None:
    """Send one call. Anymail builds what all recipients share; its way to build their parts takes ten times as long."""
    message = EmailMultiAlternatives(letter.subject, letter.text, to=[_ascii(people[0].email)], headers=ONE_CLICK)
    message.attach_alternative(letter.html, "text/html")
    payload = backend.build_message_payload(message, backend.send_defaults)
    payload.data["personalizations"] = [
        {
            "to": [{"email": _ascii(recipient.email)}],
            "substitutions": {letter.mark: recipient.unsubscribe},
            "headers": _own_headers(recipient) | {"Message-ID": message_id(recipient.key)},
        }
        for recipient in people
    ]
    backend.post_to_esp(payload, message)


def _named_by_sendgrid(error: AnymailRequestsAPIError, count: int) -> dict[int, str]:
    """Return the places, below ``count``, of the recipients that the answer complains about, with its messages."""
    if error.status_code != 400:
        return {}
    try:
        complaints = error.response.json()["errors"]
        return {
            int(found[1]): str(complaint["message"])
            for complaint in complaints
            if (found := re.match(r"personalizations\.(\d+)\.to\b", str(complaint.get("field"))))
            and int(found[1]) < count
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


# ---- Amazon SES: SendBulkEmail of API v2, 50 entries a call ----------------------------------------------------------

SES_REFUSED = ("MESSAGE_REJECTED", "INVALID_PARAMETER")
"""Statuses that concern one mail. All others concern the account or are temporary."""


def _by_ses(letter: Letter, people: list[Recipient], connection: Any) -> list[Outcome]:
    if not people:
        return []
    # Uses anymail's client and settings, but not its message, which supports only templates stored at SES.
    answer = connection.client.send_bulk_email(
        FromEmailAddress=sanitize_address(settings.DEFAULT_FROM_EMAIL, "utf-8"),
        DefaultContent={
            "Template": {
                "TemplateContent": {
                    "Subject": _handlebars(letter.subject, letter.mark),
                    "Text": _handlebars(letter.text, letter.mark),
                    "Html": _handlebars(letter.html, letter.mark),
                },
                "TemplateData": "{}",
            }
        },
        BulkEmailEntries=[_ses_entry(recipient) for recipient in people],
    )
    return [
        _ses_outcome(recipient, result)
        for recipient, result in zip(people, answer["BulkEmailEntryResults"], strict=True)
    ]


def _handlebars(text: str, mark: str) -> str:
    """Escape braces, because SES reads templates as Handlebars and a post must not contain code."""
    return text.replace("{", "{{{brace}}}").replace(mark, "{{{unsubscribe}}}")


def _ses_entry(recipient: Recipient) -> dict[str, Any]:
    data = json.dumps({"unsubscribe": recipient.unsubscribe, "brace": "{"})
    headers = _own_headers(recipient) | ONE_CLICK | {"X-Metadata": json.dumps({"key": recipient.key})}
    return {
        "Destination": {"ToAddresses": [_ascii(recipient.email)]},
        "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": data}},
        "ReplacementHeaders": [{"Name": name, "Value": value} for name, value in headers.items()],
    }


def _ses_outcome(recipient: Recipient, result: dict[str, str]) -> Outcome:
    status = result["Status"]
    if status == "SUCCESS":
        return Outcome(recipient, "taken")
    reason = " ".join(filter(None, [status, result.get("Error")]))
    return Outcome(recipient, "refused" if status in SES_REFUSED else "put off", reason)
