"""The signed links in mails. A link serves one purpose, expires, and is bound to the state of the account.

Nothing is stored. A link holds a digest of what its use changes, so it works once. If a link is used twice at the same
time, the second use waits for the lock on the user's row and then finds the row changed.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import signing
from django.utils.crypto import constant_time_compare, salted_hmac

from app.accounts.models import User

RESET, EMAIL = "password-reset", "email"
LONGEST = 2_000


class BadLink(Exception):
    """The link is not ours, has expired or has been used. The exception does not say which."""


def link_token(purpose: str, user: User, **claims: str) -> str:
    """Return the part of a link that allows ``purpose`` for the account in its current state."""
    return signing.dumps({"user": user.pk, "state": _state(user), **claims}, salt=f"app.accounts.{purpose}")


def link_read(purpose: str, token: str, *, lock: bool = False) -> tuple[User, dict[str, Any]]:
    """Return the user and the claims of a link. ``lock`` locks the user's row, in a transaction. Raises BadLink."""
    max_age = {RESET: settings.PASSWORD_RESET_TIMEOUT, EMAIL: settings.EMAIL_LINK_TIMEOUT}[purpose]
    try:
        claims = signing.loads(token[: LONGEST + 1], salt=f"app.accounts.{purpose}", max_age=max_age)
    except (signing.BadSignature, ValueError) as error:
        raise BadLink from error
    users = User.objects.filter(pk=claims["user"], is_active=True)
    user = (users.select_for_update() if lock else users).first()
    if user is None or not constant_time_compare(claims["state"], _state(user)):
        raise BadLink
    return user, claims


def _state(user: User) -> str:
    state = (user.password, user.email, str(user.email_verified_at), str(user.sign_in_epoch))
    return salted_hmac("app.accounts.links", "\0".join(state), algorithm="sha256").hexdigest()[:32]
