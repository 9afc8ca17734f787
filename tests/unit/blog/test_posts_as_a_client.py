"""Posts as a program reads and writes them: where they are, which ones, and not over somebody else's change."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog.models import Cover, Post
from app.blog.services import post_create, post_publish
from app.blog.tasks import resize_cover
from pressroom.enqueue.ownership import owned_by
from pressroom.models import TaskRun

pytestmark = pytest.mark.django_db

POSTS = "/api/posts/"
WRITTEN = {"title": "A title", "body": "A body."}


@pytest.fixture
def draft(author: User) -> Post:
    return post_create(author=author, **WRITTEN)


def url_of(post: Post) -> str:
    return f"{POSTS}{post.pk}/"


class TestWhere:
    def test_a_new_post_says_its_address_in_the_api(self, as_author: APIClient) -> None:
        made = as_author.post(POSTS, WRITTEN)
        assert made["Location"] == made.json()["self"]
        read = as_author.get(made["Location"])
        assert read.json() == made.json()
        assert read["ETag"] == made["ETag"]
        assert made.json()["url"].startswith("http://testserver/posts/")

    def test_a_repeat_with_its_key_makes_no_second_one(self, as_author: APIClient) -> None:
        first, again = (as_author.post(POSTS, WRITTEN, HTTP_IDEMPOTENCY_KEY="k") for _ in range(2))
        assert Post.objects.count() == 1
        assert again.content == first.content
        assert (again["Location"], again["ETag"]) == (first["Location"], first["ETag"])
        assert as_author.post(POSTS, WRITTEN | {"title": "x"}, HTTP_IDEMPOTENCY_KEY="k").status_code == 422

    def test_a_task_says_which_post_it_is_about(self, author: User, as_author: APIClient, draft: Post) -> None:
        started = as_author.post(f"{url_of(draft)}publish/").json()["tasks"]
        wanted = {"type": "post", "url": f"http://testserver{url_of(draft)}"}
        assert [task["about"] for task in started] == [wanted] * 3
        with owned_by(author):
            cover = Cover.objects.create(post=draft)
            run = TaskRun.of(resize_cover.delay(cover.pk))
        assert [task["about"] for task in as_author.get("/api/tasks/").json()["results"]] == [wanted] * 4
        cover.delete()
        assert as_author.get(f"/api/tasks/{run.pk}/").json()["about"] is None


class TestWhich:
    def test_drafts_are_found_by_status_and_are_ones_own(
        self, author: User, reader: User, as_author: APIClient, anonymous: APIClient, draft: Post
    ) -> None:
        foreign = post_create(author=reader, **WRITTEN)
        published = post_create(author=author, **WRITTEN)
        post_publish(post_id=published.pk)

        def found(client: APIClient, query: str) -> list[int]:
            answer = client.get(f"{POSTS}?{query}")
            assert answer.status_code == 200, answer.content
            return [post["id"] for post in answer.json()["results"]]

        assert found(as_author, "") == [published.pk, draft.pk]
        assert found(as_author, "status=draft") == [draft.pk]
        assert found(as_author, "status=published") == [published.pk]
        assert found(as_author, "author=author&status=draft") == [draft.pk]
        assert found(as_author, "author=reader") == []
        assert found(as_author, "status=draft&q=title") == []
        assert found(anonymous, "status=draft") == []
        assert foreign.pk not in found(as_author, "status=draft&page_size=100")

    @pytest.mark.parametrize("query", ["status=", "status=DRAFT", "status=deleted", "author=%00", "q=%00", "mine=1"])
    def test_what_is_no_filter_is_400(self, as_author: APIClient, query: str) -> None:
        assert as_author.get(f"{POSTS}?{query}").status_code == 400


class TestNotOverAnothersChange:
    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("patch", "", {"body": "mine"}, 200), ("put", "", WRITTEN, 200), ("delete", "", None, 204),
            ("post", "publish/", None, 200), ("delete", "cover/", None, 204),
        ],
    )  # fmt: skip
    def test_each_change_heeds_if_match(
        self, as_author: APIClient, draft: Post, method: str, path: str, body: Any, status: int
    ) -> None:
        etag = as_author.get(url_of(draft))["ETag"]
        Post.objects.filter(pk=draft.pk).update(title="Theirs")
        refused = getattr(as_author, method)(f"{url_of(draft)}{path}", body, HTTP_IF_MATCH=etag)
        assert (refused.status_code, refused["Content-Type"]) == (412, "application/problem+json")
        assert Post.objects.values_list("title", "body", "status").get() == ("Theirs", "A body.", "draft")
        now = as_author.get(url_of(draft))["ETag"]
        answer = getattr(as_author, method)(f"{url_of(draft)}{path}", body, HTTP_IF_MATCH=now)
        assert answer.status_code == status

    def test_a_change_names_the_state_that_it_made(self, as_author: APIClient, draft: Post) -> None:
        first = as_author.patch(url_of(draft), {"body": "2"})["ETag"]
        second = as_author.patch(url_of(draft), {"body": "3"}, HTTP_IF_MATCH=first)
        assert second.status_code == 200
        assert second["ETag"] == as_author.get(url_of(draft))["ETag"]
        assert as_author.get(url_of(draft), HTTP_IF_NONE_MATCH=second["ETag"]).status_code == 304

    def test_a_foreign_draft_is_not_found_nor_is_its_state(self, as_reader: APIClient, draft: Post) -> None:
        assert as_reader.patch(url_of(draft), {"body": "x"}, HTTP_IF_MATCH='"x"').status_code == 404


@pytest.mark.django_db(transaction=True)
def test_of_many_changes_of_one_state_at_once_one_is_made(author: User, as_author: APIClient) -> None:
    draft = post_create(author=author, **WRITTEN)
    etag = as_author.get(url_of(draft))["ETag"]
    start = threading.Barrier(4)

    def change(number: int) -> int:
        start.wait(timeout=60)
        try:
            return int(as_author.patch(url_of(draft), {"body": f"by {number}"}, HTTP_IF_MATCH=etag).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(change, range(4))) == [200, 412, 412, 412]


def test_a_mailing_that_has_not_begun_has_no_beginning_and_the_description_says_so(as_author: APIClient) -> None:
    post = as_author.post("/api/posts/", {"title": "News", "body": "b"}).json()
    assert as_author.post(f"/api/posts/{post['id']}/publish/").status_code == 200
    assert as_author.get(f"/api/posts/{post['id']}/notification/").json()["started_at"] is None
    schema = as_author.get("/api/schema/?format=json").json()["components"]["schemas"]["Notification"]
    assert schema["properties"]["started_at"]["type"] == ["string", "null"]
