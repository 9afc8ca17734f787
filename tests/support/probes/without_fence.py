"""Loaded into a worker, it switches the fence of the finish off: it is written whoever has the run by then."""

from pressroom.sql import ends, runs
from tests.support.probes.mutation import switch_off, switch_off_in_database

switch_off(runs.update_held, "AND claim = %s AND status = 'running'", "AND %s IS NOT NULL")
switch_off_in_database(ends.succeed, "taskruns_succeed_1", "AND claim = token AND status = 'running'", "")
