-- Writes the success of a claimed run. Called by pressroom.sql.ends.succeed.
--
-- `returned` and `called` are JSON: the task's result, and the results that it returned as children. Returns false where
-- the claim was lost: another worker has the run.
CREATE OR REPLACE FUNCTION taskruns_succeed_2(run uuid, token uuid, returned text, called text) RETURNS boolean
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    gone taskruns_liverun;
BEGIN
    DELETE FROM taskruns_liverun WHERE id = run AND claim = token AND status = 'running' RETURNING * INTO gone;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO taskruns_endedrun (status, finished_at, result, children, error_type, error, traceback,
        id, celery_id, name, queue, priority, owner_id, created_at, run_at, expires_at, published_at,
        started_at, attempt, losses, misses, unknown_since, claim, worker_id, cancel_requested_at, retry_of_id,
        progress_current, progress_total, progress_message)
    VALUES ('succeeded', clock_timestamp(), returned, called, '', '', '',
        gone.id, gone.celery_id, gone.name, gone.queue, gone.priority, gone.owner_id, gone.created_at, gone.run_at,
        gone.expires_at, gone.published_at, gone.started_at, gone.attempt, gone.losses, gone.misses,
        gone.unknown_since, gone.claim, gone.worker_id, gone.cancel_requested_at, gone.retry_of_id,
        gone.progress_current, gone.progress_total, gone.progress_message);
    IF gone.lane IS NOT NULL THEN
        INSERT INTO taskruns_freedplace (lane) VALUES (gone.lane);
    END IF;
    RETURN true;
END $$;
