"""The days that a report is about, as ISO 8601 tells them."""

from __future__ import annotations

import calendar
import dataclasses
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

from django.utils import timezone
from django.utils.dateformat import format as date_format

LONGEST = 3660
"""Days: ten years."""
DAILY = 62
"""Days up to which a chart has a bar a day; beyond that a bar a month."""


@dataclasses.dataclass(frozen=True, slots=True)
class Period:
    """From ``first`` to ``last``, both included, in the time zone of the site. Raises ValueError where it is none."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError("The period ends before it begins.")
        if (self.last - self.first).days >= LONGEST:
            raise ValueError(f"The period is longer than {LONGEST} days.")

    @classmethod
    def parse(cls, text: str) -> Period:
        """A year (2026), a month (2026-01), a day (2026-01-31) or two of these with a slash between them.

        Raises ValueError, with a text for who wrote it.
        """
        begin, slash, end = text.partition("/")
        return cls(_span(begin)[0], _span(end if slash else begin)[1])

    @property
    def start(self) -> datetime:
        """The first moment of it."""
        return timezone.make_aware(datetime.combine(self.first, time.min))

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return timezone.make_aware(datetime.combine(self.last + timedelta(days=1), time.min))

    def __str__(self) -> str:
        return f"{self.first}/{self.last}" if self.first != self.last else f"{self.first}"

    @property
    def title(self) -> str:
        """For people: "January 2026" where it is a month, else its days."""
        if (self.first, self.last) == _span(f"{self.first:%Y-%m}"):
            return date_format(self.first, "F Y")
        days = dict.fromkeys((self.first, self.last))
        return " – ".join(date_format(day, "j F Y") for day in days)

    def series(self, by_day: Mapping[date, int]) -> tuple[list[str], list[int]]:
        """Labels and sums for a chart: of each day, or of each month where there are many days."""
        days = [self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1)]
        of_months = len(days) > DAILY
        sums: dict[str, int] = {}
        for day in days:
            label = f"{day:%Y-%m}" if of_months else f"{day:%m-%d}"
            sums[label] = sums.get(label, 0) + by_day.get(day, 0)
        return list(sums), list(sums.values())


def _span(text: str) -> tuple[date, date]:
    """First and last day of a year, a month or a day."""
    found = re.fullmatch(r"((?:19|20|21)\d\d)(?:-(\d\d)(?:-(\d\d))?)?", text, re.ASCII)
    try:
        year, month, day = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
        first = date(year, month or 1, day or 1)
    except ValueError:
        raise ValueError(
            f"{text!r} is no year, month or day: write 2026, 2026-01, 2026-01-31 or 2026-01-01/2026-03-31."
        ) from None
    if day:
        return first, first
    last_month = month or 12
    return first, date(year, last_month, calendar.monthrange(year, last_month)[1])
