-- Marks due runs as published, for the relay. Called by pressroom.sql.dispatch.take_due.
--
-- `names` are queues and `windows` how many published and unclaimed runs each may have. The most urgent and longest due
-- runs come first. Of a queue's suspects (two losses or more) one is out at a time, so that a run which only ran beside
-- the one that kills the workers does not become a dead letter with it. Leaves out paused queues and tasks: see hold.sql.
-- Admits runs with a limit first: see admit.sql. Returns what the relay makes messages of.
CREATE OR REPLACE FUNCTION taskruns_take_due_4(names text[], windows integer[])
RETURNS TABLE (priority smallint, run_at timestamptz, id uuid, queue text, headers text, body text, properties text,
    losses integer, attempt integer, name text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    stopped text[] := '{}';
BEGIN
    -- Do not wait for the disk: whatever a crash of Postgres undoes of this is done again.
    PERFORM set_config('synchronous_commit', 'off', true);
    -- Whoever pauses excludes this statement, so that it cannot publish afterwards what it read before.
    PERFORM pg_advisory_xact_lock_shared(482804169573);
    IF EXISTS (SELECT FROM taskruns_pause) OR EXISTS (SELECT FROM taskruns_liverun t WHERE t.held = 3) THEN
        stopped := taskruns_hold_1(names);
    END IF;
    IF EXISTS (SELECT FROM taskruns_lane)
        OR EXISTS (
            SELECT FROM unnest(names) AS q (name) WHERE EXISTS (
                SELECT FROM taskruns_liverun t
                WHERE t.held = 1 AND t.queue = q.name AND t.run_at <= statement_timestamp()
            )
        )
    THEN
        PERFORM taskruns_admit_3(names, windows, stopped);
    END IF;
    RETURN QUERY
    WITH q AS (
        SELECT * FROM unnest(names, windows) AS q (name, places)
        WHERE NOT EXISTS (SELECT FROM taskruns_pause p WHERE p.kind = 'queue' AND p.name = q.name)
    ),
    room AS (
        SELECT q.name, q.places - (SELECT count(*) FROM taskruns_liverun t WHERE t.queue = q.name
               AND t.status IN ('queued','retrying') AND t.published_at IS NOT NULL) AS places,
            (NOT EXISTS (SELECT FROM taskruns_liverun t WHERE t.queue = q.name
               AND t.losses >= 2 AND (t.status = 'running' OR t.published_at IS NOT NULL)
            ))::int AS suspects
        FROM q
    ),
    due AS (
        SELECT d.id FROM room CROSS JOIN LATERAL (
            -- The index gives the due runs of one priority, so each priority is asked by itself.
            WITH RECURSIVE p (priority) AS (
                SELECT min(t.priority) FROM taskruns_liverun t
                WHERE t.queue = room.name AND t.status IN ('queued','retrying') AND t.published_at IS NULL
                  AND t.held IS NULL
                UNION ALL
                SELECT (
                    SELECT min(t.priority) FROM taskruns_liverun t
                    WHERE t.queue = room.name AND t.status IN ('queued','retrying') AND t.published_at IS NULL
                  AND t.held IS NULL
                      AND t.priority > p.priority
                )
                FROM p WHERE p.priority IS NOT NULL
            )
            SELECT one.id FROM p CROSS JOIN LATERAL (
                -- Not clock_timestamp(), which an index cannot be asked for: it would read each run that is due later.
                SELECT t.id, t.name, t.priority, t.run_at FROM taskruns_liverun t
                WHERE t.queue = room.name AND t.status IN ('queued','retrying') AND t.published_at IS NULL
                  AND t.held IS NULL
                  AND t.run_at <= statement_timestamp()
                  AND (t.expires_at IS NULL OR t.expires_at > statement_timestamp())
                  AND t.priority = p.priority AND t.losses < 2
                ORDER BY t.run_at LIMIT greatest(room.places, 0) FOR UPDATE SKIP LOCKED
            ) one
            -- Outside of the limit: paused runs at the head must not cause a search through all that are behind them.
            WHERE NOT one.name = ANY(stopped)
            ORDER BY one.priority, one.run_at LIMIT greatest(room.places, 0)
        ) d
    ),
    suspect AS (
        SELECT d.id FROM room CROSS JOIN LATERAL (
            SELECT t.id, t.priority, t.run_at FROM taskruns_liverun t
            WHERE t.queue = room.name AND t.status IN ('queued','retrying') AND t.published_at IS NULL
                  AND t.held IS NULL
              AND t.run_at <= statement_timestamp()
              AND (t.expires_at IS NULL OR t.expires_at > statement_timestamp())
              AND t.losses >= 2 AND NOT t.name = ANY(stopped)
            ORDER BY t.priority, t.run_at LIMIT room.suspects FOR UPDATE SKIP LOCKED
        ) d
    ),
    marked AS (
        UPDATE taskruns_liverun t SET published_at = clock_timestamp()
        FROM (SELECT due.id FROM due UNION ALL SELECT suspect.id FROM suspect) chosen WHERE t.id = chosen.id
        RETURNING t.priority, t.run_at, t.id, t.queue, t.losses, t.attempt, t.name
    )
    SELECT m.priority, m.run_at, m.id, m.queue, c.headers, c.body, c.properties, m.losses, m.attempt, m.name
    FROM marked m JOIN taskruns_taskcall c ON c.id = m.id;
END $$;
