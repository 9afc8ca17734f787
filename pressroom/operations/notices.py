"""What is away, as each operations page says at its top. If Postgres is away, there is no page: the answer is 503."""

from __future__ import annotations

import dataclasses
import datetime

from django.utils import timezone

from pressroom.models import Outage, Tick

SILENT_AFTER = datetime.timedelta(seconds=60)
"""How long after its last round the relay counts as away. It makes a round every second."""


@dataclasses.dataclass(frozen=True)
class Notice:
    """Something that is away, since when, and what follows from it."""

    what: str
    since: datetime.datetime
    effect: str


def notices() -> list[Notice]:
    """Return what is away now. Relays record that Redis is."""
    found = [
        Notice("Redis is away", outage.since, "Calls are stored, and wait in Postgres until it is back.")
        for outage in Outage.objects.filter(service=Outage.REDIS)
    ]
    silent = Tick.objects.filter(name="relay", at__lt=timezone.now() - SILENT_AFTER).first()
    if silent is not None:
        found.append(Notice("The relay has made no round", silent.at, "What is called is stored, and does not start."))
    return found
