"""The mails about an account. Each function raises what ``app.mail.send.send`` does. ``key`` identifies a mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.urls import reverse

from app.accounts.links import EMAIL, RESET, link_token
from app.accounts.models import User
from app.mail.send import compose, send


def welcome_send(*, user: User, key: str) -> None:
    """Welcome a new user and ask them to confirm the address."""
    _send("welcome", to=user.email, key=key, user=user, link=_email_link(user, user.email))


def email_link_send(*, user: User, email: str, key: str) -> None:
    """Ask the reader of this address's mail to confirm that the address is the user's."""
    _send("email-link", to=email, key=key, user=user, email=email, link=_email_link(user, email))


def password_reset_send(*, users: Sequence[User], key: str) -> None:
    """Send one mail with a link per user to set a new password. All users must have the same address."""
    links = [(user.username, _link("password-reset-confirm", link_token(RESET, user))) for user in users]
    _send("password-reset", to=users[0].email, key=key, links=links)


def password_changed_send(*, user: User, key: str) -> None:
    """Notify the user that the password was changed."""
    _send("password-changed", to=user.email, key=key, user=user, link=_link("admin_password_reset"))


def email_changed_send(*, user: User, email: str, key: str) -> None:
    """Notify the user's former address that it no longer belongs to the account."""
    _send("email-changed", to=email, key=key, user=user)


def _email_link(user: User, email: str) -> str:
    return _link("email-confirm", link_token(EMAIL, user, email=email))


def _link(name: str, *arguments: str) -> str:
    return f"{settings.SITE_URL}{reverse(name, args=arguments)}"


def _send(kind: str, *, to: str, key: str, **context: Any) -> None:
    context["site"] = settings.SITE_URL
    send(compose(template=f"accounts/{kind}", context=context, to=to, key=f"{kind}-{key}"))
