"""Statistics of a period for reports. Other apps reach them through ``app.blog.services``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, NamedTuple

from django.db.models import Count, Exists, OuterRef, Q
from django.db.models.functions import TruncDate

from app.blog.models import Delivery, Post, counting, subscribers_confirmed

PAGE = 5_000
"""Rows fetched per query."""


class PostFigures(NamedTuple):
    """A published post and the number of mails about it: delivered (``told``) and refused."""

    title: str
    author: str
    published_at: datetime
    told: int
    refused: int


def posts_published(*, start: datetime, end: datetime) -> Iterator[PostFigures]:
    """Yield the posts published from ``start`` up to but not including ``end``, oldest first, in constant memory."""
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
    """Return the mails about posts in the period by day, as (accepted, refused)."""
    mails = Delivery.objects.filter(at__gte=start, at__lt=end).values(day=TruncDate("at"))
    counted = mails.annotate(taken=Count("pk", filter=Q(refused="")), refusals=Count("pk", filter=~Q(refused="")))
    return {row["day"]: (row["taken"], row["refusals"]) for row in counted.order_by("day")}


def _are_subscribed() -> Exists:
    """The condition that an address is subscribed to an author now."""
    return Exists(counting().filter(subscriber=OuterRef("pk")))


def subscriptions_by_day(*, start: datetime, end: datetime) -> dict[date, int]:
    """Return the number of addresses that were new in the period and have confirmed a subscription, by day."""
    new = subscribers_confirmed().filter(created_at__gte=start, created_at__lt=end)
    by_day = new.annotate(day=TruncDate("created_at")).values("day").annotate(count=Count("pk"))
    return dict(by_day.values_list("day", "count").order_by("day"))


def subscribers_count(*, before: datetime) -> tuple[int, int]:
    """Return, of those who subscribed before that time, how many are subscribed to an author and how many to none."""
    known = subscribers_confirmed().filter(created_at__lt=before).annotate(stays=_are_subscribed())
    counted = known.aggregate(stayed=Count("pk", filter=Q(stays=True)), left=Count("pk", filter=Q(stays=False)))
    return counted["stayed"], counted["left"]


def subscribers_listed(*, before: datetime) -> Iterator[tuple[str, datetime, bool]]:
    """Yield the addresses that subscribed before that time, with when, and whether they are subscribed to anybody now.

    Runs in constant memory.
    """
    rows: list[tuple[int, str, datetime, bool]] = []
    known = subscribers_confirmed().filter(created_at__lt=before).annotate(stays=_are_subscribed()).order_by("pk")
    while not rows or len(rows) == PAGE:
        after = rows[-1][0] if rows else 0
        rows = list(known.filter(pk__gt=after).values_list("pk", "email", "created_at", "stays")[:PAGE])
        if not rows:
            return
        yield from (row[1:] for row in rows)
