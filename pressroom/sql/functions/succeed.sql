-- Writes the success of a claimed run. Called by pressroom.sql.ends.succeed.
--
-- `returned` and `called` are JSON: the task's result, and the results that it returned as children. Returns false where
-- the claim was lost: another worker has the run.
CREATE OR REPLACE FUNCTION taskruns_succeed_1(run uuid, token uuid, returned text, called text) RETURNS boolean
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    UPDATE taskruns_taskrun
    SET status = 'succeeded', result = returned, children = called, finished_at = clock_timestamp(),
        error_type = '', error = '', traceback = ''
    WHERE id = run AND claim = token AND status = 'running';
    RETURN FOUND;
END $$;
