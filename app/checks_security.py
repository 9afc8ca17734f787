"""What would let the wrong people in. Part of ``app/checks.py``."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.core import checks

REGISTRATIONS = ("open", "authors", "closed")


def registration(**_: object) -> Iterator[checks.CheckMessage]:
    """A word that registration knows: with any other it would be open."""
    if settings.REGISTRATION not in REGISTRATIONS:
        yield checks.Error(
            f"REGISTRATION is {settings.REGISTRATION!r}.",
            hint=f"It is one of {', '.join(REGISTRATIONS)}.",
            id="pressroom.E060",
        )
