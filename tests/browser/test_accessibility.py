"""Every page, wide and narrow, light and dark: nothing that axe finds, nothing inline, nothing to scroll sideways."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth import get_user_model
from django_celery_beat.models import PeriodicTask
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect

from app.accounts.links import EMAIL, RESET, link_token
from app.blog.models import Post, Subscription
from app.blog.subscribing.confirmation_links import confirmation_token
from app.blog.subscriptions import subscription_end
from app.http.error_pages import EXPIRED_FORM, TEXTS, error_page
from tests.browser.conftest import POLICY
from tests.browser.dataset import Dataset

pytestmark = pytest.mark.xdist_group("browser")

MODES = {f"{width} px {scheme}": (width, scheme) for width in (390, 1440) for scheme in ("light", "dark")}
# Two frames for what scripts do about a change, and then the end of what fades from one colour to another.
SETTLED = """async () => {
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
    const ends = (animation) => Number.isFinite(animation.effect?.getComputedTiming().endTime);
    await Promise.allSettled(document.getAnimations().filter(ends).map((animation) => animation.finished));
}"""
DOCUMENTS = ("/api/docs/", "/api/redoc/")
# Widgets of Django's own admin style what they make as they make it.
ADMIN_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
# ReDoc asks its maker's CDN for a logo, which no setting of it turns off. The policy says no, and the browser says so.
REDOC_LOGO = re.compile(r"Loading the image 'https://cdn\.redoc\.ly/redoc/logo-mini\.svg' violates")


def _post(dataset: Dataset) -> str:
    return Post.objects.filter(status="published").latest("pk").get_absolute_url()


def _of(email: str) -> Subscription:
    return Subscription.objects.select_related("subscriber").get(subscriber__email=email)


def _asked() -> str:
    subscription = _of("reader-2@example.com")
    subscription.asked_at = subscription.created_at
    return confirmation_token(subscription)


def _admin_of(model: str, pk: int, page: str = "change") -> str:
    return f"/admin/{model}/{pk}/{page}/"


PAGES: dict[str, str | Callable[[Dataset], str]] = {
    "home": "/",
    "post": _post,
    "authors": "/authors/",
    "author": "/authors/root/",
    "subscribe": "/authors/root/subscribe/",
    "asked to confirm": "/subscribe/done/",
    "confirm": lambda dataset: f"/subscribe/confirm/{_asked()}/",
    "a link to confirm that is not valid": "/subscribe/confirm/nonsense/",
    "unsubscribe": lambda dataset: f"/unsubscribe/{_of('reader-1@example.com').token}/",
    "unsubscribed": lambda dataset: f"/unsubscribe/{_of('reader-0@example.com').token}/",
    "unsubscribe from all": lambda dataset: f"/unsubscribe/{_of('reader-1@example.com').subscriber.token}/",
    "a link to unsubscribe that is not valid": "/unsubscribe/nonsense/",
    "subscriptions in the admin": "/admin/blog/subscription/",
    "a subscription in the admin": lambda dataset: _admin_of("blog/subscription", _of("reader-1@example.com").pk),
    "not found": "/nowhere/",
    "Swagger UI": "/api/docs/",
    "ReDoc": "/api/redoc/",
    "admin": "/admin/",
    "admin of an app": "/admin/blog/",
    "posts in the admin": "/admin/blog/post/",
    "new post in the admin": "/admin/blog/post/add/",
    "a post in the admin": lambda dataset: _admin_of("blog/post", Post.objects.latest("pk").pk),
    "its history": lambda dataset: _admin_of("blog/post", Post.objects.latest("pk").pk, "history"),
    "its end": lambda dataset: _admin_of("blog/post", Post.objects.latest("pk").pk, "delete"),
    "users in the admin": "/admin/accounts/user/",
    "a user in the admin": lambda dataset: _admin_of("accounts/user", dataset.root.pk),
    "a user's password in the admin": lambda dataset: _admin_of("accounts/user", dataset.root.pk, "password"),
    "own password in the admin": "/admin/password_change/",
    "a schedule in the admin": lambda dataset: _admin_of(
        "django_celery_beat/periodictask", PeriodicTask.objects.latest("pk").pk
    ),
    "operations": "/admin/operations/",
    "tasks": "/admin/operations/tasks/",
    "a search that is wrong": "/admin/operations/tasks/?since=2030-01-02T00:00&until=2030-01-01T00:00",
    "task": lambda dataset: f"/admin/operations/tasks/{dataset.report.pk}/",
    "dead letters": "/admin/operations/dead-letters/",
    "workers": "/admin/operations/workers/",
    "schedules": "/admin/operations/schedules/",
}
# Found and not mended: Django's admin writes "Date:" and "Time:" beside the halves of a moment, in no label; and
# its SelectFilter2.js gives the tooltips of groups and permissions an aria-label that a span may not have.
FOUND = {"a user in the admin": {"aria-prohibited-attr", "label"}, "a schedule in the admin": {"label"}}
FOR_STRANGERS: dict[str, str | Callable[[Dataset], str]] = {
    "sign in": "/admin/login/",
    "forgotten password": "/account/password/",
    "new password": lambda dataset: f"/account/password/{link_token(RESET, dataset.root)}/",
    "confirmation of an address": lambda dataset: (
        f"/account/email/{link_token(EMAIL, dataset.root, email='root@example.org')}/"
    ),
    "a link that is not valid": "/account/password/nonsense/",
}
STATUSES = {
    "not found": 404, "a link that is not valid": 400, "a link to confirm that is not valid": 400,
    "a link to unsubscribe that is not valid": 404,
}  # fmt: skip


@pytest.fixture(scope="module")
def contexts(browser: Browser, dataset: Dataset, signed_in: Any) -> Iterator[dict[bool, BrowserContext]]:
    """By whether somebody is signed in."""
    subscription_end(token=_of("reader-0@example.com").token)
    get_user_model().objects.create_user("author", "author@example.com", is_staff=True)
    contexts = {}
    for known in (True, False):
        contexts[known] = browser.new_context(base_url=dataset.url, storage_state=signed_in if known else None)
        contexts[known].set_default_timeout(60_000)
    yield contexts
    for context in contexts.values():
        context.close()


@pytest.fixture
def page_in(contexts: dict[bool, BrowserContext]) -> Iterator[Callable[..., Page]]:
    """Opens a page in a mode, under a policy that allows nothing inline. What it complains of fails the test."""
    pages: list[Page] = []
    told: list[str] = []

    def open_page(path: str, mode: str, known: bool = True, status: int = 200) -> Page:
        page = contexts[known].new_page()
        pages.append(page)
        page.on("console", lambda message: told.append(f"{path}: {message.text}") if _is_complaint(message) else None)
        page.on("pageerror", lambda error: told.append(f"{path}: {error}"))
        page.route(lambda url: "/static/" not in url and url.count("/api/schema") == 0, _strictly)
        set_mode(page, mode)
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == status
        page.wait_for_load_state("networkidle")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert [line for line in told if not REDOC_LOGO.search(line)] == []


def set_mode(page: Page, mode: str) -> None:
    width, scheme = MODES[mode]
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a Literal


def _is_complaint(message: Any) -> bool:
    # That a page is an error's is meant.
    return message.type in ("error", "warning") and "the server responded with a status of" not in message.text


def _strictly(route: Route, request: Request) -> None:
    """The answer with a policy that is stricter than the site's, but for the API's documents, which have their own."""
    if request.resource_type != "document" or any(path in request.url for path in DOCUMENTS):
        route.continue_()
        return
    answer = route.fetch(max_redirects=0)
    is_djangos = "/admin/" in request.url and "/admin/operations/" not in request.url
    policy = ADMIN_POLICY if is_djangos else POLICY
    route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": policy})


def complaints(page: Page, known: Collection[str] = ()) -> list[str]:
    """What axe finds by any of its rules but the known ones, and whether there is something to scroll sideways."""
    page.evaluate(SETTLED)
    results = Axe().run(page)
    found = {violation["id"] for violation in results.response["violations"]}
    width = page.evaluate("document.documentElement.scrollWidth")
    shown = page.viewport_size["width"]  # type: ignore[index]
    return [
        *([] if found <= set(known) else [results.generate_report()]),
        *([] if width <= shown else [f"{page.url} is {width} px wide on a screen of {shown} px"]),
    ]


def judge(page: Page, known: Collection[str] = ()) -> None:
    """The page as it stands, in every mode: loaded once, as a window is made wider and a scheme changed."""
    found = {}
    for mode in MODES:
        set_mode(page, mode)
        found[mode] = complaints(page, known)
    told = "\n".join(f"{mode}: {line}" for mode, lines in found.items() for line in lines)
    assert not told, told


def path_of(where: str | Callable[[Dataset], str], dataset: Dataset) -> str:
    return where if isinstance(where, str) else where(dataset)


# The API's documents hold thousands of elements: on a busy machine axe takes minutes for them.
LONG = pytest.mark.timeout(900)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG if path in DOCUMENTS else ()) for name, path in PAGES.items()]
)
def test_a_page(dataset: Dataset, page_in: Callable[..., Page], name: str) -> None:
    path = path_of(PAGES[name], dataset)
    page = page_in(path, next(iter(MODES)), status=STATUSES.get(name, 200))
    if path == "/api/docs/":
        # As it opens, and an operation unfolded.
        page.locator(".opblock-summary-control").first.wait_for()
        judge(page)
        page.locator(".opblock-summary-control").first.click()
        page.locator(".opblock-body .model-example").first.wait_for()
    elif path == "/api/redoc/":
        page.locator("h1").first.wait_for()
    judge(page, FOUND.get(name, ()))


@pytest.mark.parametrize("name", FOR_STRANGERS)
def test_a_strangers_page(dataset: Dataset, page_in: Callable[..., Page], name: str) -> None:
    path = path_of(FOR_STRANGERS[name], dataset)
    judge(page_in(path, next(iter(MODES)), known=False, status=STATUSES.get(name, 200)))


@pytest.mark.parametrize("status", [*TEXTS, "form"])
def test_an_error_page(contexts: dict[bool, BrowserContext], status: int | str) -> None:
    """As it is made, in the place of an answer: not every error can be had by asking."""
    made = error_page(403, EXPIRED_FORM) if status == "form" else error_page(int(status))
    page = contexts[False].new_page()
    page.route(
        "**/an-error/",
        lambda route: route.fulfill(
            status=made.status_code,
            body=made.content,
            headers={"content-type": made["Content-Type"], "content-security-policy": POLICY},
        ),
    )
    page.goto("/an-error/")
    judge(page)
    page.close()


class TestErrorsOfForms:
    """A form that is sent back stands where it stood."""

    @pytest.mark.parametrize("mode", MODES)
    def test_subscribing(self, page_in: Callable[..., Page], mode: str) -> None:
        page = page_in("/authors/root/subscribe/", mode, known=False)
        before = self.places(page, "h1, label, #id_email, main button, footer")
        page.locator("#id_email").evaluate("(field) => { field.form.noValidate = true; field.value = 'kim@'; }")
        page.get_by_role("main").get_by_role("button", name="Subscribe").click()
        expect(page.get_by_role("alert")).to_have_text("Enter a valid e-mail address.")
        expect(page.locator("#id_email")).to_have_accessible_description("Enter a valid e-mail address.")
        assert self.places(page, "h1, label, #id_email, main button, footer") == before
        assert complaints(page) == []
        page.locator("#id_email").fill(f"kim-{mode.replace(' ', '-')}@example.com")
        page.get_by_role("main").get_by_role("button", name="Subscribe").click()
        expect(page.get_by_role("heading", name="Check your mail")).to_be_visible()
        assert _of(f"kim-{mode.replace(' ', '-')}@example.com").confirmed_at is None

    @pytest.mark.parametrize("mode", MODES)
    def test_signing_in(self, page_in: Callable[..., Page], mode: str) -> None:
        page = page_in("/admin/login/", mode, known=False)
        before = self.places(page, "h1, label, #id_username, #id_password, [type=submit]")
        page.get_by_label("Username").fill("nobody")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.locator(".errornote")).to_be_visible()
        assert self.places(page, "h1, label, #id_username, #id_password, [type=submit]") == before
        assert complaints(page) == []

    @pytest.mark.parametrize("mode", MODES)
    def test_searching_tasks(self, page_in: Callable[..., Page], mode: str) -> None:
        page = page_in("/admin/operations/tasks/", mode)
        parts = "h1, .ops-search label, .ops-search input, .ops-search select, .ops-search [type=submit]"
        before = self.places(page, parts)
        page.get_by_label("From", exact=True).fill("2030-01-02T00:00")
        page.get_by_label("To", exact=True).fill("2030-01-01T00:00")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("alert")).to_contain_text("The end is not after the beginning.")
        assert self.places(page, parts) == before

    def places(self, page: Page, parts: str) -> list[Any]:
        return [part.bounding_box() for part in page.locator(parts).all()]
