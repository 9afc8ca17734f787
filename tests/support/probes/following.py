"""Loaded into a worker: a slot takes what comes next wherever others wait, and for longer: tests are few and slow."""

from app.taskruns import bundle

bundle.WAITED = float("-inf")
bundle.LONGEST = bundle.SHORT = 3.0
