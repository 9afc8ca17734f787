"""Who a bearer token stands for."""

from __future__ import annotations

from typing import Any

from drf_spectacular.contrib.rest_framework_simplejwt import SimpleJWTScheme
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import InvalidToken


class BearerAuthentication(JWTAuthentication):
    """simplejwt's; a claim that is no user's key is an invalid token, where theirs is an error of ours."""

    def get_user(self, validated_token: Any) -> Any:
        try:
            return super().get_user(validated_token)
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidToken("The token's user is none.") from error


class BearerScheme(SimpleJWTScheme):  # type: ignore[no-untyped-call]  # its metaclass has no types
    """For the OpenAPI description."""

    target_class = "app.accounts.authentication.BearerAuthentication"
