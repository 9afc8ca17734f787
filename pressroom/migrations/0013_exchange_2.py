"""What a slot takes next: what is more urgent than its own goes first, and what was revoked by id is left alone."""

from importlib import import_module

from django.db import migrations

statements = import_module("pressroom.migrations.0009_statements")

# As the relay's: each priority by itself, for that is what the index gives.
_WAITING = "t.queue = its_queue AND t.status IN ('queued','retrying') AND t.published_at IS NULL"
_DUE = """
    t.run_at <= statement_timestamp() AND (t.expires_at IS NULL OR t.expires_at > statement_timestamp())
"""

EXCHANGE = f"""
CREATE FUNCTION taskruns_exchange_2(
    first uuid, token uuid, by_worker bigint, ids uuid[], results text[], called text[], began float8[],
    ended float8[], names text[], revoked text[], limits text, most integer
) RETURNS TABLE (
    id uuid, is_ended boolean, run_at timestamptz, attempt integer, owner_id bigint, expires_at timestamptz,
    waited float8, celery_id text, name text, headers text, body text, properties text
) {statements.PLANS} $$
#variable_conflict use_column
DECLARE
    its_queue text;
    its_priority smallint;
    more_urgent smallint;
BEGIN
    IF ids = '{{}}' THEN
        {statements.ASYNC}
    END IF;
    UPDATE taskruns_taskrun t
    SET status = 'succeeded', result = m.result, children = m.children, error_type = '', error = '', traceback = '',
        started_at = clock_timestamp() - make_interval(secs => m.began),
        finished_at = clock_timestamp() - make_interval(secs => m.ended)
    FROM unnest(ids, results, called, began, ended) AS m (id, result, children, began, ended)
    WHERE t.id = m.id AND t.claim = token AND t.status = 'running';
    -- Also those that an earlier call ended whose answer was lost.
    RETURN QUERY
    SELECT t.id, true, t.run_at, NULL::integer, NULL::bigint, NULL::timestamptz, NULL::float8, NULL, NULL, NULL, NULL, NULL
    FROM unnest(ids) AS m (id) JOIN taskruns_taskrun t ON t.id = m.id
    WHERE t.claim = token AND t.status = 'succeeded';
    IF most = 0 THEN
        RETURN;
    END IF;
    -- The same of what it claimed: all that is ours by now.
    RETURN QUERY
    SELECT t.id, false, t.run_at, t.attempt, t.owner_id, t.expires_at,
        extract(epoch FROM t.started_at - t.run_at)::float8, t.celery_id, t.name, t.headers, t.body, t.properties
    FROM taskruns_taskrun t WHERE t.worker_id = by_worker AND t.status = 'running' AND t.claim = token;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT t.queue, t.priority INTO its_queue, its_priority FROM taskruns_taskrun t WHERE t.id = first;
    SELECT min(t.priority) INTO more_urgent FROM taskruns_taskrun t WHERE {_WAITING} AND t.priority < its_priority;
    WHILE more_urgent IS NOT NULL LOOP
        IF EXISTS (SELECT FROM taskruns_taskrun t WHERE {_WAITING} AND t.priority = more_urgent AND {_DUE}) THEN
            its_priority := more_urgent;
            EXIT;
        END IF;
        SELECT min(t.priority) INTO more_urgent FROM taskruns_taskrun t
        WHERE {_WAITING} AND t.priority > more_urgent AND t.priority < its_priority;
    END LOOP;
    RETURN QUERY
    UPDATE taskruns_taskrun t
    SET status = 'running', claim = token, worker_id = by_worker, started_at = clock_timestamp(),
        published_at = clock_timestamp(), attempt = t.attempt + 1, progress_message = '', unknown_since = NULL
    FROM (
        SELECT head.id FROM (
            SELECT t.id, t.name, t.losses, t.headers, t.celery_id FROM taskruns_taskrun t
            WHERE {_WAITING} AND t.priority = its_priority AND {_DUE}
            ORDER BY t.run_at LIMIT most FOR UPDATE SKIP LOCKED
        ) head
        WHERE head.name = ANY(names) AND head.losses = 0 AND strpos(head.headers, limits) > 0
          AND NOT head.celery_id = ANY(revoked)
    ) mine
    WHERE t.id = mine.id AND EXISTS (SELECT FROM taskruns_worker w WHERE w.id = by_worker AND w.dead_at IS NULL)
    RETURNING t.id, false, t.run_at, t.attempt, t.owner_id, t.expires_at,
        extract(epoch FROM t.started_at - t.run_at)::float8, t.celery_id, t.name, t.headers, t.body, t.properties;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0012_claim_waited")]

    operations = [migrations.RunSQL(EXCHANGE, statements.drop(EXCHANGE))]
