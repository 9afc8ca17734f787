"""Loaded into a worker, it switches the fence of the finish off: it is written whoever has the run by then."""

from app.taskruns import ledger
from tests.probes.mutation import switch_off, switch_off_in_database

switch_off(ledger._update, "AND claim = %s AND status = 'running'", "AND %s IS NOT NULL")
switch_off_in_database(ledger.succeed, "taskruns_succeed_1", "AND claim = token AND status = 'running'", "")
