"""View counts of posts and statistics of a period."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass

from django.conf import settings
from django.db import connection
from django.db.models import Count, Q, Sum
from django.utils import timezone

from app.blog.models import DailyViews, Delivery, Post, View, subscribers_confirmed

BATCH = 10_000
"""Views counted per transaction."""
TOP = 10


def view_record(*, post_id: int, at: datetime.datetime) -> None:
    """Record a view of a published post: one INSERT into an unlogged table, without contention on a counter."""
    View.objects.create(post_id=post_id, at=at)


def views_roll_up(*, seconds: float = 60.0) -> int:
    """Move the recorded views into DailyViews, each exactly once even if several processes do it. Returns how many.

    Stops after about ``seconds``. The rest is for the next call, a minute later.
    """
    moved, deadline = 0, time.monotonic() + seconds
    while batch := _roll_up_batch():
        moved += batch
        if time.monotonic() >= deadline:
            break
    return moved


def _roll_up_batch() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH counted AS (
                DELETE FROM blog_view WHERE id = ANY(ARRAY(
                    SELECT id FROM blog_view ORDER BY id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
                )) RETURNING post_id, (at AT TIME ZONE %(zone)s)::date AS day
            ),
            -- Sorted, so that two concurrent roll-ups cannot deadlock. Views of a deleted post are dropped.
            daily AS (
                SELECT c.post_id, c.day, count(*) AS views FROM counted c JOIN blog_post p ON p.id = c.post_id
                GROUP BY c.post_id, c.day ORDER BY c.post_id, c.day
            ),
            written AS (
                INSERT INTO blog_dailyviews (post_id, day, views) SELECT post_id, day, views FROM daily
                ON CONFLICT (post_id, day) DO UPDATE SET views = blog_dailyviews.views + EXCLUDED.views
            )
            SELECT count(*) FROM counted
            """,
            {"batch": BATCH, "zone": settings.TIME_ZONE},
        )
        row = cursor.fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True, slots=True)
class TopPost:
    """A post that was read in a period."""

    id: int
    title: str
    views: int


@dataclass(frozen=True, slots=True)
class Activity:
    """The activity from ``start`` to ``end``, both days included, in the time zone of the settings."""

    start: datetime.date
    end: datetime.date
    posts_published: int
    views_per_day: dict[datetime.date, int]
    """Every day of the period, including days without views."""
    top_posts: tuple[TopPost, ...]
    """At most ten, most read first."""
    new_subscribers: int
    deliveries: int
    """Mails about posts that the mail server accepted."""
    refused: int
    """Mails about posts that the mail server refused."""

    @property
    def views(self) -> int:
        return sum(self.views_per_day.values())


def activity_figures(*, start: datetime.date, end: datetime.date) -> Activity:
    """Return the activity of a period of days. Views count once they are rolled up.

    Every query uses an index range, so the cost depends on the period and not on the size of the tables.
    Raises ValueError if ``end`` is before ``start``.
    """
    if end < start:
        raise ValueError(f"the period ends ({end}) before it starts ({start})")
    period = (_midnight(start), _midnight(end + datetime.timedelta(days=1)))
    views = DailyViews.objects.filter(day__range=(start, end))
    by_day = dict(views.values_list("day").annotate(Sum("views")))
    days = [start + datetime.timedelta(days=number) for number in range((end - start).days + 1)]
    mails = Delivery.objects.filter(at__gte=period[0], at__lt=period[1]).aggregate(
        taken=Count("pk", filter=Q(refused="")), refused=Count("pk", filter=~Q(refused=""))
    )
    top = views.values("post_id", "post__title").annotate(read=Sum("views")).order_by("-read", "post_id")[:TOP]
    return Activity(
        start=start,
        end=end,
        posts_published=Post.objects.filter(
            status=Post.Status.PUBLISHED, published_at__gte=period[0], published_at__lt=period[1]
        ).count(),
        views_per_day={day: by_day.get(day, 0) for day in days},
        top_posts=tuple(TopPost(row["post_id"], row["post__title"], row["read"]) for row in top),
        new_subscribers=subscribers_confirmed().filter(created_at__gte=period[0], created_at__lt=period[1]).count(),
        deliveries=mails["taken"],
        refused=mails["refused"],
    )


def _midnight(day: datetime.date) -> datetime.datetime:
    return timezone.make_aware(datetime.datetime.combine(day, datetime.time.min))
