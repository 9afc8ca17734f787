-- Claims a run for a worker. Called by pressroom.sql.runs.claim.
--
-- `token` is the claim, which fences every later write of this attempt. `attempts`, where given, is how often the run
-- had been claimed when its message was sent: a run that was claimed since is left alone. Returns one row, or none where
-- the run cannot be claimed: it is a duplicate, cancelled, finished, expired, held or not due, or its worker was declared
-- dead.
-- A repeat with the same token returns the same row: the answer to the first call may have been lost.
CREATE OR REPLACE FUNCTION taskruns_claim_2(run uuid, token uuid, by_worker bigint, attempts integer)
RETURNS TABLE (attempt integer, owner_id bigint, expires_at timestamptz, waited float8, lane text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    began timestamptz;
    its_queue text;
BEGIN
    -- Do not wait for the disk: whatever a crash of Postgres undoes of this is done again.
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE taskruns_liverun t
    SET status = 'running', claim = token, worker_id = by_worker, started_at = clock_timestamp(),
        attempt = t.attempt + (t.claim IS DISTINCT FROM token)::int, progress_message = '', unknown_since = NULL,
        -- The key of a call that is unique while it waits.
        unique_key = CASE WHEN t.unique_key LIKE 'w:%' THEN NULL ELSE t.unique_key END
    WHERE t.id = run
      AND EXISTS (SELECT FROM taskruns_worker w WHERE w.id = by_worker AND w.dead_at IS NULL)
      AND (t.status IN ('queued','retrying') AND t.held IS NULL AND t.run_at <= clock_timestamp()
           AND t.attempt = coalesce(attempts, t.attempt) AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp())
           OR t.status = 'running' AND t.claim = token)
    RETURNING t.attempt, t.owner_id::bigint, t.expires_at, extract(epoch FROM t.started_at - t.run_at)::float8, t.lane,
        t.started_at, t.queue
    INTO attempt, owner_id, expires_at, waited, lane, began, its_queue;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF lane IS NOT NULL THEN
        -- Its place was counted: a crash of Postgres must not give it to another run.
        PERFORM set_config('synchronous_commit', 'on', true);
        INSERT INTO taskruns_start (lane, at)
        SELECT CASE WHEN l.kind = 'task' THEN lane ELSE E'\x1f' || its_queue END, began FROM taskruns_limit l
        WHERE l.rate IS NOT NULL AND (l.kind = 'task' AND l.name = split_part(lane, E'\x1f', 1)
            OR l.kind = 'queue' AND l.name = its_queue);
    END IF;
    RETURN NEXT;
END $$;
