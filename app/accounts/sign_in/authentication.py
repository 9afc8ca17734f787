"""Authentication of API requests by bearer token."""

from __future__ import annotations

from typing import Any

from drf_spectacular.contrib.rest_framework_simplejwt import SimpleJWTScheme
from rest_framework_simplejwt.authentication import JWTAuthentication

from app.accounts.sign_in.tokens import token_user


class BearerAuthentication(JWTAuthentication):
    """simplejwt's authentication, which also refuses tokens that a new password, a sign-out or a theft has ended."""

    def get_user(self, validated_token: Any) -> Any:
        """Return the user of the token. Raises InvalidToken."""
        return token_user(validated_token)


class BearerScheme(SimpleJWTScheme):  # type: ignore[no-untyped-call]  # its metaclass has no types
    """Describes the authentication in the OpenAPI schema."""

    target_class = "app.accounts.sign_in.authentication.BearerAuthentication"
