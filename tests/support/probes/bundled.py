"""As following.py, and many at once, whatever the task."""

from app.taskruns.task import LedgerTask
from tests.probes import following  # noqa: F401 - for what it puts in

LedgerTask.bundle = 100
