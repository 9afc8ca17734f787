"""Fixtures for tests of the API."""

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.cache import cache
from rest_framework.test import APIClient

from app.accounts.models import User
from app.accounts.services import user_make_author
from app.observability.logs import logging_config


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    """No test sees what another has cached, nor another's outage."""
    cache._closed_until = 0.0
    cache.clear()


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    """The real hash takes a third of a second by design; what it is is Django's to test."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def static_files_when_asked_for(settings: Any) -> None:
    """Else the first request of each test's client looks at all of the admin's and of the documentation's."""
    settings.WHITENOISE_AUTOREFRESH = True


def permit(user: User, *permissions: str) -> User:
    """Give the user permissions, each by app and codename: "blog.change_post"."""
    for permission in permissions:
        app_label, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app_label, codename=codename))
    # The instance remembers those that it had.
    return User.objects.get(pk=user.pk)


@pytest.fixture
def author(db: None) -> User:
    user = User.objects.create_user("author", "author@example.com", "a-long-passphrase-1")
    user_make_author(user)
    return user


@pytest.fixture
def reader(db: None) -> User:
    return User.objects.create_user("reader", "reader@example.com", "a-long-passphrase-1")


@pytest.fixture
def anonymous() -> APIClient:
    return APIClient()


@pytest.fixture
def as_author(author: User) -> APIClient:
    return client_of(author)


@pytest.fixture
def as_reader(reader: User) -> APIClient:
    return client_of(reader)


def client_of(user: Any) -> APIClient:
    """A client that has logged in as anybody would."""
    client = APIClient()
    answer = client.post("/api/auth/login/", {"username": user.username, "password": "a-long-passphrase-1"})
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
    return client


@pytest.fixture
def lines() -> Iterator[Any]:
    """Logs as JSON, kept; called, it gives them."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    config = logging_config("json", "INFO")
    written = config["handlers"]["console"]["stream"] = io.StringIO()
    logging.config.dictConfig(config)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers[:] = handlers
