"""The formats of numbers, times and calls on the operations pages."""

from __future__ import annotations

import datetime
import json
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html

from pressroom import text
from pressroom.monitoring.queue_stats import CAP
from pressroom.operations import held

register = template.Library()


@register.filter
def count(number: int) -> str:
    """Return ``9,999``, or ``10,000+`` for a count that stopped at CAP."""
    return f"{CAP:,}+" if number >= CAP else f"{number:,}"


@register.filter
def intcomma(number: float) -> str:
    """Return ``1,234``."""
    return f"{number:,}"


@register.filter
def duration(seconds: float | datetime.timedelta | None) -> str:
    """Return ``85 ms``, ``3.2 s``, ``4 min 10 s``, ``2 h 5 min`` or ``3 d 4 h``; a dash for None."""
    if seconds is None:
        return "–"
    if isinstance(seconds, datetime.timedelta):
        seconds = seconds.total_seconds()
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for unit, below, name, lesser in ((60, 3600, "min", "s"), (3600, 86400, "h", "min"), (86400, 0, "d", "h")):
        if whole < below or not below:
            rest = whole % unit // {"s": 1, "min": 60, "h": 3600}[lesser]
            return f"{whole // unit} {name}" + (f" {rest} {lesser}" if rest else "")
    raise AssertionError


@register.filter
def until(begin: datetime.datetime | None, end: datetime.datetime | None) -> str:
    """Return the time from one moment to another, or to now if the other is None."""
    return "–" if begin is None else duration((end or timezone.now()) - begin)


@register.filter
def ago(moment: datetime.datetime | None) -> str:
    """Return how long ago the moment was, in whole seconds; ``in 5 s`` for the future."""
    if moment is None:
        return "–"
    seconds = (timezone.now() - moment).total_seconds()
    distance = duration(max(round(abs(seconds)), 1))
    return f"{distance} ago" if seconds >= 0 else f"in {distance}"


@register.filter
def call(body: str, most: int = 120) -> str:
    """Return the arguments in a message's body as Python code would write them in a call, cut if they are long."""
    try:
        decoder = json.JSONDecoder()
        args, end = decoder.raw_decode(body, 1)
        kwargs, _ = decoder.raw_decode(body, end + 2)
        text = ", ".join([*map(_plain, args), *(f"{name}={_plain(value)}" for name, value in kwargs.items())])
    except (ValueError, TypeError, AttributeError, RecursionError):
        # The body is cut, because the search fetches only the start of a long one, or it is not a call.
        text = body[2:]
    return text if len(text) <= most else text[:most] + "…"


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# Characters of text fonts. The emoji ⏸ and ⌛ are empty boxes where no emoji font is installed.
MARKS = {
    "queued": "○", "running": "▶", "retrying": "↻", "succeeded": "✓", "dead": "✕", "cancelled": "⊘", "expired": "◔",
    "replaced": "⇄", "alive": "✓", "silent": "?", "draining": "▽", "drained": "■", "lost": "✕", "paused": "❚❚",
    "late": "!", "later": "◷", "held": "‖", "on time": "✓", "broken": "✕",
    "ordered": "○", "counting": "▶", "done": "✓", "failed": "✕",
}  # fmt: skip


@register.simple_tag
def state(name: str) -> str:
    """Show a status as a sign, a word and a colour, so that no reader depends on the colour."""
    return format_html(
        '<span class="ops-state ops-{}"><span aria-hidden="true">{}</span> {}</span>',
        name.replace(" ", "-"), MARKS.get(name, "·"), name,
    )  # fmt: skip


@register.filter
def standing(run: Any) -> str:
    """Return the status of a run of a list, or what says more: whether it is due later, held or paused."""
    return held.standing(run)


@register.simple_tag
def moment(at: datetime.datetime | None) -> str:
    """Show a time in the site's zone with its offset, and with the microseconds in its tooltip."""
    if at is None:
        return "–"
    local = timezone.localtime(at)
    exact = f"{local:%Y-%m-%d %H:%M:%S.%f} {text.offset(local)}"
    return format_html('<time datetime="{}" title="{}">{}</time>', local.isoformat(), exact, text.zoned(at))


@register.filter
def zoned(at: datetime.datetime, to: str = "second") -> str:
    """Return a time as `moment` shows it, where only text may stand."""
    return text.zoned(at, to)
