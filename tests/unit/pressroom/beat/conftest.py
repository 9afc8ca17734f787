"""A beat in the test's own process, whose schedules are the test's."""

from typing import Any

import pytest

from app.celery import app
from pressroom.beat.scheduler import LedgerScheduler


@pytest.fixture
def code(settings: Any, monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """The schedules of the code: none but these."""
    found: dict[Any, Any] = {}
    settings.CELERY_BEAT_SCHEDULE = {}
    monkeypatch.setattr(app.conf, "beat_schedule", found)
    return found


@pytest.fixture
def scheduler(code: Any) -> LedgerScheduler:
    return LedgerScheduler(app=app, lazy=True)
