"""The public pages of posts: the newest ones, each one, feed and sitemap."""

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
from django.urls import reverse
from django.utils import timezone
from django.utils.text import Truncator
from django.views.decorators.http import require_safe

from app.blog import services
from app.blog.models import Post
from app.blog.subscribing.subscribe_form import SubscribeForm
from app.blog.subscriptions import author_path, authors
from app.blog.tasks import record_view
from app.http.permissions import may
from pressroom.text import carried

CACHED_FOR = 300
"""Maximum age of a cached feed or sitemap, in seconds."""


def published() -> QuerySet[Post]:
    return Post.objects.filter(status=Post.Status.PUBLISHED).defer("search").order_by("-published_at")


def for_all(path: str, heading: str, description: str = "", **context: Any) -> dict[str, Any]:
    """Return the context of a page that search engines and other sites may show: its URL and what it is about."""
    return {
        "canonical": settings.SITE_URL + path,
        "heading": heading,
        "description": description,
        "form": SubscribeForm(),
        **context,
    }


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The newest posts."""
    posts = list(published().select_related("author")[:20])
    writers = {post.author_id: post.author for post in posts if post.author.is_active}
    context = for_all(reverse("home"), "Pressroom", posts=posts, writers=list(writers.values()))
    return render(request, "blog/home.html", context)


@require_safe
def post_page(request: HttpRequest, slug: str) -> HttpResponse:
    """A published post. A draft is visible to its author and to users who may view drafts."""
    post = get_object_or_404(Post.objects.select_related("author").defer("search"), slug=slug)
    cover = post.cover
    if post.status != Post.Status.PUBLISHED:
        if request.user.pk != post.author_id and not may(request.user, "view", Post):
            raise Http404
        return render(request, "blog/post.html", {"post": post, "cover": cover})
    if request.method == "GET":
        record_view.delay(post.pk, timezone.now().isoformat())
    description = Truncator(" ".join(post.body.split())).chars(200)
    image = settings.SITE_URL + cover.largest if cover else ""
    context = for_all(post.get_absolute_url(), post.title, description, post=post, cover=cover, image=image)
    return render(request, "blog/post.html", context)


@require_safe
def robots(request: HttpRequest) -> HttpResponse:
    """Exclude private paths from search engines and point them to the sitemap."""
    closed = ("/admin/", "/api/", "/subscribe/", "/unsubscribe/")
    lines = [
        "User-agent: *",
        *(f"Disallow: {path}" for path in closed),
        "",
        f"Sitemap: {settings.SITE_URL}/sitemap.xml",
    ]
    return HttpResponse("\n".join(lines) + "\n", content_type="text/plain; charset=utf-8")


class PostFeed(Feed[Post, Any]):
    """RSS feed of the 20 newest posts. Links start with SITE_URL, because the feed is cached for all hosts."""

    title: Any = "Pressroom"
    description: Any = "New posts"
    link: Any = settings.SITE_URL + "/"
    feed_url: Any = settings.SITE_URL + "/feed/"

    def items(self, author: Any) -> QuerySet[Post]:
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


class AuthorSitemap(Sitemap[Any]):
    """The page of every author."""

    def items(self) -> QuerySet[Any]:
        return authors().order_by("username")

    def location(self, item: Any) -> str:
        return author_path(item)


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
        urls = [
            url for part in (PostSitemap(), AuthorSitemap()) for url in part.get_urls(site=site, protocol=ours.scheme)
        ]
        return render(request, "sitemap.xml", {"urlset": urls}).content

    return _cached(services.SITEMAP_KEY, "application/xml", make)
