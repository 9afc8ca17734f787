"""Search: by Postgres, and by a server on loopback that speaks as Meilisearch's documentation says.

No real Meilisearch was at hand. https://www.meilisearch.com/docs/reference/api: writes are answered with 202 and a task
that the server does later, in order; a search of an index that does not exist is 404.
"""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog import search, services
from app.blog.models import Post
from app.blog.tasks import reindex_all, reindex_post
from pressroom.models import Status, TaskRun
from tests.support.loopback import HANG, Asked, HttpServer, Reply, http_server
from tests.unit.blog.mailing import work_to_the_end

pytestmark = pytest.mark.django_db


def publish(author: User, title: str, body: str = "…") -> Post:
    post = services.post_create(author=author, title=title, body=body)
    services.post_publish(post_id=post.pk)
    return Post.objects.get(pk=post.pk)


def found(client: APIClient, words: str, **query: Any) -> list[int]:
    answer = client.get("/api/posts/", {"q": words, **query})
    assert answer.status_code == 200
    return [post["id"] for post in answer.json()["results"]]


class TestPostgres:
    def test_finds_what_is_indexed(self, published: Post, anonymous: APIClient) -> None:
        assert found(anonymous, "forgets") == []
        assert search.post_reindex(post_id=published.pk)
        assert found(anonymous, "forgets") == [published.pk]
        assert found(anonymous, "absent") == []
        assert anonymous.get("/api/posts/?q=%00").status_code == 400

    def test_best_first_and_the_title_counts_more(self, author: User, anonymous: APIClient) -> None:
        in_title = publish(author, "지진 소식")
        often = publish(author, "b", "지진 지진 지진 그리고 다른 것")
        once = publish(author, "c", "지진 하나, 그리고 많은 다른 것")
        publish(author, "d", "다른 것")
        reindex_all.apply()
        assert found(anonymous, "지진") == [in_title.pk, often.pk, once.pk]

    def test_pages_go_through_the_order(self, author: User, anonymous: APIClient) -> None:
        posts = [publish(author, f"{number}", "kimchi " * number) for number in range(1, 8)]
        reindex_all.apply()
        pages, url = [], "/api/posts/?q=kimchi&page_size=3"
        while url:
            answer = anonymous.get(url).json()
            pages.append([post["id"] for post in answer["results"]])
            url = answer["next"]
        assert pages == [[post.pk for post in reversed(posts)][at : at + 3] for at in (0, 3, 6)]

    @pytest.mark.parametrize("joint", [" ", "-"])
    def test_a_post_of_very_many_words(self, author: User, anonymous: APIClient, joint: str) -> None:
        """Postgres's index of a row ends at 1 MB."""
        words = [f"{chr(0xAC00 + n % 11_000)}{chr(0xAC00 + n // 11_000)}" for n in range(120_000)]
        pairs = [joint.join(pair) for pair in zip(words[::2], words[1::2], strict=True)]
        post = publish(author, "many", " ".join(pairs))
        reindex_all.apply(throw=True)
        assert search.post_reindex(post_id=post.pk)
        assert found(anonymous, f'"{words[0]}"') == found(anonymous, "many") == [post.pk]

    def test_the_index_is_used(self, author: User) -> None:
        Post.objects.bulk_create(
            Post(author=author, title=f"t{number}", slug=f"t{number}", body="…", status=Post.Status.PUBLISHED)
            for number in range(2000)
        )
        reindex_all.apply()
        with connection.cursor() as cursor:
            # What other tests left to be merged would count against the index.
            cursor.execute("SELECT gin_clean_pending_list('post_search')")
            cursor.execute("ANALYZE blog_post")
            cursor.execute("EXPLAIN SELECT id FROM blog_post WHERE search @@ websearch_to_tsquery('simple', 't7')")
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "post_search" in plan

    def test_a_post_that_is_no_longer_published_is_not_found(self, published: Post, anonymous: APIClient) -> None:
        search.post_reindex(post_id=published.pk)
        Post.objects.update(status=Post.Status.DRAFT)
        assert search.post_reindex(post_id=published.pk) is False
        Post.objects.update(status=Post.Status.PUBLISHED)
        assert found(anonymous, "forgets") == []

    @pytest.mark.django_db(transaction=True)
    def test_all_are_indexed_in_chunks(self, author: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "CHUNK", 2)
        monkeypatch.setattr(search, "CHUNKS", 2)
        with transaction.atomic():
            posts = [publish(author, f"t{number}") for number in range(7)]
        posts[2].delete()
        run = TaskRun.of(reindex_all.delay())
        work_to_the_end()
        assert TaskRun.objects.filter(name="app.blog.tasks.reindex_posts", status=Status.SUCCEEDED).count() == 3
        assert not Post.objects.filter(search=None).exists()
        first, last = TaskRun.objects.get(pk=run.pk), TaskRun.objects.filter(celery_id=run.celery_id).latest("pk")
        assert (first.status, last.status) == (Status.REPLACED, Status.SUCCEEDED)
        assert (first.progress_current, first.progress_total) == (posts[-1].pk, posts[-1].pk)


class Meilisearch:
    """Documents by id, as the documentation has them; only what ``app/blog/search.py`` may ask for."""

    def __init__(self) -> None:
        self.documents: dict[int, dict[str, Any]] = {}
        self.settings: dict[str, Any] = {}

    def answer(self, asked: Asked) -> Reply:
        path, _, query = asked.path.partition("?")
        if asked.headers.get("authorization") != "Bearer key":
            return Reply(403, {"message": "The provided API key is invalid.", "code": "invalid_api_key"})
        match asked.method, path:
            case "POST", "/indexes/posts/search":
                hits = [
                    {"id": key}
                    for field in self.settings.get("searchableAttributes", ["body", "title"])
                    for key, document in self.documents.items()
                    if asked.json["q"] in document[field]
                ]
                assert asked.json["attributesToRetrieve"] == ["id"]
                return Reply(200, {"hits": hits[: asked.json["limit"]], "query": asked.json["q"]})
            case "POST", "/indexes/posts/documents":
                assert query == "primaryKey=id"
                self.documents |= {document["id"]: document for document in asked.json}
            case "POST", "/indexes/posts/documents/delete":
                assert "id" in self.settings["filterableAttributes"]
                self.delete(asked.json["filter"])
            case "DELETE", _:
                self.documents.pop(int(path.removeprefix("/indexes/posts/documents/")), None)
            case "PATCH", "/indexes/posts/settings":
                self.settings |= asked.json
            case _:
                return Reply(404, {"message": "not found", "code": "not_found"})
        return Reply(202, {"taskUid": 1, "indexUid": "posts", "status": "enqueued"})

    def delete(self, wanted: str) -> None:
        parts = re.fullmatch(r"id > (\d+)(?: AND id <= (\d+))? AND id NOT IN \[([\d, ]*)\]", wanted)
        assert parts, wanted
        low, high, kept = int(parts[1]), int(parts[2] or 2**63), {int(n) for n in re.findall(r"\d+", parts[3])}
        self.documents = {n: d for n, d in self.documents.items() if not (low < n <= high) or n in kept}


class TestMeilisearch:
    @pytest.fixture
    def meilisearch(self) -> Meilisearch:
        return Meilisearch()

    @pytest.fixture
    def server(self, meilisearch: Meilisearch, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
        monkeypatch.setattr(search, "_not_before", 0.0)
        # Not to be met on a busy machine, but where a fault is a silence.
        monkeypatch.setattr(search, "SEARCH_TIMEOUT", 10.0)
        with http_server(meilisearch.answer) as server:
            settings.MEILISEARCH_URL, settings.MEILISEARCH_KEY = f"http://{server.address}", "key"
            yield server

    def test_finds_in_its_order(self, server: HttpServer, author: User, anonymous: APIClient) -> None:
        in_body, in_title = publish(author, "b", "지진"), publish(author, "지진")
        reindex_all.apply()
        assert found(anonymous, "지진") == [in_title.pk, in_body.pk]
        assert server.asked[-1].path == "/indexes/posts/search"

    def test_a_deleted_or_unpublished_post_leaves_it(
        self, server: HttpServer, meilisearch: Meilisearch, published: Post, as_author: APIClient
    ) -> None:
        assert reindex_post.apply(args=[published.pk]).get()
        assert set(meilisearch.documents) == {published.pk}
        Post.objects.update(status=Post.Status.DRAFT)
        assert not reindex_post.apply(args=[published.pk]).get()
        assert meilisearch.documents == {}
        Post.objects.update(status=Post.Status.PUBLISHED)
        assert reindex_post.apply(args=[published.pk]).get()
        assert as_author.delete(f"/api/posts/{published.pk}/").status_code == 204
        run = TaskRun.objects.get(name="app.blog.tasks.reindex_post")
        assert not reindex_post.apply(args=run.arguments[0]).get()
        assert meilisearch.documents == {}

    def test_reindexing_all_leaves_no_other(
        self, server: HttpServer, meilisearch: Meilisearch, author: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(search, "BATCH", 2)
        posts = [publish(author, f"t{number}") for number in range(5)]
        highest = posts[-1].pk
        meilisearch.documents = {n: {"id": n, "title": "", "body": ""} for n in range(max(1, highest - 9), highest + 9)}
        Post.objects.filter(pk=posts[1].pk).update(status=Post.Status.DRAFT)
        posts[2].delete()
        assert reindex_all.apply().successful()
        assert set(meilisearch.documents) == {posts[0].pk, posts[3].pk, posts[4].pk}

    def test_a_change_meanwhile_is_not_undone(
        self, server: HttpServer, meilisearch: Meilisearch, published: Post
    ) -> None:
        """Another task has indexed a newer text while ours was on its way with the old one."""
        ours = connection.cursor().connection

        def answer(asked: Asked) -> Reply:
            if not server.asked:
                ours.execute("UPDATE blog_post SET body = 'newer', updated_at = clock_timestamp()")
            return meilisearch.answer(asked)

        server.answer = answer
        search.post_reindex(post_id=published.pk)
        assert meilisearch.documents[published.pk]["body"] == "newer"

    @pytest.mark.parametrize(
        "fault", [Reply(500), Reply(403), Reply(200, ["?"]), HANG], ids=["500", "403", "nonsense", "hang"]
    )
    def test_when_it_fails_postgres_searches_and_it_is_left_alone_for_a_while(
        self,
        server: HttpServer,
        published: Post,
        anonymous: APIClient,
        monkeypatch: pytest.MonkeyPatch,
        fault: Reply,
    ) -> None:
        search.post_reindex(post_id=published.pk)
        server.answer = lambda asked: fault
        if fault is HANG:
            monkeypatch.setattr(search, "SEARCH_TIMEOUT", 0.3)
        monkeypatch.setattr(search, "PAUSE_AFTER_FAILURE", 600.0)
        before = len(server.asked)
        assert [found(anonymous, "forgets") for _ in range(3)] == [[published.pk]] * 3
        assert len(server.asked) == before + 1
        assert search._not_before > time.monotonic()

    def test_it_is_asked_again_after_the_pause(self, server: HttpServer, published: Post, anonymous: APIClient) -> None:
        reindex_all.apply()
        server.answer = lambda asked: Reply(500)
        found(anonymous, "forgets")
        search._not_before = 0.0
        asked = len(server.asked)
        found(anonymous, "forgets")
        assert len(server.asked) == asked + 1

    @pytest.mark.parametrize("fault", [Reply(500), Reply(403), HANG], ids=["500", "403", "hang"])
    def test_when_it_fails_indexing_is_to_be_tried_again(
        self, server: HttpServer, published: Post, monkeypatch: pytest.MonkeyPatch, fault: Reply
    ) -> None:
        server.answer = lambda asked: fault
        if fault is HANG:
            monkeypatch.setattr(search, "WRITE_TIMEOUT", 0.3)
        with pytest.raises(search.SearchUnavailable):
            search.post_reindex(post_id=published.pk)
        assert reindex_post.autoretry_for == reindex_all.autoretry_for == (search.SearchUnavailable,)
        assert Post.objects.filter(search__isnull=False).exists(), "Postgres knows it all the same"
