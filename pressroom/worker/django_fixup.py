"""Celery's Django fixup, without its closing of every connection around every task (celery#10554).

The ledger closes stale connections before a claim and keeps good ones, which saves a reconnect per task.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

from billiard.process import current_process
from celery.fixups.django import DjangoFixup, DjangoWorkerFixup  # type: ignore[attr-defined]  # not in the stubs
from django.apps import apps
from django.db import connections

PR_SET_PDEATHSIG = 1
"""The option of prctl(2) that sets the signal for a process whose parent dies."""


def _follow_parent() -> None:
    """Make a child end when its main process dies, since other workers then get its tasks, and not earlier.

    The child leaves the process group, so that a SIGTERM to the group reaches only the main process (airflow#18066).
    """
    is_child = current_process().name != "MainProcess"  # The solo pool runs in the main process.
    if sys.platform == "linux" and is_child:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class LedgerWorkerFixup(DjangoWorkerFixup):  # type: ignore[misc]  # not in the stubs
    """Keeps connections open between tasks. A forked child forgets its parent's connections without closing them."""

    def validate_models(self) -> None:
        """Set Django up, but skip its checks: they load all routes, and the migration has already run them."""
        if not apps.ready:
            self.django_setup()

    def on_task_prerun(self, sender: Any, **kwargs: Any) -> None:
        """Do nothing: see the module's docstring."""

    def on_task_postrun(self, sender: Any, **kwargs: Any) -> None:
        """Do nothing: see the module's docstring."""

    def on_worker_process_init(self, **kwargs: Any) -> None:
        """Drop the parent's connections, which closing them here would break, and follow the parent into its end."""
        _follow_parent()
        for one in connections.all(initialized_only=True):
            one.connection = None
        self.close_cache()


class LedgerFixup(DjangoFixup):
    """Installs `LedgerWorkerFixup`."""

    _worker_fixup: DjangoWorkerFixup | None

    @property
    def worker_fixup(self) -> DjangoWorkerFixup:
        if self._worker_fixup is None:
            self._worker_fixup = LedgerWorkerFixup(self.app)
        return self._worker_fixup

    @worker_fixup.setter
    def worker_fixup(self, value: DjangoWorkerFixup) -> None:
        self._worker_fixup = value


def fixup(app: Any) -> DjangoFixup:
    """Install the fixup. Celery calls this as the entry point."""
    return LedgerFixup(app).install()  # type: ignore[func-returns-value, return-value]  # the stubs say None
