"""Loaded into a worker, it switches the claim's condition off: every message is taken for a run to be had."""

from app.taskruns import ledger
from tests.probes.mutation import switch_off

switch_off(ledger.claim, "AND ((status IN {WAITING}", "AND (true OR (status IN {WAITING}")
