"""The sections of reports. A section gets its data from the other apps' services and does not know the file format."""

from __future__ import annotations

import dataclasses
import gzip
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import IO, Any, Literal

from django.utils import timezone

from app.accounts import services as accounts
from app.blog import services as blog
from app.reports.models import Report
from app.reports.periods import Period


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its title, its share of the width and its alignment."""

    title: str
    share: float
    align: Literal["left", "right"] = "left"


@dataclasses.dataclass(frozen=True, slots=True)
class Chart:
    """A bar chart with one bar per label."""

    title: str
    labels: list[str]
    values: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """Facts with names, a chart and a table, each optional. The rows can be iterated only once."""

    facts: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    chart: Chart | None = None
    columns: list[Column] = dataclasses.field(default_factory=list)
    rows: Iterable[list[str]] = ()

    def save(self, file: IO[bytes]) -> None:
        """Write the section as gzipped JSON lines: first everything except the rows, then one row a line.

        Runs in constant memory.
        """
        head = {
            "facts": self.facts,
            "chart": self.chart and dataclasses.asdict(self.chart),
            "columns": [dataclasses.asdict(column) for column in self.columns],
        }
        with gzip.open(file, "wt", compresslevel=5, encoding="utf-8") as text:
            for line in itertools.chain([head], self.rows):
                text.write(json.dumps(line, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, file: IO[bytes]) -> Section:
        """Read what ``save`` wrote. The rows are read from the file during iteration."""
        lines = io.TextIOWrapper(gzip.GzipFile(fileobj=file), encoding="utf-8")
        head: dict[str, Any] = json.loads(next(lines))
        return cls(
            facts=[(name, value) for name, value in head["facts"]],
            chart=Chart(**head["chart"]) if head["chart"] else None,
            columns=[Column(**column) for column in head["columns"]],
            rows=(json.loads(line) for line in lines),
        )


def _moment(value: datetime) -> str:
    return f"{timezone.localtime(value):%Y-%m-%d %H:%M}"


def overview(period: Period) -> Section:
    """Six totals of the period."""
    figures = blog.activity_figures(start=period.first, end=period.last)
    return Section(
        facts=[
            ("Posts published", figures.posts_published),
            ("Views", figures.views),
            ("Mails delivered", figures.deliveries),
            ("Mails refused", figures.refused),
            ("New subscribers", figures.new_subscribers),
            ("New accounts", sum(accounts.users_by_day(start=period.start, end=period.end).values())),
        ],
    )


def views(period: Period) -> Section:
    """Views of posts by day, and the most read posts."""
    figures = blog.activity_figures(start=period.first, end=period.last)
    return Section(
        chart=Chart("Views", *period.series(figures.views_per_day)),
        columns=[Column("Most read", 0.8), Column("Views", 0.2, "right")],
        rows=([post.title, f"{post.views:,}"] for post in figures.top_posts),
    )


def posts(period: Period) -> Section:
    """The posts of the period, with the number of mails about each."""
    published = blog.posts_published(start=period.start, end=period.end)
    return Section(
        columns=[
            Column("Published", 0.18), Column("Title", 0.44), Column("Author", 0.16),
            Column("Delivered", 0.12, "right"), Column("Refused", 0.10, "right"),
        ],
        rows=([_moment(p.published_at), p.title, p.author, f"{p.told:,}", f"{p.refused:,}"] for p in published),
    )  # fmt: skip


def mails(period: Period) -> Section:
    """Mails about posts, by day."""
    by_day = blog.deliveries_by_day(start=period.start, end=period.end)
    taken = {day: count for day, (count, _) in by_day.items()}
    return Section(
        chart=Chart("Mails delivered", *period.series(taken)),
        columns=[Column("Day", 0.4), Column("Delivered", 0.3, "right"), Column("Refused", 0.3, "right")],
        rows=([day.isoformat(), f"{count:,}", f"{refused:,}"] for day, (count, refused) in by_day.items()),
    )


def growth(period: Period) -> Section:
    """The number of subscribers, and the new ones of the period."""
    new = blog.subscriptions_by_day(start=period.start, end=period.end)
    active, left = blog.subscribers_count(before=period.end)
    return Section(
        facts=[("Subscribers", active), ("New in the period", sum(new.values())), ("Unsubscribed, all time", left)],
        chart=Chart("New subscribers", *period.series(new)),
    )


def subscriber_list(period: Period) -> Section:
    """All addresses that had subscribed by the end of the period."""
    listed = blog.subscribers_listed(before=period.end)
    return Section(
        columns=[Column("Address", 0.58), Column("Since", 0.24), Column("State", 0.18)],
        rows=([email, _moment(since), "active" if active else "left"] for email, since, active in listed),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Maker:
    """The title of a section and the function that makes it."""

    title: str
    make: Callable[[Period], Section]


SECTIONS: dict[str, Maker] = {
    "overview": Maker("Overview", overview),
    "views": Maker("Views", views),
    "posts": Maker("Posts", posts),
    "mails": Maker("Mails to subscribers", mails),
    "growth": Maker("Growth", growth),
    "subscriber_list": Maker("Subscribers", subscriber_list),
}

BY_REPORT: dict[str, tuple[str, ...]] = {
    # At least two sections: Celery turns a chord of one into a chain, which calls errbacks in another way.
    Report.Kind.ACTIVITY: ("overview", "views", "posts", "mails", "growth"),
    Report.Kind.SUBSCRIBERS: ("growth", "subscriber_list"),
}


def titled(names: Iterable[str]) -> list[str]:
    """Return the titles of sections."""
    return [SECTIONS[name].title for name in names]


def made(names: Iterable[str], period: Period) -> Iterator[Section]:
    """Return an iterator of sections, each computed when it is requested."""
    return (SECTIONS[name].make(period) for name in names)
