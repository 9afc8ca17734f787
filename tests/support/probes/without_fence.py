"""Loaded into a worker, it switches the fence of the finish off: it counts as written whoever has the run by then."""

from pressroom.sql import ends
from tests.support.probes.mutation import switch_off_in_database

assert vars(ends)["_HELD"] == "t.id = %s AND t.claim = %s AND t.status = 'running'", "what is the guard now?"
vars(ends)["_HELD"] = "t.id = %s AND %s IS NOT NULL"
# A run ends once, because its row leaves the table of live runs. What must not pass is that it was another's.
switch_off_in_database(ends.succeed, "taskruns_succeed_2", "RETURN false", "RETURN true")
