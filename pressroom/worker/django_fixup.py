"""Celery's Django fixup, less its closing of every connection around every task (celery#10554).

The ledger closes what is stale before a claim; a connection that is good stays, which spares a reconnect a task.
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
"""prctl(2)."""


def _follow_parent() -> None:
    """A child ends when its main process dies, whose tasks others get, and not before.

    So a SIGTERM to the whole group is the main process's to answer (airflow#18066): the child leaves the group.
    """
    is_child = current_process().name != "MainProcess"  # which the solo pool runs in
    if sys.platform == "linux" and is_child:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class LedgerWorkerFixup(DjangoWorkerFixup):  # type: ignore[misc]  # not in the stubs
    """Connections outlive a task; a forked child forgets its parent's without touching them."""

    def validate_models(self) -> None:
        """Set Django up, without every check of Django's: those load all routes, and the migration has run them."""
        if not apps.ready:
            self.django_setup()

    def on_task_prerun(self, sender: Any, **kwargs: Any) -> None:
        """Nothing: see the module."""

    def on_task_postrun(self, sender: Any, **kwargs: Any) -> None:
        """Nothing: see the module."""

    def on_worker_process_init(self, **kwargs: Any) -> None:
        """Drop the parent's connections: closing them here would end them there. And live as long as it does."""
        _follow_parent()
        for one in connections.all(initialized_only=True):
            one.connection = None
        self.close_cache()


class LedgerFixup(DjangoFixup):
    """Installs the worker fixup above."""

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
    """The entry point that Celery calls."""
    return LedgerFixup(app).install()  # type: ignore[func-returns-value, return-value]  # the stubs say None
