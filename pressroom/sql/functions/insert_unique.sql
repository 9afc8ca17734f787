-- Stores a unique call, unless another one has its key. Called by pressroom.sql.calls.insert_unique.
--
-- `key` is unique among the live runs, or, with `period`, for as many seconds from now. The other parameters are those of
-- insert.sql. Returns the Celery id of the call that has the key: this one, or an earlier one, and then nothing is
-- stored. If a transaction that has not ended stored the earlier one, waits for its end: it may be rolled back.
CREATE OR REPLACE FUNCTION taskruns_insert_unique_1(
    id uuid, celery_id text, name text, queue text, priority smallint, owner bigint, headers text, body text,
    properties text, eta timestamptz, countdown float8, expires timestamptz, expire_in float8, key text, period float8,
    lane text
) RETURNS text
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_variable
DECLARE
    first text;
    ends_at timestamptz;
BEGIN
    LOOP
        IF period IS NULL THEN
            SELECT t.celery_id INTO first FROM taskruns_liverun t WHERE t.unique_key = key;
            IF FOUND THEN
                RETURN first;
            END IF;
        ELSE
            INSERT INTO taskruns_uniquecall AS u (key, celery_id, ends_at)
            VALUES (key, celery_id, clock_timestamp() + make_interval(secs => period)) ON CONFLICT DO NOTHING;
            IF NOT FOUND THEN
                SELECT u.celery_id, u.ends_at INTO first, ends_at FROM taskruns_uniquecall u WHERE u.key = key;
                IF FOUND AND ends_at > clock_timestamp() THEN
                    RETURN first;
                END IF;
                DELETE FROM taskruns_uniquecall u WHERE u.key = key AND u.ends_at <= clock_timestamp();
                CONTINUE;
            END IF;
        END IF;
        INSERT INTO taskruns_liverun (id, celery_id, name, queue, priority, owner_id, status, created_at, run_at,
            expires_at, attempt, losses, misses, progress_message, error_type, error, traceback, unique_key,
            lane, held)
        VALUES (id, celery_id, name, queue, priority, owner, 'queued', clock_timestamp(),
            coalesce(eta, clock_timestamp() + make_interval(secs => countdown)),
            coalesce(expires, clock_timestamp() + make_interval(secs => expire_in)),
            0, 0, 0, '', '', '', '', CASE WHEN period IS NULL THEN key END,
            lane, CASE WHEN lane IS NOT NULL THEN 1 END)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            INSERT INTO taskruns_taskcall (id, headers, body, properties) VALUES (id, headers, body, properties);
            RETURN celery_id;
        END IF;
        -- Another transaction has stored the key in the meantime, or the id is that of a live run.
        IF EXISTS (SELECT FROM taskruns_liverun t WHERE t.celery_id = celery_id) THEN
            RETURN NULL;
        END IF;
    END LOOP;
END $$;
