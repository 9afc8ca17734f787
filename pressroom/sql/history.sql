-- The tables that are only appended to, and the view of live and ended runs. Loaded by pressroom.sql.history.create.
--
-- A partition holds the runs of one day by their keys, which begin with the time of the call (UUIDv7). Retention drops
-- it as a whole. Each row that no partition takes goes to the default one, and an alert says so.
CREATE TABLE taskruns_taskcall (
    id uuid PRIMARY KEY,
    headers text NOT NULL,
    body text NOT NULL,
    properties text NOT NULL
) PARTITION BY RANGE (id);
CREATE TABLE taskruns_taskcall_default PARTITION OF taskruns_taskcall DEFAULT;

CREATE TABLE taskruns_endedrun (
    LIKE taskruns_liverun,
    finished_at timestamptz NOT NULL,
    children text,
    PRIMARY KEY (id),
    -- Postgres need not look here for a run that is live, nor among the live runs for one that has ended.
    CONSTRAINT endedrun_status CHECK (status NOT IN ('queued', 'retrying', 'running'))
) PARTITION BY RANGE (id);
CREATE INDEX endedrun_celery_id ON taskruns_endedrun (celery_id);
CREATE INDEX endedrun_name ON taskruns_endedrun (name, id);
CREATE INDEX endedrun_owner ON taskruns_endedrun (owner_id, id) WHERE owner_id IS NOT NULL;
CREATE INDEX endedrun_retry_of ON taskruns_endedrun (retry_of_id) WHERE retry_of_id IS NOT NULL;
CREATE INDEX endedrun_dead ON taskruns_endedrun (queue) WHERE status = 'dead';
CREATE INDEX endedrun_finished ON taskruns_endedrun (queue, finished_at) INCLUDE (status, run_at, started_at);
-- Statuses outside the usual course of a run are rare, so they have an index of their own.
CREATE INDEX endedrun_notable ON taskruns_endedrun (status, id) INCLUDE (queue, name, error_type)
    WHERE status <> 'succeeded';
CREATE TABLE taskruns_endedrun_default PARTITION OF taskruns_endedrun DEFAULT;

CREATE SEQUENCE taskruns_taskattempt_id_seq;
CREATE TABLE taskruns_taskattempt (
    id bigint NOT NULL DEFAULT nextval('taskruns_taskattempt_id_seq'),
    number integer NOT NULL,
    outcome text NOT NULL,
    worker_name text NOT NULL,
    started_at timestamptz,
    finished_at timestamptz NOT NULL,
    error_type text NOT NULL,
    error text NOT NULL,
    traceback text NOT NULL,
    run_id uuid NOT NULL,
    PRIMARY KEY (run_id, id)
) PARTITION BY RANGE (run_id);
ALTER SEQUENCE taskruns_taskattempt_id_seq OWNED BY taskruns_taskattempt.id;
CREATE TABLE taskruns_taskattempt_default PARTITION OF taskruns_taskattempt DEFAULT;

CREATE VIEW taskruns_taskrun AS
SELECT id, celery_id, name, queue, priority, status, owner_id, created_at, run_at, expires_at, published_at, started_at,
    NULL::timestamptz AS finished_at, attempt, losses, misses, unknown_since, claim, worker_id, cancel_requested_at,
    retry_of_id, progress_current, progress_total, progress_message, result, NULL::text AS children, error_type, error,
    traceback
FROM taskruns_liverun
UNION ALL
SELECT id, celery_id, name, queue, priority, status, owner_id, created_at, run_at, expires_at, published_at, started_at,
    finished_at, attempt, losses, misses, unknown_since, claim, worker_id, cancel_requested_at,
    retry_of_id, progress_current, progress_total, progress_message, result, children, error_type, error, traceback
FROM taskruns_endedrun;
