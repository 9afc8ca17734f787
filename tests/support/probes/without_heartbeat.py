"""Loaded into a worker, it switches its heartbeat off."""

from pressroom.sql import workers

workers.beat = lambda *_: True
