"""Loaded into relay or worker, it switches the counting of dispatches that ended without a claim off."""

from pressroom.sql import failed_dispatches
from tests.support.probes.mutation import switch_off

switch_off(failed_dispatches.refused, "[counts, *", "[False, *")
switch_off(failed_dispatches.missed, "misses = t.misses + 1", "misses = 0")
