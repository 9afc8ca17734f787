"""The API's tokens: an access token that lives for minutes, and a refresh token that works once.

Both carry ``key``, the user's ``token_key()``, so that a new password ends them, and ``sid``, the sign-in they belong
to. If a spent refresh token is used again, somebody has stolen it, before or after it was spent, so its sign-in ends.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.utils.crypto import constant_time_compare
from rest_framework_simplejwt import tokens
from rest_framework_simplejwt.exceptions import InvalidToken, TokenError
from rest_framework_simplejwt.utils import datetime_from_epoch

from app.accounts.models import SignIn, User


class SpentToken(TokenError):
    """The refresh token has been used before."""

    def __init__(self, sign_in: Any) -> None:
        super().__init__("This refresh token has already been used. Sign in again.")
        self.sign_in = sign_in


class AccessToken(tokens.AccessToken):
    """simplejwt's access token with ``key``. If code creates it directly, it belongs to no sign-in."""

    @classmethod
    def for_user(cls, user: Any) -> Any:
        token = super().for_user(user)
        token["key"] = user.token_key()
        return token


class RefreshToken(tokens.RefreshToken):
    """simplejwt's refresh token. ``for_user`` starts a sign-in."""

    access_token_class = AccessToken

    @classmethod
    def for_user(cls, user: Any) -> Any:
        token = super().for_user(user)
        sign_in = SignIn.objects.create(user=user, expires_at=datetime_from_epoch(token["exp"]))
        token["key"], token["sid"] = user.token_key(), str(sign_in.pk)
        return token

    def check_blacklist(self) -> None:
        """Raises SpentToken if the token has been used."""
        try:
            super().check_blacklist()
        except TokenError as error:
            raise SpentToken(self.get("sid")) from error

    def spend(self) -> None:
        """Mark the token as used, in a transaction. Of concurrent callers one succeeds; the others get SpentToken."""
        found: Any = self.blacklist()  # The annotation names only the row, but this returns (row, created).
        if not found[1]:
            raise SpentToken(self.get("sid"))


def token_user(token: Any) -> User:
    """Return the user of a verified token. Raises InvalidToken if the token is no longer valid."""
    users = User.objects.filter(is_active=True)
    try:
        if "sid" in token:
            users = users.filter(sign_ins=token["sid"])
        user = users.filter(pk=token["user_id"]).first()
    except (KeyError, ValueError, TypeError, OverflowError, ValidationError) as error:
        raise InvalidToken("The token names no valid user.") from error
    if user is None or not constant_time_compare(str(token.get("key", "")), user.token_key()):
        raise InvalidToken("The token has been revoked. Sign in again.")
    return user


def sign_in_end(sign_in: Any) -> None:
    """End all tokens of a sign-in, given as the ``sid`` of a token."""
    try:
        SignIn.objects.filter(pk=sign_in).delete()
    except (ValidationError, ValueError, TypeError):
        return  # The token dates from before tokens had a ``sid``.
