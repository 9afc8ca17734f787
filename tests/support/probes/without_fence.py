"""Loaded into a worker, it switches the fence of the finish off: it is written whoever has the run by then."""

from pressroom.sql import ends
from tests.support.probes.mutation import switch_off_in_database

assert vars(ends)["_HELD"] == "t.id = %s AND t.claim = %s AND t.status = 'running'", "what is the guard now?"
vars(ends)["_HELD"] = "t.id = %s AND %s IS NOT NULL"
switch_off_in_database(ends.succeed, "taskruns_succeed_1", "AND claim = token AND status = 'running'", "")
