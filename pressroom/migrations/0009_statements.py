"""The statements that every task needs, as functions: to plan one took longer than to run it, and their plans are kept.

Postgres keeps them a connection, through PgBouncer too, where a client's prepared statements do not work. A plan that
was made for an empty table would read the full one from end to end: so none reads the whole table. Nor is one compiled,
which takes a second each time, and is what Postgres does when it expects many rows.

A function is never changed, as old code may run on a newer schema: a new one has the next number.
"""

from django.db import migrations

PLANS = """
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS"""
# What a crash of Postgres may then undo is done again. Only of this transaction, which is the statement's own.
ASYNC = "PERFORM set_config('synchronous_commit', 'off', true);"

INSERT = f"""
CREATE FUNCTION taskruns_insert_1(
    ids uuid[], celery_ids text[], names text[], queues text[], priorities smallint[], owners bigint[],
    headers text[], bodies text[], properties text[], etas timestamptz[], countdowns float8[],
    expiries timestamptz[], expire_in float8[]
) RETURNS SETOF uuid {PLANS} $$
BEGIN
    RETURN QUERY
    INSERT INTO taskruns_taskrun (id, celery_id, name, queue, priority, owner_id, status, headers, body, properties,
        created_at, run_at, expires_at,
        attempt, losses, progress_message, error_type, error, traceback)
    SELECT m.id, m.celery_id, m.name, m.queue, m.priority, m.owner, 'queued', m.headers, m.body, m.properties,
        clock_timestamp(), coalesce(m.eta, clock_timestamp() + make_interval(secs => m.countdown)),
        coalesce(m.expires, clock_timestamp() + make_interval(secs => m.expires_in)),
        0, 0, '', '', '', ''
    FROM unnest(ids, celery_ids, names, queues, priorities, owners, headers, bodies, properties, etas, countdowns,
        expiries, expire_in)
        AS m (id, celery_id, name, queue, priority, owner, headers, body, properties, eta, countdown, expires,
            expires_in)
    ON CONFLICT (celery_id) WHERE status IN ('queued','retrying','running') DO NOTHING RETURNING taskruns_taskrun.id;
END $$
"""

CLAIM = f"""
CREATE FUNCTION taskruns_claim_1(run uuid, token uuid, by_worker bigint, attempts integer)
RETURNS TABLE (claimed_attempt integer, claimed_owner bigint, claimed_expires_at timestamptz) {PLANS} $$
BEGIN
    {ASYNC}
    RETURN QUERY
    UPDATE taskruns_taskrun t
    SET status = 'running', claim = token, worker_id = by_worker, started_at = clock_timestamp(),
        attempt = t.attempt + (t.claim IS DISTINCT FROM token)::int, progress_message = '', unknown_since = NULL
    WHERE t.id = run
      AND EXISTS (SELECT FROM taskruns_worker w WHERE w.id = by_worker AND w.dead_at IS NULL)
      AND (t.status IN ('queued','retrying') AND t.run_at <= clock_timestamp()
           AND t.attempt = coalesce(attempts, t.attempt) AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp())
           OR t.status = 'running' AND t.claim = token)
    RETURNING t.attempt, t.owner_id, t.expires_at;
END $$
"""

SUCCEED = f"""
CREATE FUNCTION taskruns_succeed_1(run uuid, token uuid, returned text, called text) RETURNS boolean {PLANS} $$
BEGIN
    UPDATE taskruns_taskrun
    SET status = 'succeeded', result = returned, children = called, finished_at = clock_timestamp(),
        error_type = '', error = '', traceback = ''
    WHERE id = run AND claim = token AND status = 'running';
    RETURN FOUND;
END $$
"""

_UNPUBLISHED = "t.queue = room.name AND t.status IN ('queued','retrying') AND t.published_at IS NULL"
# Not clock_timestamp(), which no index can be asked for: every run that is due some other day would be read.
_DUE = f"""
    SELECT t.id, t.priority, t.run_at FROM taskruns_taskrun t
    WHERE {_UNPUBLISHED} AND t.run_at <= statement_timestamp()
      AND (t.expires_at IS NULL OR t.expires_at > statement_timestamp())
"""
TAKE_DUE = f"""
CREATE FUNCTION taskruns_take_due_1(names text[], windows integer[])
RETURNS TABLE (priority smallint, run_at timestamptz, id uuid, queue text, headers text, body text, properties text,
    losses integer, attempt integer, name text) {PLANS} $$
#variable_conflict use_column
BEGIN
    {ASYNC}
    RETURN QUERY
    WITH q AS (SELECT * FROM unnest(names, windows) AS q (name, places)),
    room AS (
        SELECT q.name, q.places - (SELECT count(*) FROM taskruns_taskrun t WHERE t.queue = q.name
               AND t.status IN ('queued','retrying') AND t.published_at IS NOT NULL) AS places,
            (NOT EXISTS (SELECT FROM taskruns_taskrun t WHERE t.queue = q.name
               AND t.status IN ('queued','retrying','running')
               AND t.losses >= 2 AND (t.status = 'running' OR t.published_at IS NOT NULL)
            ))::int AS suspects
        FROM q
    ),
    due AS (
        SELECT d.id FROM room CROSS JOIN LATERAL (
            -- The index gives the due ones of one priority, so each is asked by itself.
            WITH RECURSIVE p (priority) AS (
                SELECT min(t.priority) FROM taskruns_taskrun t WHERE {_UNPUBLISHED}
                UNION ALL
                SELECT (SELECT min(t.priority) FROM taskruns_taskrun t
                        WHERE {_UNPUBLISHED} AND t.priority > p.priority)
                FROM p WHERE p.priority IS NOT NULL
            )
            SELECT one.id FROM p CROSS JOIN LATERAL (
                {_DUE} AND t.priority = p.priority AND t.losses < 2
                ORDER BY t.run_at LIMIT greatest(room.places, 0) FOR UPDATE SKIP LOCKED
            ) one
            ORDER BY one.priority, one.run_at LIMIT greatest(room.places, 0)
        ) d
    ),
    suspect AS (
        SELECT d.id FROM room CROSS JOIN LATERAL (
            {_DUE} AND t.losses >= 2
            ORDER BY t.priority, t.run_at LIMIT room.suspects FOR UPDATE SKIP LOCKED
        ) d
    )
    UPDATE taskruns_taskrun t SET published_at = clock_timestamp()
    FROM (SELECT due.id FROM due UNION ALL SELECT suspect.id FROM suspect) chosen WHERE t.id = chosen.id
    RETURNING t.priority, t.run_at, t.id, t.queue, t.headers, t.body, t.properties, t.losses, t.attempt, t.name;
END $$
"""


def drop(function: str) -> str:
    return f"DROP FUNCTION {function.split()[2].partition('(')[0]}"


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0008_no_proxy_of_dead_letters")]

    operations = [migrations.RunSQL(function, drop(function)) for function in (INSERT, CLAIM, SUCCEED, TAKE_DUE)]
