"""The site's pages without a browser: what they say of themselves, and the form to subscribe."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client
from rest_framework.throttling import ScopedRateThrottle

from app.blog import services
from app.blog.models import Post, Subscriber

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
    token = Subscriber.objects.create(email="kim@example.com").token
    return ["/", published.get_absolute_url(), "/subscribe/", "/subscribe/done/", f"/unsubscribe/{token}/", "/nowhere/"]


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
    assert {"Disallow: /admin/", "Disallow: /api/", "Disallow: /unsubscribe/"} <= set(lines)
    assert lines[-1] == "Sitemap: https://press.example.com/sitemap.xml"


def test_browsers_that_only_guess_find_the_icon(client: Client) -> None:
    assert client.get("/favicon.ico")["Location"] == "/static/site/favicon.ico"
    for name in ("favicon.ico", "favicon.svg", "site.css", "admin.css", "apidocs.css", "apidocs.js", "redoc.js"):
        assert client.get(f"/static/site/{name}").status_code == 200


class TestSubscribing:
    def test_leads_to_a_page_that_can_be_loaded_again(self, client: Client) -> None:
        answer = client.post("/subscribe/", {"email": " Reader@Example.com "})
        assert (answer.status_code, answer["Location"]) == (302, "/subscribe/done/")
        assert Subscriber.objects.get().email == "reader@example.com"
        assert Subscriber.objects.get().active

    def test_does_not_tell_who_is_known(self, client: Client) -> None:
        services.subscription_start(email="reader@example.com")
        answers = [client.post("/subscribe/", {"email": email}) for email in ("reader@example.com", "new@example.com")]
        told = [{name: value for name, value in answer.items() if name != "X-Request-ID"} for answer in answers]
        assert told[0] == told[1]
        assert Subscriber.objects.count() == 2

    @pytest.mark.parametrize(
        "email",
        ["", " ", "kim", "kim@", "a@b.kr\x00", "a@b.kr\nBcc: x@y.kr", "\ud800@b.kr", "a" * 300 + "@b.kr", "a b@c.kr"],
    )
    def test_an_address_that_is_none_is_said_beside_the_field(self, client: Client, email: str) -> None:
        body = b"email=" + email.encode("utf-8", "surrogatepass")
        answer = client.post("/subscribe/", body, content_type="application/x-www-form-urlencoded")
        assert answer.status_code == 400
        page = answer.content.decode()
        assert 'aria-invalid="true"' in page
        assert re.search(r'<p id="email-note" class="note error" role="alert">[^<]+</p>', page)
        assert not Subscriber.objects.exists()

    def test_too_often_is_429_as_in_the_api(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ScopedRateThrottle, "THROTTLE_RATES", {"subscribe": "2/hour"})
        client.post("/api/subscriptions/", {"email": "a@b.kr"}, content_type="application/json")
        client.post("/subscribe/", {"email": "c@d.kr"})
        answer = client.post("/subscribe/", {"email": "e@f.kr"})
        assert answer.status_code == 429
        assert 0 < int(answer["Retry-After"]) <= 3600
        assert b"Too many subscriptions" in answer.content
        assert Subscriber.objects.count() == 2

    def test_works_without_redis(self, client: Client, redis_server: Any) -> None:
        redis_server.stop()
        assert client.post("/subscribe/", {"email": "a@b.kr"}).status_code == 302

    def test_another_sites_form_is_refused(self) -> None:
        answer = Client(enforce_csrf_checks=True).post("/subscribe/", {"email": "a@b.kr"})
        assert answer.status_code == 403
        assert b"The form has expired" in answer.content
        assert not Subscriber.objects.exists()
