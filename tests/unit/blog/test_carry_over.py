"""What becomes of the subscribers of a site from before subscriptions belonged to an author."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.db import connection
from django.test import Client

from app.accounts.models import User
from app.blog.models import Post, Subscriber, Subscription, audience

pytestmark = pytest.mark.django_db


def migrate() -> None:
    migration = import_module("app.blog.migrations.0007_subscribers_carried_over")
    migration.carry_over(None, SimpleNamespace(connection=connection))
    with connection.cursor() as cursor:
        cursor.execute(migration.SAY_WHY)


def test_each_active_one_is_subscribed_to_each_author_and_its_old_links_still_work(published: Post) -> None:
    drafter = User.objects.create_user("drafter", "drafter@example.com")
    Post.objects.create(author=drafter, title="t", slug="t")
    other = User.objects.create_user("other", "other@example.com")
    for slug in ("one", "two"):
        Post.objects.create(author=other, title="t", slug=slug, status=Post.Status.PUBLISHED)
    kim, lee = (Subscriber.objects.create(email=f"{name}@example.com") for name in ("kim", "lee"))
    gone = Subscriber.objects.create(email="gone@example.com", active=False)
    migrate()
    for author in (published.author, other):
        assert [one.subscriber for one in audience(author).order_by("pk")] == [kim, lee]
    assert not audience(drafter).exists()
    gone.refresh_from_db()
    assert gone.switched_off == "It unsubscribed."
    tokens = list(Subscription.objects.values_list("token", flat=True))
    assert len({*tokens}) == 4
    assert {len(token) for token in tokens} == {64}
    assert Client().post(f"/unsubscribe/{kim.token}/").status_code == 200
    assert [one.subscriber for one in [*audience(published.author), *audience(other)]] == [lee, lee]


def test_interrupted_it_goes_on_and_who_has_left_meanwhile_stays_away(
    published: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.blog.migrations.0007_subscribers_carried_over.BATCH", 2)
    kim, lee, max_ = (Subscriber.objects.create(email=f"{name}@example.com") for name in ("kim", "lee", "max"))
    migrate()
    Subscription.objects.filter(subscriber=lee).delete()
    assert Client().post(f"/unsubscribe/{kim.token}/").status_code == 200
    migrate()
    assert [one.subscriber for one in audience(published.author).order_by("subscriber")] == [lee, max_]
    assert Subscription.objects.count() == 3
