"""The public pages: posts, feed, sitemap, subscribing and unsubscribing."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.contrib.sitemaps import Sitemap
from django.contrib.sites.requests import RequestSite
from django.contrib.syndication.views import Feed
from django.core.cache import cache
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.text import Truncator
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe
from rest_framework.throttling import ScopedRateThrottle

from app.blog import services
from app.blog.models import Post, Subscriber, Subscription
from app.blog.subscriptions import subscription_end
from app.blog.tasks import record_view
from app.http.permissions import may
from pressroom.text import carried

CACHED_FOR = 300
"""Maximum age of a cached feed or sitemap, in seconds."""


def published() -> QuerySet[Post]:
    return Post.objects.filter(status=Post.Status.PUBLISHED).defer("search").order_by("-published_at")


class SubscribeForm(forms.Form):
    """The address to send new posts to."""

    email = forms.EmailField(
        max_length=254,
        error_messages={"required": "Enter your e-mail address.", "invalid": "Enter a valid e-mail address."},
        widget=forms.EmailInput(attrs={"autocomplete": "email", "aria-describedby": "email-note"}),
    )


def _for_all(path: str, heading: str, description: str = "", **context: Any) -> dict[str, Any]:
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
    posts = published().select_related("author")[:20]
    return render(request, "blog/home.html", _for_all(reverse("home"), "Pressroom", posts=posts))


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
    context = _for_all(post.get_absolute_url(), post.title, description, post=post, cover=cover, image=image)
    return render(request, "blog/post.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def subscribe(request: HttpRequest) -> HttpResponse:
    """Show and process the subscription form.

    As in the API, requests are limited by client address, and the answer does not reveal whether an address is
    subscribed.
    """
    form = SubscribeForm(request.POST if request.method == "POST" else None)
    status, wait = 200, ""
    if form.is_bound:
        throttle = ScopedRateThrottle()
        if not throttle.allow_request(request, SimpleNamespace(throttle_scope="subscribe")):  # type: ignore[arg-type]
            form.add_error("email", "Too many subscriptions from your network. Try again later.")
            status, wait = 429, str(ceil(throttle.wait() or 60))
        elif form.is_valid():
            services.subscription_start(email=form.cleaned_data["email"])
            return redirect("subscribed")
        else:
            status = 400
    context = _for_all(reverse("subscribe"), "Subscribe to Pressroom", "Get new posts by mail.", form=form)
    response = render(request, "blog/subscribe.html", context, status=status)
    if wait:
        response["Retry-After"] = wait
    return response


@require_safe
def subscribed(request: HttpRequest) -> HttpResponse:
    """The page after subscribing. The form redirects here, so that a reload does not submit it again."""
    return render(request, "blog/subscribe.html", {"done": True})


@require_safe
def robots(request: HttpRequest) -> HttpResponse:
    """Exclude private paths from search engines and point them to the sitemap."""
    closed = ("/admin/", "/api/", "/unsubscribe/")
    lines = [
        "User-agent: *",
        *(f"Disallow: {path}" for path in closed),
        "",
        f"Sitemap: {settings.SITE_URL}/sitemap.xml",
    ]
    return HttpResponse("\n".join(lines) + "\n", content_type="text/plain; charset=utf-8")


class PostFeed(Feed[Post, Post]):
    """RSS feed of the 20 newest posts. Links start with SITE_URL, because the feed is cached for all hosts."""

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


@csrf_exempt  # Mail programs post here without a CSRF token (RFC 8058). The URL's token authorizes the request.
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """End the subscription on POST. A GET only asks, because mail scanners follow links."""
    if request.method == "POST":
        if not subscription_end(token=token):
            raise Http404
        return render(request, "blog/unsubscribe.html", {"done": True})
    subscription = Subscription.objects.filter(token=token).select_related("subscriber").first()
    if subscription is not None:
        subscriber, is_done = subscription.subscriber, subscription.unsubscribed_at is not None
    else:
        subscriber = get_object_or_404(Subscriber, token=token)
        is_done = not subscriber.subscriptions.filter(unsubscribed_at=None).exists()
    return render(request, "blog/unsubscribe.html", {"done": is_done, "subscriber": subscriber})
