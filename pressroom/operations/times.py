"""How the operations pages write times: in the site's zone, with its offset from UTC."""

from __future__ import annotations

import datetime

from django.utils import timezone

FORMATS = {"second": "%Y-%m-%d %H:%M:%S", "minute": "%Y-%m-%d %H:%M"}


def offset(local: datetime.datetime) -> str:
    """Return ``+09:00``."""
    return f"{local:%z}"[:3] + ":" + f"{local:%z}"[3:5]


def zoned(at: datetime.datetime, to: str = "second") -> str:
    """Return ``2026-03-02 09:00:00 +09:00``, to one of FORMATS."""
    local = timezone.localtime(at)
    return f"{local.strftime(FORMATS[to])} {offset(local)}"
