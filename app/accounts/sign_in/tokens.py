"""The API's tokens: an access token for minutes, a refresh token that is good for one refresh.

Both carry ``key``, the user's ``token_key()``, so that a new password ends them, and ``sid``, the sign-in that they
come from. A spent refresh token that comes again was stolen, before or after it was spent: its sign-in ends.
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
    """A refresh token that was used before."""

    def __init__(self, sign_in: Any) -> None:
        super().__init__("This refresh token was used before: sign in again.")
        self.sign_in = sign_in


class AccessToken(tokens.AccessToken):
    """simplejwt's, of no sign-in where it is made by hand."""

    @classmethod
    def for_user(cls, user: Any) -> Any:
        token = super().for_user(user)
        token["key"] = user.token_key()
        return token


class RefreshToken(tokens.RefreshToken):
    """simplejwt's; ``for_user`` begins a sign-in."""

    access_token_class = AccessToken

    @classmethod
    def for_user(cls, user: Any) -> Any:
        token = super().for_user(user)
        sign_in = SignIn.objects.create(user=user, expires_at=datetime_from_epoch(token["exp"]))
        token["key"], token["sid"] = user.token_key(), str(sign_in.pk)
        return token

    def check_blacklist(self) -> None:
        """Raises SpentToken."""
        try:
            super().check_blacklist()
        except TokenError as error:
            raise SpentToken(self.get("sid")) from error

    def spend(self) -> None:
        """Of all that try at once one succeeds. Raises SpentToken for the others; call it in a transaction."""
        found: Any = self.blacklist()  # annotated as the row alone
        if not found[1]:
            raise SpentToken(self.get("sid"))


def token_user(token: Any) -> User:
    """The user that a verified token stands for. Raises InvalidToken where it is good no more."""
    users = User.objects.filter(is_active=True)
    try:
        if "sid" in token:
            users = users.filter(sign_ins=token["sid"])
        user = users.filter(pk=token["user_id"]).first()
    except (KeyError, ValueError, TypeError, OverflowError, ValidationError) as error:
        raise InvalidToken("The token's user is none.") from error
    if user is None or not constant_time_compare(str(token.get("key", "")), user.token_key()):
        raise InvalidToken("The token has ended: sign in again.")
    return user


def sign_in_end(sign_in: Any) -> None:
    """End the tokens of a sign-in, given by a token's ``sid``."""
    try:
        SignIn.objects.filter(pk=sign_in).delete()
    except (ValidationError, ValueError, TypeError):
        return  # signed by us, but before tokens had one
