"""Loaded into a worker, it switches the claim's condition off: the worker claims the run of every message."""

from pressroom.sql import runs
from tests.support.probes.mutation import switch_off_in_database

switch_off_in_database(runs.claim, "taskruns_claim_2", "AND (t.status IN (", "AND (true OR t.status IN (")
