"""Periods of reports, in days and in ISO 8601 notation."""

from __future__ import annotations

import calendar
import dataclasses
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

from django.utils import timezone
from django.utils.dateformat import format as date_format

LONGEST = 3660
"""Maximum length of a period in days: ten years."""
DAILY = 62
"""Maximum number of days for which a chart has one bar per day. For longer periods it has one per month."""


@dataclasses.dataclass(frozen=True, slots=True)
class Period:
    """The days from ``first`` to ``last``, both included, in the site's time zone. Raises ValueError if invalid."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError("The period ends before it begins.")
        if (self.last - self.first).days >= LONGEST:
            raise ValueError(f"The period is longer than {LONGEST} days.")

    @classmethod
    def parse(cls, text: str) -> Period:
        """Parse a year (2026), a month (2026-01), a day (2026-01-31), or two of these with a slash between them.

        Raises ValueError with a text for the user.
        """
        begin, slash, end = text.partition("/")
        return cls(_span(begin)[0], _span(end if slash else begin)[1])

    @property
    def start(self) -> datetime:
        """The first moment of the period."""
        return timezone.make_aware(datetime.combine(self.first, time.min))

    @property
    def end(self) -> datetime:
        """The first moment after the period."""
        return timezone.make_aware(datetime.combine(self.last + timedelta(days=1), time.min))

    def __str__(self) -> str:
        return f"{self.first}/{self.last}" if self.first != self.last else f"{self.first}"

    @property
    def title(self) -> str:
        """The period for people: "January 2026" for a month, else its days."""
        if (self.first, self.last) == _span(f"{self.first:%Y-%m}"):
            return date_format(self.first, "F Y")
        days = dict.fromkeys((self.first, self.last))
        return " – ".join(date_format(day, "j F Y") for day in days)

    def series(self, by_day: Mapping[date, int]) -> tuple[list[str], list[int]]:
        """Return labels and sums for a chart: per day, or per month for long periods."""
        days = [self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1)]
        of_months = len(days) > DAILY
        sums: dict[str, int] = {}
        for day in days:
            label = f"{day:%Y-%m}" if of_months else f"{day:%m-%d}"
            sums[label] = sums.get(label, 0) + by_day.get(day, 0)
        return list(sums), list(sums.values())


def _span(text: str) -> tuple[date, date]:
    """Return the first and the last day of a year, a month or a day."""
    found = re.fullmatch(r"((?:19|20|21)\d\d)(?:-(\d\d)(?:-(\d\d))?)?", text, re.ASCII)
    try:
        year, month, day = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
        first = date(year, month or 1, day or 1)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a year, month or day: use 2026, 2026-01, 2026-01-31 or 2026-01-01/2026-03-31."
        ) from None
    if day:
        return first, first
    last_month = month or 12
    return first, date(year, last_month, calendar.monthrange(year, last_month)[1])
