"""The site's pages without a browser: what they say of themselves."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client

from app.blog.models import Post, Subscription
from app.blog.subscriptions.links import confirmation_token
from app.blog.subscriptions.services import subscriptions_add

pytestmark = pytest.mark.django_db


class Page(HTMLParser):
    """The tags of a page, each with its attributes."""

    def __init__(self, client: Client, url: str, status: int = 200) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.answer = client.get(url)
        assert self.answer.status_code == status
        self.feed(self.answer.content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def meta(self) -> dict[str | None, str | None]:
        return {
            attrs.get("name") or attrs.get("property"): attrs["content"]
            for tag, attrs in self.tags
            if tag == "meta" and "content" in attrs
        }

    def links(self) -> dict[str | None, str | None]:
        return {attrs["rel"]: attrs["href"] for tag, attrs in self.tags if tag == "link"}


def pages(published: Post) -> list[str]:
    subscriptions_add(author=published.author, emails=["kim@example.com"])
    subscription = Subscription.objects.select_related("subscriber").get()
    subscription.asked_at = subscription.created_at
    return [
        "/", published.get_absolute_url(), "/authors/", "/authors/author/", "/authors/author/subscribe/",
        "/subscribe/done/", f"/subscribe/confirm/{confirmation_token(subscription)}/",
        f"/unsubscribe/{subscription.token}/", f"/unsubscribe/{subscription.subscriber.token}/", "/nowhere/",
    ]  # fmt: skip


def test_each_page_has_a_heading_an_icon_a_feed_and_nothing_inline(published: Post, client: Client) -> None:
    for url in pages(published):
        page = Page(client, url, 404 if url == "/nowhere/" else 200)
        names = [tag for tag, _ in page.tags]
        assert names.count("h1") == 1, url
        assert names.count("main") == 1, url
        assert page.links()["icon"] == "/static/site/favicon.ico"
        assert page.links()["alternate"] == "/feed/"
        assert ("a", {"href": "/sitemap.xml"}) in page.tags
        assert not {"style", "script"} & set(names), url
        assert not [attrs for _, attrs in page.tags if {name for name in attrs if name == "style" or name[:2] == "on"}]
        assert page.meta()["color-scheme"] == "light dark"


def test_a_post_says_what_it_is_about(published: Post, client: Client, settings: Any) -> None:
    settings.SITE_URL = "https://press.example.com"
    Post.objects.filter(pk=published.pk).update(title='"Q" <&> 내일', body="One\n\ntwo. " * 100)
    page = Page(client, published.get_absolute_url())
    address = f"https://press.example.com{published.get_absolute_url()}"
    meta = page.meta()
    assert page.links()["canonical"] == meta["og:url"] == address
    assert meta["og:title"] == '"Q" <&> 내일'
    assert meta["og:type"] == "article"
    assert meta["description"] == meta["og:description"]
    assert re.fullmatch(r"One two\. One.{,190}…", meta["description"] or "")
    assert "robots" not in meta


def test_a_draft_and_a_readers_own_pages_are_not_for_search_engines(draft: Post, client: Client) -> None:
    client.force_login(draft.author)
    for url in (draft.get_absolute_url(), "/subscribe/done/"):
        page = Page(client, url)
        assert page.meta()["robots"] == "noindex"
        assert "og:url" not in page.meta()


def test_robots_leave_out_what_is_nobodys_business_and_find_the_sitemap(client: Client, settings: Any) -> None:
    settings.SITE_URL = "https://press.example.com"
    answer = client.get("/robots.txt")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    lines = answer.content.decode().splitlines()
    assert lines[0] == "User-agent: *"
    assert {f"Disallow: /{path}/" for path in ("admin", "api", "subscribe", "unsubscribe")} <= set(lines)
    assert lines[-1] == "Sitemap: https://press.example.com/sitemap.xml"


def test_browsers_that_only_guess_find_the_icon(client: Client) -> None:
    assert client.get("/favicon.ico")["Location"] == "/static/site/favicon.ico"
    for name in ("favicon.ico", "favicon.svg", "site.css", "admin.css", "apidocs.css", "apidocs.js", "redoc.js"):
        assert client.get(f"/static/site/{name}").status_code == 200
