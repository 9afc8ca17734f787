"""Loaded into a worker, it switches its heartbeat off."""

from app.taskruns import heartbeats

heartbeats.beat = lambda *_: True
