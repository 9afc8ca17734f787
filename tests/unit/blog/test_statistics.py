"""Readings are counted once, hold nobody up, and are told by period."""

import base64
import datetime
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog import services, statistics
from app.blog.models import DailyViews, Delivery, Post, Subscriber, View
from app.blog.subscriptions.services import subscriptions_add
from app.blog.tasks import record_view, roll_up_views
from pressroom.models import TaskRun
from tests.support.waiting import until


def at(day: int, hour: int = 12) -> datetime.datetime:
    """A moment of March 2026, in the time zone of the settings."""
    return datetime.datetime(2026, 3, day, hour, tzinfo=ZoneInfo(settings.TIME_ZONE))


def sent(redis_server: Any, *posts: Post) -> list[list[Any]]:
    """The arguments of readings of these posts that are on their way to be counted."""
    messages = [json.loads(message) for message in redis_server.client().lrange("default", 0, -1)]
    assert {message["headers"]["task"] for message in messages} <= {record_view.name}
    readings = [json.loads(base64.b64decode(message["body"]))[0] for message in reversed(messages)]
    ids = {post.pk for post in posts}
    return [reading for reading in readings if reading[0] in ids]


@pytest.mark.django_db(transaction=True)
class TestRecording:
    def test_reading_a_published_post_counts(self, published: Post, anonymous: APIClient, redis_server: Any) -> None:
        before = timezone.now()
        assert anonymous.get(f"/api/posts/{published.pk}/").status_code == 200
        assert anonymous.get(published.get_absolute_url()).status_code == 200
        until(lambda: len(sent(redis_server, published)) == 2, "both are sent")
        for _, moment in sent(redis_server, published):
            assert before <= datetime.datetime.fromisoformat(moment) <= timezone.now()
        assert not TaskRun.objects.exists()

    @pytest.mark.parametrize("fault", ["stopped", "hanging"])
    def test_without_redis_nobody_is_held_up(
        self, published: Post, anonymous: APIClient, redis_server: Any, fault: str
    ) -> None:
        if fault == "stopped":
            redis_server.stop()
        else:
            redis_server.pause(20_000)
        assert anonymous.get(f"/api/posts/{published.pk}/").status_code == 200
        assert anonymous.get(published.get_absolute_url()).status_code == 200
        if fault == "hanging":
            with pytest.raises(redis.TimeoutError):  # it hangs still: nobody has waited for it
                redis_server.client(socket_timeout=0.05).ping()

    def test_nothing_else_does(self, published: Post, author: User, as_author: APIClient, redis_server: Any) -> None:
        as_author.get("/api/posts/")
        as_author.head(published.get_absolute_url())
        as_author.head(f"/api/posts/{published.pk}/")
        draft = services.post_create(author=author, title="t", body="b")
        assert as_author.get(f"/api/posts/{draft.pk}/").status_code == 200
        assert as_author.get("/api/posts/404/").status_code == 404
        # Sent in order: after the last one nothing is on its way.
        as_author.get(f"/api/posts/{published.pk}/")
        until(lambda: sent(redis_server, published), "the last one is sent")
        assert len(sent(redis_server, published, draft)) == 1

    def test_the_task_notes_it(self, published: Post) -> None:
        record_view.apply(args=[published.pk, at(1).isoformat()])
        assert View.objects.get().at == at(1)
        with pytest.raises(ValueError, match="ISO 8601"):
            record_view.apply(args=[published.pk, "yesterday"], throw=True)
        assert (record_view.queue, record_view.durable, record_view.ignore_result) == ("default", False, True)

    def test_its_table_writes_no_log(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT relpersistence FROM pg_class WHERE relname = 'blog_view'")
            assert cursor.fetchone()[0] in ("u", b"u")


@pytest.mark.django_db
class TestRollUp:
    def test_moves_views_into_the_days_of_our_time_zone(self, published: Post, author: User) -> None:
        other = services.post_create(author=author, title="t", body="b")
        late = datetime.datetime(2026, 3, 1, 15, 30, tzinfo=datetime.UTC)  # 0:30 of the 2nd in Seoul
        for post, moment in [
            (published, at(1)),
            (published, at(1)),
            (published, late),
            (other, at(1)),
            (published, at(2)),
        ]:
            statistics.view_record(post_id=post.pk, at=moment)
        assert settings.TIME_ZONE == "Asia/Seoul"
        assert roll_up_views.apply().get() == 5
        assert roll_up_views.apply().get() == 0
        statistics.view_record(post_id=published.pk, at=at(1))
        assert statistics.views_roll_up() == 1
        assert set(DailyViews.objects.values_list("post", "day", "views")) == {
            (published.pk, datetime.date(2026, 3, 1), 3),
            (published.pk, datetime.date(2026, 3, 2), 2),
            (other.pk, datetime.date(2026, 3, 1), 1),
        }
        assert not View.objects.exists()

    def test_views_of_a_post_that_is_gone_are_forgotten(self, published: Post) -> None:
        statistics.view_record(post_id=published.pk, at=at(1))
        statistics.view_record(post_id=published.pk + 1, at=at(1))
        assert statistics.views_roll_up() == 2
        assert DailyViews.objects.get().views == 1

    def test_a_turn_ends_and_the_next_goes_on(self, published: Post, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(statistics, "BATCH", 2)
        for _ in range(5):
            statistics.view_record(post_id=published.pk, at=timezone.now())
        assert [statistics.views_roll_up(seconds=0) for _ in range(4)] == [2, 2, 1, 0]

    def test_goes_on_until_none_is_left(self, published: Post, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(statistics, "BATCH", 3)
        View.objects.bulk_create(View(post=published, at=at(1)) for _ in range(10))
        assert statistics.views_roll_up() == 10
        assert DailyViews.objects.get().views == 10


@pytest.mark.django_db(transaction=True)
def test_each_view_counts_once_however_many_count(author: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "BATCH", 50)
    posts = [services.post_create(author=author, title=f"{number}", body="b") for number in range(7)]
    View.objects.bulk_create(View(post=posts[number % 7], at=at(1 + number % 3)) for number in range(2100))
    start = threading.Barrier(4)

    def in_thread(work: Callable[[], int]) -> int:
        start.wait(timeout=60)
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        moved = list(pool.map(in_thread, [statistics.views_roll_up] * 4))
    # One may have left to the others what they had locked.
    assert sum(moved) + statistics.views_roll_up() == 2100
    assert sum(DailyViews.objects.values_list("views", flat=True)) == 2100
    assert DailyViews.objects.count() == 21


@pytest.mark.django_db
class TestFigures:
    def test_of_a_period(self, published: Post, author: User) -> None:
        second = services.post_create(author=author, title="Second", body="b")
        Post.objects.filter(pk=published.pk).update(published_at=at(3, 0))
        Post.objects.filter(pk=second.pk).update(published_at=at(5, 0), status=Post.Status.PUBLISHED)
        for post, day, views in [
            (published, 2, 100),
            (published, 3, 5),
            (second, 3, 7),
            (second, 4, 1),
            (second, 5, 100),
        ]:
            DailyViews.objects.create(post=post, day=datetime.date(2026, 3, day), views=views)
        subscriptions_add(author=published.author, emails=(f"s{number}@b.kr" for number in range(4)))
        people = list(Subscriber.objects.order_by("pk"))
        unconfirmed = Subscriber.objects.create(email="unconfirmed@b.kr")
        Subscriber.objects.filter(pk=unconfirmed.pk).update(created_at=at(3, 0))
        for person, moment in zip(people, [at(2, 23), at(3, 0), at(4, 23), at(5, 0)], strict=True):
            Subscriber.objects.filter(pk=person.pk).update(created_at=moment)
            delivery = Delivery.objects.create(post=second, subscriber=person)
            Delivery.objects.filter(pk=delivery.pk).update(at=moment)
        Delivery.objects.filter(subscriber=people[2]).update(refused="550 no such user")

        figures = services.activity_figures(start=datetime.date(2026, 3, 3), end=datetime.date(2026, 3, 4))

        assert figures.posts_published == 1
        assert figures.views_per_day == {datetime.date(2026, 3, 3): 12, datetime.date(2026, 3, 4): 1}
        assert figures.views == 13
        assert [(top.id, top.title, top.views) for top in figures.top_posts] == [
            (second.pk, "Second", 8), (published.pk, published.title, 5),
        ]  # fmt: skip
        assert (figures.new_subscribers, figures.deliveries, figures.refused) == (2, 1, 1)

    def test_of_days_without_anything(self) -> None:
        figures = services.activity_figures(start=datetime.date(2026, 3, 3), end=datetime.date(2026, 3, 5))
        assert list(figures.views_per_day.values()) == [0, 0, 0]
        assert (figures.top_posts, figures.posts_published, figures.deliveries) == ((), 0, 0)

    def test_a_period_that_ends_before_it_starts_is_refused(self) -> None:
        with pytest.raises(ValueError, match="before"):
            services.activity_figures(start=datetime.date(2026, 3, 3), end=datetime.date(2026, 3, 2))
