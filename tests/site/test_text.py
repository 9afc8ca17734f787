"""What an outlet cannot carry is refused by every text field there is, and taken out of what was stored before."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest
from django import forms
from django.apps import apps
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.admin.sites import all_sites
from django.test import Client, RequestFactory
from django.utils.module_loading import import_string
from rest_framework import serializers
from rest_framework.test import APIClient

import app
import pressroom
from app.accounts.models import User
from app.blog.mailing import chunk, planner
from app.blog.models import NotificationChunk, Post
from app.blog.subscriptions.services import subscriptions_add
from app.http.text_fields import refused_in

NOT_CARRIED = [
    "\x00",
    "\x07",
    "\x1b[31m",
    "\x7f",
    "\x9b",
    "\ud800",
    "\udfff",
    "\ufffe",
    "\uffff",
    "\ufdd0",
    "\U0001fffe",
]
CARRIED = ["", "a\tb\r\nc", "큐 😀 ﷽", "e\u0301", "\u202e", "\u200d", "\ufffd", "\U0010fffd"]
OF_OURS = {"app", "pressroom"}
OURS = [
    name
    for package in (app, pressroom)
    for _, name, _ in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if ".migrations" not in name
]


@pytest.mark.parametrize("text", NOT_CARRIED)
def test_is_refused_with_its_name(text: str) -> None:
    assert refused_in(f"a{text}b") == f"U+{ord(text[0]):04X}"


@pytest.mark.parametrize("text", CARRIED)
def test_all_else_is_text(text: str) -> None:
    assert refused_in(text) == ""


def serializer_fields() -> Iterator[tuple[str, serializers.Field[Any, Any, Any, Any]]]:
    """Of each serializer of ours, and of those of libraries that views use, with those within them."""
    found = set()
    for name in OURS:
        if name.startswith("app.local"):
            continue
        for _, kind in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if issubclass(kind, serializers.Serializer):
                found.add(kind)
            serializer = getattr(kind, "serializer_class", None) or getattr(kind, "_serializer_class", None)
            if isinstance(serializer, str) and serializer:  # simplejwt's
                serializer = import_string(serializer)
            if inspect.isclass(serializer) and issubclass(serializer, serializers.Serializer):
                found.add(serializer)
    for kind in sorted(found, key=str):
        if (
            getattr(getattr(kind, "Meta", None), "model", ...) is None
            or kind.__module__ == "rest_framework.serializers"
        ):
            continue
        yield from fields_in(kind.__qualname__, kind())


def fields_in(path: str, serializer: Any) -> Iterator[tuple[str, Any]]:
    for name, field in serializer.fields.items():
        yield f"{path}.{name}", field
        if isinstance(field, serializers.BaseSerializer):
            yield from fields_in(f"{path}.{name}", getattr(field, "child", field))
        elif isinstance(getattr(field, "child", None), serializers.Field):
            yield f"{path}.{name}.child", field.child


def form_fields(rf: RequestFactory) -> Iterator[tuple[str, forms.Field]]:
    """Of each form of ours and of each page of the admin."""
    request = rf.get("/admin/")
    request.user = User(is_superuser=True, is_staff=True)
    for name in OURS:
        if not name.startswith("app.local"):
            for label, kind in inspect.getmembers(importlib.import_module(name), inspect.isclass):
                if issubclass(kind, forms.Form | forms.ModelForm) and kind.__module__.split(".")[0] in OF_OURS:
                    yield from ((f"{label}.{field}", one) for field, one in kind.base_fields.items())
    for site in all_sites:
        for login in (site.login_form or AdminAuthenticationForm, getattr(site, "password_change_form", None)):
            if login is not None:
                yield from ((f"{login.__name__}.{field}", one) for field, one in login.base_fields.items())
        for model, page in site._registry.items():
            writes = [(None, page.has_add_permission(request)), (model(), page.has_change_permission(request))]
            for obj in (one for one, is_written in writes if is_written):
                made = page.get_form(request, obj, change=obj is not None)
                yield from ((f"{model.__name__}.{field}", one) for field, one in made.base_fields.items())


def test_every_text_field_of_every_serializer_refuses_it() -> None:
    tried = []
    for path, field in serializer_fields():
        if isinstance(field, serializers.CharField) and not field.read_only:
            with pytest.raises(serializers.ValidationError):
                field.run_validation("a\x07b")
            tried.append(path)
    assert {"PostSerializer.title", "PostSerializer.body", "RegistrationSerializer.username"} <= set(tried)
    assert {"SubscriptionSerializer.email", "RunFilterSerializer.name"} <= set(tried)
    assert any(path.endswith(".refresh") for path in tried), "those of libraries, too"


@pytest.mark.django_db
def test_every_text_field_of_every_form_refuses_it(rf: RequestFactory) -> None:
    tried = []
    for path, field in form_fields(rf):
        if isinstance(field, forms.CharField):
            with pytest.raises(forms.ValidationError):
                field.clean("a\x07b")
            tried.append(path)
    assert {"Post.title", "Post.body", "Post.slug", "Subscriber.email", "User.username", "Group.name"} <= set(tried)
    assert {"PeriodicTask.name", "PeriodicTask.args", "SearchForm.text"} <= set(tried)


def test_no_field_of_a_model_takes_text_in_another_way() -> None:
    """An array or JSON would have its text checked by nobody: none of ours is open to a form or a serializer."""
    for model in apps.get_models():
        if model.__module__.split(".")[0] in OF_OURS:
            kinds = {type(field).__name__ for field in model._meta.get_fields() if getattr(field, "editable", False)}
            if kinds & {"JSONField", "ArrayField", "HStoreField"}:
                assert model.__name__ in ("Cover", "Worker", "IdempotencyKey", "BulkAction"), "which no form writes"


@pytest.mark.django_db
@pytest.mark.parametrize("text", NOT_CARRIED)
def test_a_post_with_it_is_refused_with_the_reason(as_author: APIClient, text: str) -> None:
    for field in ("title", "body"):
        body = {"title": "t", "body": "b"} | {field: f"a{text}b"}
        answer = as_author.generic("POST", "/api/posts/", json.dumps(body), content_type="application/json")
        assert answer.status_code == 400, answer.content
        if not 0xD800 <= ord(text[0]) <= 0xDFFF:  # of half a surrogate the parser tells
            assert answer.json()["errors"][0]["pointer"] == f"#/{field}"
            assert f"U+{ord(text[0]):04X}" in answer.json()["errors"][0]["detail"]
    assert not Post.objects.exists()


@pytest.fixture
def old(author: User) -> Post:
    """As it may stand in the database since before."""
    text = "".join(one for one in NOT_CARRIED if one[0] not in "\x00\ud800\udfff")
    User.objects.filter(pk=author.pk).update(username="kim\x07")
    return Post.objects.create(
        author=User.objects.get(pk=author.pk), title=f"News{text}", body=f"Body{text} {text}", slug="news",
        status="published", published_at="2026-01-02T03:04:05Z",
    )  # fmt: skip


@pytest.mark.django_db
def test_the_feed_and_the_sitemap_of_old_rows_are_xml(old: Post) -> None:
    for url in ("/feed/", "/sitemap.xml"):
        answer = Client().get(url)
        assert answer.status_code == 200
        ET.fromstring(answer.content)  # noqa: S314 - our own
    assert "\x07" not in Client().get("/feed/").content.decode()
    for url in ("/", "/posts/news/"):
        assert Client().get(url).status_code == 200


@pytest.mark.django_db
def test_mail_about_old_rows_carries_none_of_it(old: Post, mailoutbox: Any) -> None:
    subscriptions_add(author=old.author, emails=["reader@example.com"])
    planner.mailing_plan(post_id=old.pk, task="mailing", call=lambda first, last: "chunk")
    first = NotificationChunk.objects.get().first
    assert chunk.chunk_send(post_id=old.pk, first=first, task="chunk", seconds=60) is chunk.Left.NOTHING
    [mail] = mailoutbox
    for part in (mail.subject, mail.body, mail.alternatives[0][0]):
        assert "News" in part or "Body" in part
        assert refused_in(part.replace("\U0001fffe", "").replace("\ufdd0", "")) == ""
    mail.message().as_bytes()


def test_the_pdf_and_the_csv_of_old_rows_are_written() -> None:
    import io

    from app.reports.csvfile import write_csv
    from app.reports.pdf import fit
    from app.reports.sections import Column, Section

    out = io.BytesIO()
    section = Section(columns=[Column("Title", 1.0)], rows=[["a\x07\x1b[31mb"]])
    write_csv(out, titles=["Posts"], sections=[section])
    assert "\x07" not in out.getvalue().decode()
    assert "\x1b" not in out.getvalue().decode()
    assert fit("a\x07b", "Helvetica", 8, 100) == "a\ufffdb"
