"""Loaded into a worker: a slot takes what comes next wherever others wait, and for longer: tests are few and slow."""

from pressroom.execution import backlog

backlog.WAITED = float("-inf")
backlog.LONGEST = backlog.SHORT = 3.0
