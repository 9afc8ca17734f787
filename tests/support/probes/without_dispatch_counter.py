"""Loaded into relay or worker, it switches the counting of dispatches that ended without a claim off."""

from app.taskruns import dispatches
from tests.probes.mutation import switch_off

switch_off(dispatches.refused, "[counts, counts, run_id,", "[False, False, run_id,")
switch_off(dispatches.missed, "misses = t.misses + 1", "misses = 0")
