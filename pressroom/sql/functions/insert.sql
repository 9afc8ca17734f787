-- Stores calls: a live run and its message each, in the order given. Called by pressroom.sql.calls.insert.
--
-- Each parameter is an array with one element per call. `etas` and `expiries` are absolute times; where an element is
-- null, `countdowns` or `expire_in` counts in seconds from now. A call with a lane waits until the relay admits
-- it. Returns the ids that were stored: a call whose Celery
-- id belongs to a live run is left out. It reads no table, and joins the calls with those stored: by a hash, because a
-- nested loop would compare each call with each.
CREATE OR REPLACE FUNCTION taskruns_insert_2(
    ids uuid[], celery_ids text[], names text[], queues text[], priorities smallint[], owners bigint[],
    headers text[], bodies text[], properties text[], etas timestamptz[], countdowns float8[],
    expiries timestamptz[], expire_in float8[], lanes text[]
) RETURNS SETOF uuid
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_nestloop = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN QUERY
    WITH calls AS (
        SELECT * FROM unnest(ids, celery_ids, names, queues, priorities, owners, headers, bodies, properties, etas,
            countdowns, expiries, expire_in, lanes)
            AS m (id, celery_id, name, queue, priority, owner, headers, body, properties, eta, countdown, expires,
                expires_in, lane)
    ),
    live AS (
        INSERT INTO taskruns_liverun (id, celery_id, name, queue, priority, owner_id, status, created_at, run_at,
            expires_at, attempt, losses, misses, progress_message, error_type, error, traceback, lane, held)
        SELECT m.id, m.celery_id, m.name, m.queue, m.priority, m.owner, 'queued', clock_timestamp(),
            coalesce(m.eta, clock_timestamp() + make_interval(secs => m.countdown)),
            coalesce(m.expires, clock_timestamp() + make_interval(secs => m.expires_in)),
            0, 0, 0, '', '', '', '', m.lane, CASE WHEN m.lane IS NOT NULL THEN 1 END
        FROM calls m ON CONFLICT (celery_id) DO NOTHING RETURNING taskruns_liverun.id
    )
    INSERT INTO taskruns_taskcall (id, headers, body, properties)
    SELECT m.id, m.headers, m.body, m.properties FROM calls m JOIN live USING (id)
    RETURNING taskruns_taskcall.id;
END $$;
