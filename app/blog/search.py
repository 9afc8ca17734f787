"""Full-text search of posts: in Postgres, or in Meilisearch if MEILISEARCH_URL is set.

The Postgres index is always kept up to date as well. It takes over when Meilisearch does not answer, with a less
precise ranking.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from django.conf import settings
from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.db.models import F
from django.db.models.functions import Left

from app.blog.models import Post
from pressroom.database.key_ranges import KeyRange, key_ranges

logger = logging.getLogger(__name__)

# Language-neutral: Postgres has no Korean dictionary, and English stemming would only distort Korean text.
CONFIG = "simple"
HITS = 200
"""Maximum number of posts that a search returns, best first."""
INDEXED = 100_000
"""Characters of a body that Postgres indexes. A post's index is limited to 1 MB, and compounds count twice."""
BATCH = 100
"""Posts indexed at a time."""
CHUNK, CHUNKS = 1_000, 50
"""Posts that one task indexes, and tasks that `reindex_all` calls at a time."""
INDEX = "/indexes/posts"
DOCUMENTS = f"{INDEX}/documents"
SEARCH_TIMEOUT, WRITE_TIMEOUT = 1.0, 10.0
"""Seconds that a reader and a task wait for Meilisearch, respectively."""
PAUSE_AFTER_FAILURE = 5.0
"""Seconds after a failure in which searches do not try Meilisearch."""

_not_before = 0.0


class SearchUnavailable(Exception):
    """Meilisearch did not answer, or answered with an error. Try again later."""


def posts_find(words: str) -> list[int]:
    """Return the ids of published posts that match, best first, at most HITS. The title weighs more than the body."""
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
            logger.warning("searching in Postgres for the next %s s: %s", PAUSE_AFTER_FAILURE, error)
    query = SearchQuery(words, search_type="websearch", config=CONFIG)
    return list(
        Post.objects.filter(status=Post.Status.PUBLISHED, search=query)
        .order_by(SearchRank(F("search"), query).desc(), "-pk")
        .values_list("pk", flat=True)[:HITS]
    )


def post_reindex(*, post_id: int) -> bool:
    """Update the indexes for a post. Returns whether the post is in them: drafts and deleted posts are not.

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
        # A concurrent change may have been indexed before this one, so check that this one indexed the last state.
        now = Post.objects.filter(pk=post_id, status=Post.Status.PUBLISHED).values_list("updated_at", flat=True).first()
        if now == (post.updated_at if post else None):
            return post is not None


def posts_cut(*, after: int) -> list[KeyRange]:
    """Return the next ranges of posts to index, beyond the id ``after``. Prepares the index if ``after`` is 0.

    Raises SearchUnavailable.
    """
    if settings.MEILISEARCH_URL and not after:
        # The order of the attributes sets their weight.
        kinds = {
            "searchableAttributes": ["title", "body"],
            "displayedAttributes": ["id"],
            "filterableAttributes": ["id"],
        }
        _call("PATCH", f"{INDEX}/settings", WRITE_TIMEOUT, kinds)
    return key_ranges(Post.objects.all(), "pk", after=after, size=CHUNK, most=CHUNKS)


def posts_reindex(*, after: int, last: int) -> None:
    """Index all published posts with ids above ``after`` and up to ``last``. No other post stays in this range.

    Raises SearchUnavailable.
    """
    posts = Post.objects.filter(pk__lte=last).order_by("pk").defer("search")
    while batch := list(posts.filter(pk__gt=after)[:BATCH]):
        _update_vectors([post.pk for post in batch])
        end = batch[-1].pk if len(batch) == BATCH else last
        if settings.MEILISEARCH_URL:
            _replace([post for post in batch if post.status == Post.Status.PUBLISHED], f"id > {after} AND id <= {end}")
        after = end


def highest_id() -> int:
    """Return the highest id of a post, or 0."""
    return Post.objects.order_by("pk").values_list("pk", flat=True).last() or 0


def posts_unindex(*, after: int) -> None:
    """Remove all posts with ids above ``after`` from Meilisearch. Raises SearchUnavailable."""
    if settings.MEILISEARCH_URL:
        _replace([], f"id > {after}")


def _replace(posts: list[Post], ids: str) -> None:
    """Make these posts the only ones in Meilisearch among the ids that match the filter ``ids``."""
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
    """Call Meilisearch and return its answer. Raises SearchUnavailable.

    Meilisearch answers a write once it has stored it in its queue, and processes writes in order. This client follows
    https://www.meilisearch.com/docs/reference/api and was tested against a server that implements that API, not
    against Meilisearch itself.
    """
    import httpx  # imported here because few processes need it

    headers = {"Authorization": f"Bearer {settings.MEILISEARCH_KEY}"} if settings.MEILISEARCH_KEY else {}
    try:
        response = httpx.request(
            method, settings.MEILISEARCH_URL + path, json=body, headers=headers, timeout=httpx.Timeout(timeout)
        )
        response.raise_for_status()
        return response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise SearchUnavailable(f"Meilisearch: {error}") from error
