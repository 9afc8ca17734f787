"""The public pages of authors: all of them, each one with the form to subscribe, and each one's feed."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from app.blog.models import Post
from app.blog.pages import PostFeed, for_all, published
from app.blog.subscriptions import author_path, authors
from pressroom.text import carried, is_carried

POSTS, AUTHORS = 20, 50
"""Shown on a page."""


def author_or_404(username: str) -> Any:
    """Return the author of this name. Raises Http404, also for a user who has published nothing."""
    if not is_carried(username):
        raise Http404
    return get_object_or_404(authors(), username=username)


def page_of(rows: QuerySet[Any], size: int) -> tuple[list[Any], Any]:
    """Return one page, and its last row if there are more after it, else None."""
    found = list(rows[: size + 1])
    return found[:size], found[size - 1] if len(found) > size else None


@require_safe
def author_list(request: HttpRequest) -> HttpResponse:
    """All authors by name."""
    after = request.GET.get("after", "")
    if not is_carried(after):
        raise Http404
    known = authors().filter(username__gt=after).order_by("username")
    counted = known.annotate(published=Count("posts", filter=Q(posts__status=Post.Status.PUBLISHED)))
    found, last = page_of(counted, AUTHORS)
    context = for_all(reverse("authors"), "Authors", "Get an author's new posts by mail.", authors=found)
    if last:
        context["more"] = urlencode({"after": last.get_username()})
    return render(request, "blog/authors.html", context)


@require_safe
def author_page(request: HttpRequest, username: str) -> HttpResponse:
    """An author's posts, newest first, and the form to subscribe to them."""
    author = author_or_404(username)
    posts = published().filter(author=author).order_by("-published_at", "-pk")
    before = request.GET.get("before")
    if before is not None:
        if not (before.isascii() and before.isdigit() and len(before) <= 18):
            raise Http404
        edge = get_object_or_404(posts, pk=int(before))
        posts = posts.filter(Q(published_at__lt=edge.published_at) | Q(published_at=edge.published_at, pk__lt=edge.pk))
    found, last = page_of(posts, POSTS)
    name = author.get_username()
    context = for_all(author_path(author), name, f"Posts by {name}.", author=author, posts=found)
    if last:
        context["more"] = urlencode({"before": last.pk})
    return render(request, "blog/author.html", context)


class AuthorFeed(PostFeed):
    """RSS feed of an author's 20 newest posts."""

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return author_or_404(kwargs["username"])

    def title(self, author: Any) -> str:
        return f"{carried(author.get_username())} – Pressroom"

    def description(self, author: Any) -> str:
        return f"New posts by {carried(author.get_username())}"

    def link(self, author: Any) -> str:
        return f"{settings.SITE_URL}{author_path(author)}"

    def feed_url(self, author: Any) -> str:
        return f"{settings.SITE_URL}{reverse('author-feed', args=[author.get_username()])}"

    def items(self, author: Any) -> QuerySet[Post]:
        return published().filter(author=author).select_related("author")[:20]
