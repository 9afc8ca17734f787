"""A claim tells how long the run had waited, by one clock: the database's."""

from importlib import import_module

from django.db import migrations

statements = import_module("pressroom.migrations.0009_statements")

CLAIM = f"""
CREATE FUNCTION taskruns_claim_2(run uuid, token uuid, by_worker bigint, attempts integer)
RETURNS TABLE (attempt integer, owner_id bigint, expires_at timestamptz, waited float8) {statements.PLANS} $$
#variable_conflict use_column
BEGIN
    {statements.ASYNC}
    RETURN QUERY
    UPDATE taskruns_taskrun t
    SET status = 'running', claim = token, worker_id = by_worker, started_at = clock_timestamp(),
        attempt = t.attempt + (t.claim IS DISTINCT FROM token)::int, progress_message = '', unknown_since = NULL
    WHERE t.id = run
      AND EXISTS (SELECT FROM taskruns_worker w WHERE w.id = by_worker AND w.dead_at IS NULL)
      AND (t.status IN ('queued','retrying') AND t.run_at <= clock_timestamp()
           AND t.attempt = coalesce(attempts, t.attempt) AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp())
           OR t.status = 'running' AND t.claim = token)
    RETURNING t.attempt, t.owner_id, t.expires_at, extract(epoch FROM t.started_at - t.run_at)::float8;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0011_partial_indexes")]

    operations = [migrations.RunSQL(CLAIM, statements.drop(CLAIM))]
