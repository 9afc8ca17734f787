"""Two who change one post at the same time, by the API and by the admin: nothing of either is lost, none is a 500."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog import changes, services
from app.blog.models import Post
from pressroom.models import TaskRun

pytestmark = pytest.mark.django_db
FOLLOWS = {f"app.blog.tasks.{name}" for name in ("reindex_post", "invalidate_caches")}


@pytest.fixture
def editor(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("editor", "editor@example.com", "x"))
    return client


def started() -> set[str]:
    return set(TaskRun.objects.values_list("name", flat=True))


def form(post: Post, **change: str) -> dict[str, Any]:
    return {"title": post.title, "slug": post.slug, "body": post.body, "author": post.author_id} | change


@pytest.mark.django_db(transaction=True)
def test_identical_titles_at_once_are_two_posts(author: User, as_author: APIClient) -> None:
    start = threading.Barrier(8)

    def write(_: int) -> int:
        start.wait(timeout=60)
        try:
            return int(as_author.post("/api/posts/", {"title": "One title", "body": "b"}).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(8))) == {201}
    assert Post.objects.values("slug").distinct().count() == 8


def test_a_slug_that_was_taken_a_moment_ago(author: User, monkeypatch: Any) -> None:
    """Between the look and the write."""
    services.post_create(author=author, title="News", body="b")
    looked = []

    class Blind:
        def __init__(self, **_: Any) -> None:
            looked.append(1)

        def exists(self) -> bool:
            # Free at the first look, taken after the write was refused, and free under another slug.
            return len(looked) == 2

    monkeypatch.setattr(Post.objects, "filter", Blind)
    assert services.post_create(author=author, title="News", body="b").slug.startswith("news-")


def test_what_is_not_the_slug_is_raised(author: User) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        services.post_create(author=author, title="Odd", body=None)  # type: ignore[arg-type]


@pytest.fixture
def published_meanwhile(monkeypatch: Any) -> None:
    """Another one publishes the post after the request has read it."""
    change = changes.post_change

    def after(*, post_id: int, fields: dict[str, Any]) -> Post:
        services.post_publish(post_id=post_id)
        return change(post_id=post_id, fields=fields)

    monkeypatch.setattr(changes, "post_change", after)


@pytest.mark.usefixtures("published_meanwhile")
def test_a_patch_does_not_unpublish(as_author: APIClient, draft: Post) -> None:
    answer = as_author.patch(f"/api/posts/{draft.pk}/", {"title": "Better"})
    assert (answer.status_code, answer.json()["title"], answer.json()["status"]) == (200, "Better", "published")
    draft.refresh_from_db()
    assert (draft.title, draft.status, draft.published_at is not None) == ("Better", "published", True)
    assert started() == FOLLOWS


@pytest.mark.usefixtures("published_meanwhile")
def test_nor_does_the_admin(editor: Client, draft: Post) -> None:
    url = reverse("admin:blog_post_change", args=[draft.pk])
    assert editor.post(url, form(draft, title="Better")).status_code == 302
    draft.refresh_from_db()
    assert (draft.title, draft.status, draft.published_at is not None) == ("Better", "published", True)
    assert started() == FOLLOWS


def test_the_admin_changes_what_its_form_has_changed_and_no_more(editor: Client, published: Post) -> None:
    Post.objects.filter(pk=published.pk).update(body="changed meanwhile")
    url = reverse("admin:blog_post_change", args=[published.pk])
    page = editor.get(url)
    assert page.status_code == 200
    assert editor.post(url, form(published, body="changed meanwhile", title="Better")).status_code == 302
    published.refresh_from_db()
    assert (published.title, published.body) == ("Better", "changed meanwhile")
    assert started() == FOLLOWS


def test_what_was_deleted_meanwhile_is_not_found(
    as_author: APIClient, editor: Client, draft: Post, monkeypatch: Any
) -> None:
    def gone(**_: Any) -> Any:
        raise Post.DoesNotExist

    for name in ("post_change", "post_publish"):
        monkeypatch.setattr(changes, name, gone)
    assert as_author.patch(f"/api/posts/{draft.pk}/", {"title": "Better"}).status_code == 404
    assert as_author.post(f"/api/posts/{draft.pk}/publish/").status_code == 404
    url = reverse("admin:blog_post_change", args=[draft.pk])
    assert editor.post(url, form(draft, title="Better")).status_code == 404


@pytest.mark.parametrize("by", ["page", "action"])
def test_the_admin_deletes_as_the_api_does(editor: Client, published: Post, by: str) -> None:
    if by == "page":
        editor.post(reverse("admin:blog_post_delete", args=[published.pk]), {"post": "yes"})
    else:
        chosen = {"action": "delete_selected", "_selected_action": published.pk, "post": "yes"}
        editor.post(reverse("admin:blog_post_changelist"), chosen)
    assert not Post.objects.exists()
    assert started() == FOLLOWS


def test_the_admin_publishes_once_and_records_it(editor: Client, draft: Post) -> None:
    for _ in range(2):
        chosen = {"action": "publish", "_selected_action": draft.pk}
        assert editor.post(reverse("admin:blog_post_changelist"), chosen).status_code == 302
    draft.refresh_from_db()
    assert draft.status == "published"
    assert TaskRun.objects.filter(name="app.blog.tasks.notify_subscribers").count() == 1
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["published"]
    assert TaskRun.objects.values_list("owner__username", flat=True).distinct().get() == "editor"


@pytest.mark.django_db(transaction=True)
def test_a_slug_taken_in_the_admin_at_the_same_time_is_a_conflict(author: User, monkeypatch: Any) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("editor", "editor@example.com", "x"))
    draft = services.post_create(author=author, title="News", body="b")
    # The form's own look finds nothing: the other one is not committed yet.
    monkeypatch.setattr(Post, "validate_unique", lambda self, exclude=None: None)
    answer = client.post(reverse("admin:blog_post_add"), form(draft))
    assert answer.status_code == 409
    assert Post.objects.count() == 1
