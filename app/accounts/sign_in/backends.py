"""The authentication backend that limits sign-ins. Every sign-in, by a page or by the API, passes through it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from app.accounts.models import User
from app.accounts.sign_in.limits import Attempt


class LimitedBackend(ModelBackend):
    """Django's backend with a limit on the number of attempts."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        """Return the user or None. Raises rest_framework.exceptions.Throttled, even if the password is right."""
        name = username if username is not None else kwargs.get(User.USERNAME_FIELD)
        if name is None or password is None:
            return None
        attempt = Attempt(name, request)
        user = super().authenticate(request, username=name, password=password)
        if user is not None:
            attempt.succeeded(user)
        return user
