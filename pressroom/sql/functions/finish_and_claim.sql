-- Ends a slot's finished runs and claims the next ones of a backlog, in one round trip. Called by
-- pressroom.sql.backlog.finish_and_claim; why: docs/decisions/0016-the-next-run-comes-from-the-ledger.md.
--
-- `token` is the claim of the message that the slot had, under which everything here happens. `its_queue` and
-- `its_priority` are where that message waited.
-- `ids`, `results`, `called`, `began` and `ended` have one element per success: its run, its result and children as
-- JSON, and how many seconds ago it began and ended. `names` are the tasks that the slot may run, `revoked` the Celery
-- ids that it must leave alone, `limits` the time limits as they stand in the headers, `most` how many runs to claim.
-- None of `ids` has a lane, because a slot takes no run with a limit, so their ends free no place.
-- Returns the ended runs (is_ended) and the claimed ones, with those of an earlier call whose answer was lost.
CREATE OR REPLACE FUNCTION taskruns_finish_and_claim_3(
    token uuid, by_worker bigint, its_queue text, its_priority smallint, ids uuid[], results text[], called text[],
    began float8[], ended float8[], names text[], revoked text[], limits text, most integer
) RETURNS TABLE (
    id uuid, is_ended boolean, run_at timestamptz, attempt integer, owner_id bigint, expires_at timestamptz,
    waited float8, celery_id text, name text, headers text, body text, properties text
)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    has_ended boolean;
    more_urgent smallint;
    paused text[];
BEGIN
    IF ids = '{}' THEN
        -- Do not wait for the disk: whatever a crash of Postgres undoes of this is done again.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    RETURN QUERY
    WITH gone AS (
        DELETE FROM taskruns_liverun t WHERE t.id = ANY(ids) AND t.claim = token AND t.status = 'running'
        RETURNING t.*
    )
    INSERT INTO taskruns_endedrun (status, result, children, error_type, error, traceback, started_at, finished_at,
        id, celery_id, name, queue, priority, owner_id, created_at, run_at, expires_at, published_at,
        attempt, losses, misses, unknown_since, claim, worker_id, cancel_requested_at, retry_of_id,
        progress_current, progress_total, progress_message)
    SELECT 'succeeded', m.result, m.children, '', '', '',
        clock_timestamp() - make_interval(secs => m.began), clock_timestamp() - make_interval(secs => m.ended),
        t.id, t.celery_id, t.name, t.queue, t.priority, t.owner_id, t.created_at, t.run_at, t.expires_at, t.published_at,
        t.attempt, t.losses, t.misses, t.unknown_since, t.claim, t.worker_id, t.cancel_requested_at, t.retry_of_id,
        t.progress_current, t.progress_total, t.progress_message
    FROM gone t JOIN unnest(ids, results, called, began, ended) AS m (id, result, children, began, ended) USING (id)
    RETURNING taskruns_endedrun.id, true, taskruns_endedrun.run_at, NULL::integer, NULL::bigint, NULL::timestamptz,
        NULL::float8, NULL, NULL, NULL, NULL, NULL;
    has_ended := FOUND;
    IF has_ended AND 5 < ANY(ended) THEN
        -- The figures of the time in which they ended may have been counted: see pressroom.sql.figures.
        INSERT INTO taskruns_uncountedrun (run_id, is_deleted, queue, name, status, run_at, started_at, finished_at)
        SELECT t.id, false, t.queue, t.name, t.status, t.run_at, t.started_at, t.finished_at
        FROM unnest(ids, ended) AS m (id, ended) JOIN taskruns_endedrun t ON t.id = m.id
        WHERE m.ended > 5 AND t.claim = token;
    END IF;
    IF NOT has_ended THEN
        -- The answer to an earlier call may have been lost. Return what it ended.
        RETURN QUERY
        SELECT t.id, true, t.run_at, NULL::integer, NULL::bigint, NULL::timestamptz, NULL::float8,
            NULL, NULL, NULL, NULL, NULL
        FROM unnest(ids) AS m (id) JOIN taskruns_endedrun t ON t.id = m.id
        WHERE t.claim = token AND t.status = 'succeeded';
    END IF;
    IF most = 0 THEN
        RETURN;
    END IF;
    IF NOT has_ended THEN
        -- Return what it claimed.
        RETURN QUERY
        SELECT t.id, false, t.run_at, t.attempt, t.owner_id::bigint, t.expires_at,
            extract(epoch FROM t.started_at - t.run_at)::float8, t.celery_id, t.name, c.headers, c.body, c.properties
        FROM taskruns_liverun t JOIN taskruns_taskcall c ON c.id = t.id
        WHERE t.worker_id = by_worker AND t.status = 'running' AND t.claim = token;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    -- A run that is more urgent and due goes first.
    SELECT min(t.priority), (SELECT array_agg(p.kind || ' ' || p.name) FROM taskruns_pause p)
    INTO more_urgent, paused FROM taskruns_liverun t
    WHERE t.queue = its_queue AND t.status IN ('queued','retrying') AND t.published_at IS NULL
      AND t.held IS NULL AND t.priority < its_priority;
    IF paused IS NOT NULL THEN
        IF 'queue ' || its_queue = ANY(paused) THEN
            RETURN;
        END IF;
        names := ARRAY(SELECT n FROM unnest(names) n WHERE NOT 'task ' || n = ANY(paused));
    END IF;
    WHILE more_urgent IS NOT NULL LOOP
        IF EXISTS (
            SELECT FROM taskruns_liverun t
            WHERE t.queue = its_queue AND t.status IN ('queued','retrying') AND t.published_at IS NULL
              AND t.held IS NULL AND t.priority = more_urgent AND t.run_at <= statement_timestamp()
              AND (t.expires_at IS NULL OR t.expires_at > statement_timestamp())
        ) THEN
            its_priority := more_urgent;
            EXIT;
        END IF;
        SELECT min(t.priority) INTO more_urgent FROM taskruns_liverun t
        WHERE t.queue = its_queue AND t.status IN ('queued','retrying') AND t.published_at IS NULL
          AND t.held IS NULL AND t.priority > more_urgent AND t.priority < its_priority;
    END LOOP;
    RETURN QUERY
    WITH claimed AS (
        UPDATE taskruns_liverun t
        SET status = 'running', claim = token, worker_id = by_worker, started_at = clock_timestamp(),
            published_at = clock_timestamp(), attempt = t.attempt + 1, progress_message = '', unknown_since = NULL,
            unique_key = CASE WHEN t.unique_key LIKE 'w:%' THEN NULL ELSE t.unique_key END
        FROM (
            SELECT head.id FROM (
                -- Not clock_timestamp(), which an index cannot be asked for: it would read each run that is due later.
                SELECT t.id, t.name, t.losses, t.celery_id, t.lane FROM taskruns_liverun t
                WHERE t.queue = its_queue AND t.status IN ('queued','retrying') AND t.published_at IS NULL
                  AND t.held IS NULL AND t.priority = its_priority AND t.run_at <= statement_timestamp()
                  AND (t.expires_at IS NULL OR t.expires_at > statement_timestamp())
                ORDER BY t.run_at LIMIT most FOR UPDATE SKIP LOCKED
            ) head JOIN taskruns_taskcall c ON c.id = head.id
            WHERE head.name = ANY(names) AND head.losses = 0 AND head.lane IS NULL AND strpos(c.headers, limits) > 0
              AND NOT head.celery_id = ANY(revoked)
        ) mine
        WHERE t.id = mine.id AND EXISTS (SELECT FROM taskruns_worker w WHERE w.id = by_worker AND w.dead_at IS NULL)
        RETURNING t.*
    )
    SELECT t.id, false, t.run_at, t.attempt, t.owner_id::bigint, t.expires_at,
        extract(epoch FROM t.started_at - t.run_at)::float8, t.celery_id, t.name, c.headers, c.body, c.properties
    FROM claimed t JOIN taskruns_taskcall c ON c.id = t.id;
END $$;
