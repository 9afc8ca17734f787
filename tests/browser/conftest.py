"""A real browser, Debian's chromium, on the operations pages of a real stack."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from tests.browser.dataset import PASSWORD, Dataset, make_dataset
from tests.support.processes import Stack

POLICY = "default-src 'none'; img-src 'self' data:; " + "; ".join(
    f"{what} 'self'" for what in ("script-src", "style-src", "connect-src", "form-action")
)
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def dataset(shared_stack: Stack) -> Dataset:
    """Furnished once for the module: its tests leave each other's runs alone."""
    return make_dataset(shared_stack)


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    """Chromium from the PATH: Playwright's own is not downloaded.

    No longer than its module, for as long as it is there no other test of the process can run an event loop.
    """
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium in the PATH: `apt-get install chromium` brings it")
    # Playwright runs an event loop in this thread; Django asks for this before it lets the ORM be used beside one.
    expect.set_options(timeout=60_000)
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        # As root it has no sandbox; and /dev/shm is small in a container.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()
        # To Django this is another context than that without a loop, with a connection of its own.
        connections.close_all()


@pytest.fixture(scope="module")
def signed_in(browser: Browser, dataset: Dataset) -> Any:
    """The cookies of somebody who has signed in at the admin's form."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{dataset.url}/admin/operations/")
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Operations").wait_for()
    state = context.storage_state()
    context.close()
    return state


def forbid_inline(route: Route) -> None:
    """Serve a page with a policy that allows nothing but the site's own files."""
    answer = route.fetch(max_redirects=0)
    route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": POLICY})


@pytest.fixture
def opened(browser: Browser, dataset: Dataset, signed_in: Any) -> Iterator[Callable[..., Page]]:
    """Opens a path below ``/admin/operations/``. What a page complains of on its console fails the test at its end."""
    contexts: list[BrowserContext] = []
    told: list[str] = []

    def open_page(path: str = "", **options: Any) -> Page:
        context = browser.new_context(storage_state=signed_in, base_url=dataset.url, **{"viewport": DESKTOP, **options})
        contexts.append(context)
        context.set_default_timeout(60_000)
        context.route(
            lambda url: "/admin/" in url,
            lambda route: forbid_inline(route) if route.request.resource_type == "document" else route.continue_(),
        )
        page = context.new_page()
        page.on(
            "console",
            lambda message: (
                told.append(f"{page.url}: {message.text}") if message.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: told.append(f"{page.url}: {error}"))
        page.goto(f"/admin/operations/{path}")
        return page

    open_page.told = told  # type: ignore[attr-defined]  # for a test that expects some
    yield open_page
    for context in contexts:
        context.close()
    assert told == []
