-- Stores one call: a live run and its message. Called by pressroom.sql.calls.insert.
--
-- `eta` and `expires` are absolute times; where one is null, `countdown` or `expire_in` counts in seconds from now.
-- Returns whether the call was stored: it is not if its Celery id belongs to a live run. With `must` it raises an error
-- instead, which ends the caller's transaction: a COMMIT in the same message is not reached. That costs less. No INSERT
-- reads a table, so each has only one plan, and the function needs no settings.
CREATE OR REPLACE FUNCTION taskruns_insert_one_2(
    the_id uuid, the_celery_id text, the_name text, the_queue text, the_priority smallint, the_owner bigint,
    the_headers text, the_body text, the_properties text, eta timestamptz, countdown float8,
    expires timestamptz, expire_in float8, must boolean
) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF must THEN
        INSERT INTO taskruns_liverun (id, celery_id, name, queue, priority, owner_id, status, created_at, run_at,
            expires_at, attempt, losses, misses, progress_message, error_type, error, traceback)
        VALUES (the_id, the_celery_id, the_name, the_queue, the_priority, the_owner, 'queued', clock_timestamp(),
            coalesce(eta, clock_timestamp() + make_interval(secs => countdown)),
            coalesce(expires, clock_timestamp() + make_interval(secs => expire_in)),
            0, 0, 0, '', '', '', '');
    ELSE
        INSERT INTO taskruns_liverun (id, celery_id, name, queue, priority, owner_id, status, created_at, run_at,
            expires_at, attempt, losses, misses, progress_message, error_type, error, traceback)
        VALUES (the_id, the_celery_id, the_name, the_queue, the_priority, the_owner, 'queued', clock_timestamp(),
            coalesce(eta, clock_timestamp() + make_interval(secs => countdown)),
            coalesce(expires, clock_timestamp() + make_interval(secs => expire_in)),
            0, 0, 0, '', '', '', '')
        ON CONFLICT (celery_id) DO NOTHING;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    INSERT INTO taskruns_taskcall (id, headers, body, properties)
    VALUES (the_id, the_headers, the_body, the_properties);
    RETURN true;
END $$;
