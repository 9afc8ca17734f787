"""Finding posts by their words: in Postgres, or in Meilisearch where MEILISEARCH_URL is set.

Postgres is always kept up to date as well: when Meilisearch does not answer, a search that ranks less well is better
than none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.db.models import F
from django.db.models.functions import Left

from app.blog.models import Post

logger = logging.getLogger(__name__)

# Of no language: Postgres has no Korean dictionary, and English stemming would only hurt Korean text.
CONFIG = "simple"
HITS = 200
"""Posts that a search finds at most, best first."""
INDEXED = 100_000
"""Characters of a body that Postgres searches: its index of a post ends at 1 MB, and compounds count twice."""
BATCH = 100
"""Posts indexed at a time."""
INDEX = "/indexes/posts"
DOCUMENTS = f"{INDEX}/documents"
SEARCH_TIMEOUT, WRITE_TIMEOUT = 1.0, 10.0
"""Seconds that a reader and a task wait for Meilisearch."""
PAUSE_AFTER_FAILURE = 5.0
"""Seconds in which readers do not wait for it again."""

_not_before = 0.0


class SearchUnavailable(Exception):
    """Meilisearch does not answer, or not as it should: try again later."""


def posts_find(words: str) -> list[int]:
    """Ids of published posts with these words, best first, HITS at most. Title counts more than body."""
    global _not_before  # noqa: PLW0603 - one circuit breaker per process
    if settings.MEILISEARCH_URL and time.monotonic() >= _not_before:
        try:
            found = _call(
                "POST", f"{INDEX}/search", SEARCH_TIMEOUT,
                {"q": words, "limit": HITS, "attributesToRetrieve": ["id"]},
            )  # fmt: skip
            return [int(hit["id"]) for hit in found["hits"]]
        except (SearchUnavailable, KeyError, TypeError, ValueError) as error:
            _not_before = time.monotonic() + PAUSE_AFTER_FAILURE
            logger.warning("Postgres searches for the next %s s: %s", PAUSE_AFTER_FAILURE, error)
    query = SearchQuery(words, search_type="websearch", config=CONFIG)
    return list(
        Post.objects.filter(status=Post.Status.PUBLISHED, search=query)
        .order_by(SearchRank(F("search"), query).desc(), "-pk")
        .values_list("pk", flat=True)[:HITS]
    )


def post_reindex(*, post_id: int) -> bool:
    """Bring the indexes up to date. Returns whether the post is in them: a draft or a deleted one is not.

    Raises SearchUnavailable.
    """
    while True:
        post = Post.objects.filter(pk=post_id, status=Post.Status.PUBLISHED).defer("search").first()
        _update_vectors([post_id])
        if not settings.MEILISEARCH_URL:
            return post is not None
        if post is None:
            _call("DELETE", f"{DOCUMENTS}/{post_id}", WRITE_TIMEOUT)
        else:
            _call("POST", f"{DOCUMENTS}?primaryKey=id", WRITE_TIMEOUT, [_document(post)])
        # Another change meanwhile may have been indexed before this one was: whoever is last looks again.
        now = Post.objects.filter(pk=post_id, status=Post.Status.PUBLISHED).values_list("updated_at", flat=True).first()
        if now == (post.updated_at if post else None):
            return post is not None


def posts_reindex(*, after: int, seconds: float, progress: Callable[[int, int], None]) -> int | None:
    """Index all published posts with ids above ``after``, for about ``seconds``. Returns where to go on, if anywhere.

    Calls ``progress(id, highest id)`` after each batch. Raises SearchUnavailable.
    """
    deadline = time.monotonic() + seconds
    if settings.MEILISEARCH_URL and not after:
        # The order of the attributes is their weight.
        kinds = {
            "searchableAttributes": ["title", "body"],
            "displayedAttributes": ["id"],
            "filterableAttributes": ["id"],
        }
        _call("PATCH", f"{INDEX}/settings", WRITE_TIMEOUT, kinds)
    highest = Post.objects.order_by("pk").values_list("pk", flat=True).last() or 0
    posts = Post.objects.order_by("pk").defer("search")
    while batch := list(posts.filter(pk__gt=after)[:BATCH]):
        _update_vectors([post.pk for post in batch])
        last = batch[-1].pk
        if settings.MEILISEARCH_URL:
            _replace([post for post in batch if post.status == Post.Status.PUBLISHED], f"id > {after} AND id <= {last}")
        after = last
        progress(after, max(after, highest))
        if time.monotonic() >= deadline:
            return after
    if settings.MEILISEARCH_URL:
        _replace([], f"id > {after}")
    return None


def _replace(posts: list[Post], ids: str) -> None:
    """Have Meilisearch know these posts, and no others of those ids."""
    kept = ", ".join(str(post.pk) for post in posts)
    _call("POST", f"{DOCUMENTS}/delete", WRITE_TIMEOUT, {"filter": f"{ids} AND id NOT IN [{kept}]"})
    if posts:
        _call("POST", f"{DOCUMENTS}?primaryKey=id", WRITE_TIMEOUT, [_document(post) for post in posts])


def _update_vectors(ids: list[int]) -> None:
    body = SearchVector(Left("body", INDEXED), weight="B", config=CONFIG)
    vector = SearchVector("title", weight="A", config=CONFIG) + body
    posts = Post.objects.filter(pk__in=ids)
    posts.filter(status=Post.Status.PUBLISHED).update(search=vector)
    posts.exclude(status=Post.Status.PUBLISHED).update(search=None)


def _document(post: Post) -> dict[str, Any]:
    return {"id": post.pk, "title": post.title, "body": post.body}


def _call(method: str, path: str, timeout: float, body: Any = None) -> Any:
    """Meilisearch's answer; a write is answered once it is stored there, to be done in order. Raises SearchUnavailable.

    https://www.meilisearch.com/docs/reference/api: written from it and tried on a server that speaks it, not on
    Meilisearch itself.
    """
    import httpx  # not before it is needed

    headers = {"Authorization": f"Bearer {settings.MEILISEARCH_KEY}"} if settings.MEILISEARCH_KEY else {}
    try:
        response = httpx.request(
            method, settings.MEILISEARCH_URL + path, json=body, headers=headers, timeout=httpx.Timeout(timeout)
        )
        response.raise_for_status()
        return response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise SearchUnavailable(f"Meilisearch: {error}") from error
