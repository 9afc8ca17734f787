"""Set broken schedules aside with their errors, where an operator sees them, and clear them when they work again."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.utils import timezone

from pressroom.models import BrokenSchedule
from pressroom.text import carried

logger = logging.getLogger(__name__)

Stage = BrokenSchedule.Stage
LONGEST = 2_000
"""Characters of an error that are stored."""


class Marks:
    """The broken schedules in the table, as this beat last saw them.

    Each is logged once: when it is new, or when its error has changed.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def read(self) -> None:
        """Load what another beat, or this one before its restart, has set aside."""
        rows = BrokenSchedule.objects.values_list("stage", "name", "error")
        self._known = {(stage, name): error for stage, name, error in rows}

    def has(self, stage: Stage, name: object) -> bool:
        return (stage, _text(name)) in self._known

    def set_aside(self, stage: Stage, name: object, error: BaseException) -> None:
        """Store the schedule as broken, with its error."""
        key, text = (stage, _text(name)), _text(f"{type(error).__name__}: {error}")
        if self._known.get(key) == text:
            return
        logger.error("the schedule %s is set aside: %s", *map(_text, (name, text)), exc_info=error)
        BrokenSchedule.objects.update_or_create(
            stage=stage, name=key[1], defaults={"error": text, "since": timezone.now()}
        )
        self._known[key] = text

    def clear(self, stage: Stage, name: object) -> None:
        """Remove the schedule's mark, because it works."""
        if self._known.pop((stage, _text(name)), None) is not None:
            BrokenSchedule.objects.filter(stage=stage, name=_text(name)).delete()
            logger.info("the schedule %s works again", _text(name))

    def keep(self, stage: Stage, names: Iterable[object]) -> None:
        """Clear every mark of a stage except those of these names."""
        kept = set(map(_text, names))
        for known, name in list(self._known):
            if known == stage and name not in kept:
                self.clear(stage, name)


def _text(value: object) -> str:
    return carried(value)[:LONGEST]
