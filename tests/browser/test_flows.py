"""What people do from beginning to end: publish, and get back into an account."""

from __future__ import annotations

import re
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from app.accounts.models import User
from app.blog import services
from app.blog.models import Notification, Post
from pressroom.models import TaskRun
from tests.browser.dataset import PASSWORD, Dataset
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("browser")


def test_a_post_is_published_from_the_admin(dataset: Dataset, opened: Callable[..., Page]) -> None:
    """The list's action does what the API's does: the post is there for all, and its tasks run."""
    post = services.post_create(author=dataset.root, title="Published from the admin", body="With a mouse.")
    page = opened("../blog/post/")
    page.get_by_role("row").filter(has_text=post.title).get_by_role("checkbox").check()
    page.locator("select[name=action]").select_option(label="Publish the selected posts")
    page.get_by_role("button", name=re.compile("^(Go|Run)$")).click()
    expect(page.get_by_text("1 post published.")).to_be_visible()
    post.refresh_from_db()
    assert post.status == Post.Status.PUBLISHED
    page.goto("/")
    page.get_by_role("link", name=post.title).click()
    expect(page.get_by_role("heading", name=post.title, level=1)).to_be_visible()
    until(lambda: Notification.objects.filter(post=post, told__gt=0).exists(), "the subscribers are told")
    follow = TaskRun.objects.filter(created_at__gte=post.created_at, owner=dataset.root).values_list("name", flat=True)
    assert {f"app.blog.tasks.{name}" for name in ("reindex_post", "invalidate_caches")} <= set(follow)


def test_a_forgotten_password_is_replaced_by_way_of_a_mail(dataset: Dataset, browser: Browser) -> None:
    """From the page that asks for the mail, by the link in it, to a sign-in with the new password."""
    user = User.objects.create_user("forgetful", "forgetful@example.com", PASSWORD, is_staff=True)
    page = browser.new_page(base_url=dataset.url)
    page.set_default_timeout(60_000)
    page.goto("/account/password/")
    page.get_by_label("E-mail address").fill(user.email)
    page.get_by_role("button", name="Send a link").click()
    expect(page.get_by_role("heading", name="Check your mail")).to_be_visible()

    found: list[str] = []

    def arrived() -> bool:
        folder = Path(settings.EMAIL_FILE_PATH)
        files = folder.iterdir() if folder.is_dir() else ()
        found[:] = [text for text in map(text_of, files) if "new password" in text]
        return bool(found)

    until(arrived, "the mail is there")
    [link] = re.findall(r"http://\S+(/account/password/[^/\s]+/)", found[0])
    page.goto(link)
    new = "another-long-passphrase-2"
    expect(page.get_by_role("heading", name=f"Set a new password for {user.username}")).to_be_visible()
    page.locator("[name=new_password1]").fill(new)
    page.locator("[name=new_password2]").fill(new)
    page.get_by_role("button", name="Set password").click()
    expect(page.get_by_role("heading", name="Your password is set")).to_be_visible()

    for password, heading in ((PASSWORD, "Log in"), (new, "Site administration")):
        page.goto("/admin/login/?next=/admin/")
        page.get_by_label("Username").fill(user.username)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    page.goto(link)
    expect(page.get_by_role("heading", name="This link is not valid")).to_be_visible()
    page.close()


def text_of(path: Path) -> str:
    """The plain text of a mail in a file, where it is to the forgetful one."""
    mail = message_from_bytes(path.read_bytes(), policy=policy.default)
    body = mail.get_body(("plain",))
    return body.get_content() if body is not None and "forgetful@" in mail["To"] else ""
