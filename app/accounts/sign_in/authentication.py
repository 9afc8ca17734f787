"""Who a bearer token stands for."""

from __future__ import annotations

from typing import Any

from drf_spectacular.contrib.rest_framework_simplejwt import SimpleJWTScheme
from rest_framework_simplejwt.authentication import JWTAuthentication

from app.accounts.sign_in.tokens import token_user


class BearerAuthentication(JWTAuthentication):
    """simplejwt's, and the token must not have ended: by a new password, signing out, or a stolen refresh token."""

    def get_user(self, validated_token: Any) -> Any:
        """Raises InvalidToken."""
        return token_user(validated_token)


class BearerScheme(SimpleJWTScheme):  # type: ignore[no-untyped-call]  # its metaclass has no types
    """For the OpenAPI description."""

    target_class = "app.accounts.sign_in.authentication.BearerAuthentication"
