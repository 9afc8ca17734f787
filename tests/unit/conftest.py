"""Fixtures for tests of the API."""

from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from app.accounts.models import User


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    """No test sees what another has cached, nor another's outage."""
    cache._closed_until = 0.0
    cache.clear()


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    """The real hash takes a third of a second by design; what it is is Django's to test."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def author(db: None) -> User:
    return User.objects.create_user("author", "author@example.com", "a-long-passphrase-1")


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
