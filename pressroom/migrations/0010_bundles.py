"""Ends and the next claims in one statement, with one wait for the disk."""

from importlib import import_module

from django.db import migrations

statements = import_module("pressroom.migrations.0009_statements")

EXCHANGE = f"""
CREATE FUNCTION taskruns_exchange_1(
    first uuid, token uuid, by_worker bigint, ids uuid[], results text[], called text[], began float8[],
    ended float8[], names text[], limits text, most integer
) RETURNS TABLE (
    id uuid, is_ended boolean, run_at timestamptz, attempt integer, owner_id bigint, expires_at timestamptz,
    waited float8, celery_id text, name text, headers text, body text, properties text
) {statements.PLANS} $$
#variable_conflict use_column
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
    IF most > 0 THEN
        -- The same of what it claimed: all that is ours by now.
        RETURN QUERY
        SELECT t.id, false, t.run_at, t.attempt, t.owner_id, t.expires_at,
            extract(epoch FROM t.started_at - t.run_at)::float8, t.celery_id, t.name, t.headers, t.body, t.properties
        FROM taskruns_taskrun t WHERE t.worker_id = by_worker AND t.status = 'running' AND t.claim = token;
        IF NOT FOUND THEN
            RETURN QUERY
            UPDATE taskruns_taskrun t
            SET status = 'running', claim = token, worker_id = by_worker, started_at = clock_timestamp(),
                published_at = clock_timestamp(), attempt = t.attempt + 1, progress_message = '', unknown_since = NULL
            FROM (
                SELECT head.id FROM (
                    SELECT t.id, t.name = ANY(names) AND t.losses = 0 AND strpos(t.headers, limits) > 0 AS fits
                    FROM (SELECT f.queue, f.priority FROM taskruns_taskrun f WHERE f.id = first) f
                    CROSS JOIN LATERAL (
                        SELECT t.id, t.name, t.losses, t.headers FROM taskruns_taskrun t
                        WHERE t.queue = f.queue AND t.status IN ('queued','retrying') AND t.published_at IS NULL
                          AND t.priority = f.priority AND t.run_at <= statement_timestamp()
                          AND (t.expires_at IS NULL OR t.expires_at > statement_timestamp())
                        ORDER BY t.run_at LIMIT most FOR UPDATE SKIP LOCKED
                    ) t
                ) head WHERE head.fits
            ) mine
            WHERE t.id = mine.id AND EXISTS (SELECT FROM taskruns_worker w WHERE w.id = by_worker AND w.dead_at IS NULL)
            RETURNING t.id, false, t.run_at, t.attempt, t.owner_id, t.expires_at,
                extract(epoch FROM t.started_at - t.run_at)::float8, t.celery_id, t.name, t.headers, t.body, t.properties;
        END IF;
    END IF;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0009_statements")]

    operations = [migrations.RunSQL(EXCHANGE, statements.drop(EXCHANGE))]
