"""Figures of a period for reports, which other apps ask for through ``app.blog.services``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, NamedTuple

from django.db.models import Count, Q
from django.db.models.functions import TruncDate

from app.blog.models import Delivery, Post, Subscriber

PAGE = 5_000
"""Rows fetched at a time."""


class PostFigures(NamedTuple):
    """A published post and how many were told of it."""

    title: str
    author: str
    published_at: datetime
    told: int
    refused: int


def posts_published(*, start: datetime, end: datetime) -> Iterator[PostFigures]:
    """The posts published from ``start`` on and before ``end``, oldest first; constant memory."""
    posts = (
        Post.objects.filter(status=Post.Status.PUBLISHED, published_at__gte=start, published_at__lt=end)
        .annotate(
            told=Count("deliveries", filter=Q(deliveries__refused="")),
            refused=Count("deliveries", filter=~Q(deliveries__refused="")),
        )
        .order_by("published_at", "pk")
    )
    last: tuple[Any, int] | None = None
    while True:
        page = posts if last is None else posts.filter(
            Q(published_at__gt=last[0]) | Q(published_at=last[0], pk__gt=last[1])
        )  # fmt: skip
        rows = list(page.values_list("title", "author__username", "published_at", "told", "refused", "pk")[:PAGE])
        yield from (PostFigures(title, author, at, told, no) for title, author, at, told, no, _ in rows if at)
        if len(rows) < PAGE:
            return
        last = rows[-1][2], rows[-1][5]


def deliveries_by_day(*, start: datetime, end: datetime) -> dict[date, tuple[int, int]]:
    """Mails about posts in that time, by day: how many were taken, how many refused."""
    mails = Delivery.objects.filter(at__gte=start, at__lt=end).values(day=TruncDate("at"))
    counted = mails.annotate(taken=Count("pk", filter=Q(refused="")), refusals=Count("pk", filter=~Q(refused="")))
    return {row["day"]: (row["taken"], row["refusals"]) for row in counted.order_by("day")}


def subscriptions_by_day(*, start: datetime, end: datetime) -> dict[date, int]:
    """Addresses that subscribed for the first time in that time, by day."""
    new = Subscriber.objects.filter(created_at__gte=start, created_at__lt=end)
    by_day = new.annotate(day=TruncDate("created_at")).values("day").annotate(count=Count("pk"))
    return dict(by_day.values_list("day", "count").order_by("day"))


def subscribers_count(*, before: datetime) -> tuple[int, int]:
    """Of those who subscribed before that moment: how many still do, and how many have left."""
    counted = Subscriber.objects.filter(created_at__lt=before).aggregate(
        stayed=Count("pk", filter=Q(active=True)), left=Count("pk", filter=Q(active=False))
    )
    return counted["stayed"], counted["left"]


def subscribers_listed(*, before: datetime) -> Iterator[tuple[str, datetime, bool]]:
    """Address, since when, and whether still, of all who subscribed before that moment; constant memory."""
    rows: list[tuple[int, str, datetime, bool]] = []
    known = Subscriber.objects.filter(created_at__lt=before).order_by("pk")
    while not rows or len(rows) == PAGE:
        after = rows[-1][0] if rows else 0
        rows = list(known.filter(pk__gt=after).values_list("pk", "email", "created_at", "active")[:PAGE])
        if not rows:
            return
        yield from (row[1:] for row in rows)
