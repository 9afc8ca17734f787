"""Loaded into a worker, it switches its heartbeat off."""

from app.taskruns import ledger

ledger.worker_beat = lambda worker_id: True
