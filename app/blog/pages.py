"""What readers see without an account: a post, the feed, the sitemap, the way out of a subscription."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.sitemaps import Sitemap
from django.contrib.sites.requests import RequestSite
from django.contrib.syndication.views import Feed
from django.core.cache import cache
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.text import Truncator
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from app.blog import services
from app.blog.models import Post, Subscriber
from app.blog.tasks import record_view
from app.permissions import may
from app.text import carried

CACHED_FOR = 300
"""Seconds that a rendered feed or sitemap lives at most."""


def published() -> QuerySet[Post]:
    return Post.objects.filter(status=Post.Status.PUBLISHED).defer("search").order_by("-published_at")


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The newest posts."""
    return render(request, "blog/home.html", {"posts": published().select_related("author")[:20]})


@require_safe
def post_page(request: HttpRequest, slug: str) -> HttpResponse:
    """A published post; a draft for its author, and for who may view drafts."""
    post = get_object_or_404(Post.objects.select_related("author").defer("search"), slug=slug)
    if (
        post.status != Post.Status.PUBLISHED
        and request.user.pk != post.author_id
        and not may(request.user, "view", Post)
    ):
        raise Http404
    if post.status == Post.Status.PUBLISHED and request.method == "GET":
        record_view.delay(post.pk, timezone.now().isoformat())
    return render(request, "blog/post.html", {"post": post})


class PostFeed(Feed[Post, Post]):
    """RSS of the 20 newest posts. Links are absolute, from SITE_URL: it is cached for all hosts."""

    title = "Pressroom"
    description = "New posts"
    link = settings.SITE_URL + "/"
    feed_url = settings.SITE_URL + "/feed/"

    def items(self) -> QuerySet[Post]:
        return published().select_related("author")[:20]

    def item_title(self, item: Post) -> str:
        return carried(item.title)

    def item_description(self, item: Post) -> str:
        return carried(Truncator(item.body).words(60))

    def item_link(self, item: Post) -> str:
        return f"{settings.SITE_URL}{item.get_absolute_url()}"

    def item_pubdate(self, item: Post) -> Any:
        return item.published_at

    def item_author_name(self, item: Post) -> str:
        return carried(item.author.get_username())


class PostSitemap(Sitemap[Post]):
    """Every published post."""

    def items(self) -> QuerySet[Post]:
        return published()

    def lastmod(self, item: Post) -> Any:
        return item.updated_at


def _cached(key: str, content_type: str, make: Callable[[], bytes]) -> HttpResponse:
    content = cache.get(key)
    if content is None:
        content = make()
        cache.set(key, content, CACHED_FOR)
    return HttpResponse(content, content_type=content_type)


@require_safe
def feed(request: HttpRequest) -> HttpResponse:
    """The RSS feed, cached."""
    return _cached(services.FEED_KEY, "application/rss+xml; charset=utf-8", lambda: PostFeed()(request).content)


@require_safe
def sitemap(request: HttpRequest) -> HttpResponse:
    """The sitemap, cached."""
    ours = urlsplit(settings.SITE_URL)
    site = RequestSite(request)
    site.domain = ours.netloc

    def make() -> bytes:
        urls = PostSitemap().get_urls(site=site, protocol=ours.scheme)
        return render(request, "sitemap.xml", {"urlset": urls}).content

    return _cached(services.SITEMAP_KEY, "application/xml", make)


@csrf_exempt  # a mail program posts here, RFC 8058; the token is the authority
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """POST ends the subscription; GET asks first, for mail scanners follow links."""
    if request.method == "POST":
        if not services.subscription_end(token=token):
            raise Http404
        return render(request, "blog/unsubscribe.html", {"done": True})
    subscriber = get_object_or_404(Subscriber, token=token)
    return render(request, "blog/unsubscribe.html", {"done": not subscriber.active, "subscriber": subscriber})
