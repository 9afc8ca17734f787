"""Bad requests for posts and subscriptions: each a 4xx problem document, none a 500, nothing stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from app.accounts.models import User
from app.accounts.services import user_make_author
from app.blog.models import Post, Subscriber, Subscription
from pressroom.models import IdempotencyKey, TaskRun
from tests.unit import test_bad_requests as others
from tests.unit.test_bad_requests import DEEP, check, send

pytestmark = pytest.mark.django_db

POSTS, SUBSCRIBE = "/api/posts/", "/api/subscriptions/"

# Method, address ({foreign}: another's draft), body, expected status; as a signed-in user.
SIGNED_IN: list[tuple[str, str, str, int]] = [
    ("POST", POSTS, "", 400),
    ("POST", POSTS, "{}", 400),
    ("POST", POSTS, "[]", 400),
    ("POST", POSTS, "1", 400),
    ("POST", POSTS, '"text"', 400),
    ("POST", POSTS, "{'title': 1}", 400),
    ("POST", POSTS, '{"title": "t"}', 400),
    ("POST", POSTS, '{"body": "b"}', 400),
    ("POST", POSTS, '{"title": "", "body": "b"}', 400),
    ("POST", POSTS, '{"title": "   ", "body": "b"}', 400),
    ("POST", POSTS, '{"title": null, "body": "b"}', 400),
    ("POST", POSTS, '{"title": ["t"], "body": "b"}', 400),
    ("POST", POSTS, '{"title": {"a": 1}, "body": "b"}', 400),
    ("POST", POSTS, '{"title": true, "body": "b"}', 400),
    ("POST", POSTS, '{"title": "nul\\u0000", "body": "b"}', 400),
    ("POST", POSTS, '{"title": "t", "body": "nul\\u0000"}', 400),
    ("POST", POSTS, '{"title": "half \\ud800", "body": "b"}', 400),
    ("POST", POSTS, json.dumps({"title": "t" * 201, "body": "b"}), 400),
    ("POST", POSTS, '{"title": NaN, "body": "b"}', 400),
    ("POST", POSTS, f'{{"title": "t", "body": {DEEP}}}', 400),
    ("POST", POSTS, json.dumps({"title": "t", "body": "b" * 10_000_000}), 413),
    ("PUT", POSTS, "{}", 405),
    ("PATCH", POSTS, "{}", 405),
    ("DELETE", POSTS, "", 405),
    ("GET", f"{POSTS}?cursor=x", "", 404),
    ("GET", f"{POSTS}?q=%00", "", 400),
    ("GET", "{foreign}", "", 404),
    ("PUT", "{foreign}", '{"title": "mine", "body": "b"}', 404),
    ("PATCH", "{foreign}", '{"title": "mine"}', 404),
    ("DELETE", "{foreign}", "", 404),
    ("POST", "{foreign}publish/", "", 404),
    ("GET", "{foreign}publish/", "", 405),
    ("POST", f"{POSTS}0/publish/", "", 404),
    ("POST", f"{POSTS}-1/publish/", "", 404),
    ("POST", f"{POSTS}9999999999999999999999/publish/", "", 404),
    ("POST", f"{POSTS}%00/publish/", "", 404),
    ("POST", f"{POSTS}1.5/publish/", "", 404),
]

ANONYMOUS: list[tuple[str, str, str, int]] = [
    ("POST", POSTS, '{"title": "t", "body": "b"}', 401),
    ("POST", SUBSCRIBE, "{}", 400),
    ("POST", SUBSCRIBE, '{"author": "author"}', 400),
    *(
        ("POST", SUBSCRIBE, f'{{"author": "author", "email": {email}}}', 400)
        for email in (
            '"x"',
            '"a@b.kr\\u0000"',
            '"\\ud800@b.kr"',
            '["a@b.kr"]',
            "null",
            f'"a@{"İ" * 60}.{"İ" * 60}.{"İ" * 60}.kr"',
        )
    ),
    *(
        ("POST", SUBSCRIBE, f'{{"email": "a@b.kr", "author": {author}}}', 400)
        for author in (
            '"nobody"',
            '"reader"',
            '"AUTHOR"',
            '""',
            "1",
            "null",
            '["author"]',
            '"\\u0000"',
            '"\\ud800"',
            f'"{"x" * 200}"',
        )
    ),
    ("GET", SUBSCRIBE, "", 401),
    ("GET", f"{SUBSCRIBE}count/", "", 401),
]


def counts() -> list[int]:
    return [model.objects.count() for model in (Post, Subscriber, Subscription, TaskRun, IdempotencyKey)]


@pytest.mark.parametrize(("method", "url", "text", "status"), SIGNED_IN, ids=lambda value: str(value)[:40])
def test_signed_in(author: User, reader: User, as_reader: Any, method: str, url: str, text: str, status: int) -> None:
    user_make_author(reader)
    draft = Post.objects.create(author=author, title="draft", slug="draft", body="b")
    as_reader.raise_request_exception = False
    before = counts()
    check(send(as_reader, method, url.replace("{foreign}", f"{POSTS}{draft.pk}/"), text), status)
    assert counts() == before


@pytest.mark.parametrize(("method", "url", "text", "status"), ANONYMOUS, ids=lambda value: str(value)[:40])
def test_anonymous(author: User, reader: User, method: str, url: str, text: str, status: int) -> None:
    Post.objects.create(author=author, title="t", slug="t", status=Post.Status.PUBLISHED)
    before = counts()
    check(send(Client(raise_request_exception=False), method, url, text), status)
    assert counts() == before


def test_there_are_sixty_of_them() -> None:
    all_of_them = [*SIGNED_IN, *ANONYMOUS, *others.SIGNED_IN, *others.ANONYMOUS, *others.forged()]
    assert len(all_of_them) >= 60
