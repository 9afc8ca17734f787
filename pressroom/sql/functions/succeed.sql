-- Writes the success of a claimed run. Called by pressroom.sql.ends.succeed.
--
-- `returned` and `called` are JSON: the task's result, and the results that it returned as children. Returns false where
-- the claim was lost: another worker has the run.
CREATE OR REPLACE FUNCTION taskruns_succeed_1(run uuid, token uuid, returned text, called text) RETURNS boolean
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    WITH gone AS (DELETE FROM taskruns_liverun WHERE id = run AND claim = token AND status = 'running' RETURNING *)
    INSERT INTO taskruns_endedrun (status, finished_at, result, children, error_type, error, traceback,
        id, celery_id, name, queue, priority, owner_id, created_at, run_at, expires_at, published_at,
        started_at, attempt, losses, misses, unknown_since, claim, worker_id, cancel_requested_at, retry_of_id,
        progress_current, progress_total, progress_message)
    SELECT 'succeeded', clock_timestamp(), returned, called, '', '', '',
        id, celery_id, name, queue, priority, owner_id, created_at, run_at, expires_at, published_at,
        started_at, attempt, losses, misses, unknown_since, claim, worker_id, cancel_requested_at, retry_of_id,
        progress_current, progress_total, progress_message
    FROM gone;
    RETURN FOUND;
END $$;
