-- Claims a run with a limit for a worker, as claim.sql does, and notes its start if the limit is a rate. Called by
-- pressroom.sql.runs.claim, within taskruns_claim_3.
--
-- The two have one UPDATE each. To read its row here takes longer than to return it, and a run without a limit does not
-- pay for that. In one function the claim took 2 % more of what a task costs.
CREATE OR REPLACE FUNCTION taskruns_claim_limited_1(run uuid, token uuid, by_worker bigint, attempts integer)
RETURNS TABLE (attempt integer, owner_id bigint, expires_at timestamptz, waited float8, lane text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    began timestamptz;
    its_queue text;
BEGIN
    UPDATE taskruns_liverun t
    SET status = 'running', claim = token, worker_id = by_worker, started_at = clock_timestamp(),
        attempt = t.attempt + (t.claim IS DISTINCT FROM token)::int, progress_message = '', unknown_since = NULL,
        -- The key of a call that is unique while it waits.
        unique_key = CASE WHEN t.unique_key LIKE 'w:%' THEN NULL ELSE t.unique_key END
    WHERE t.id = run AND t.lane IS NOT NULL
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
    -- Its place was counted: a crash of Postgres must not give it to another run.
    PERFORM set_config('synchronous_commit', 'on', true);
    INSERT INTO taskruns_start (lane, at)
    SELECT CASE WHEN l.kind = 'task' THEN lane ELSE E'\x1f' || its_queue END, began FROM taskruns_limit l
    WHERE l.rate IS NOT NULL AND (l.kind = 'task' AND l.name = split_part(lane, E'\x1f', 1)
        OR l.kind = 'queue' AND l.name = its_queue);
    RETURN NEXT;
END $$;
