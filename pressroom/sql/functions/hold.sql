-- Sets aside the runs of paused tasks, and releases those whose pause is over. Called by
-- pressroom.sql.dispatch.take_due, within taskruns_take_due_4; why: docs/decisions/0028-flow-control.md.
--
-- `names` are the queues to look at. It holds (held = 3) the runs of paused tasks that it finds at the head of each queue,
-- some thousands at a time. What is due later or stands further back is found when it gets there. Returns the paused
-- tasks.
CREATE OR REPLACE FUNCTION taskruns_hold_1(names text[]) RETURNS text[]
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    stopped text[];
    one record;
    found_runs integer;
    met uuid[];
BEGIN
    FOR one IN
        -- The index orders the held runs by queue and task: ask for one pair after the other.
        WITH RECURSIVE pair (queue, name) AS (
            (SELECT t.queue, t.name FROM taskruns_liverun t WHERE t.held = 3 ORDER BY t.queue, t.name LIMIT 1)
            UNION ALL
            SELECT n.queue, n.name FROM pair CROSS JOIN LATERAL (
                SELECT t.queue, t.name FROM taskruns_liverun t
                WHERE t.held = 3 AND (t.queue, t.name) > (pair.queue, pair.name)
                ORDER BY t.queue, t.name LIMIT 1
            ) n
        )
        SELECT pair.queue, pair.name FROM pair
        WHERE NOT EXISTS (SELECT FROM taskruns_pause p WHERE p.kind = 'queue' AND p.name = pair.queue)
          AND NOT EXISTS (SELECT FROM taskruns_pause p WHERE p.kind = 'task' AND p.name = pair.name)
    LOOP
        UPDATE taskruns_liverun t SET held = CASE WHEN t.lane IS NOT NULL THEN 1 END
        FROM (
            SELECT t.id FROM taskruns_liverun t WHERE t.held = 3 AND t.queue = one.queue AND t.name = one.name
            ORDER BY t.run_at LIMIT 5000 FOR UPDATE SKIP LOCKED
        ) over WHERE t.id = over.id;
    END LOOP;
    stopped := ARRAY(SELECT p.name FROM taskruns_pause p WHERE p.kind = 'task');
    IF stopped = '{}' THEN
        RETURN stopped;
    END IF;
    FOR one IN
        SELECT q.name, p.priority FROM unnest(names) AS q (name) CROSS JOIN LATERAL (
            WITH RECURSIVE p (priority) AS (
                SELECT min(t.priority) FROM taskruns_liverun t
                WHERE t.queue = q.name AND t.status IN ('queued','retrying') AND t.published_at IS NULL
                  AND t.held IS NULL
                UNION ALL
                SELECT (
                    SELECT min(t.priority) FROM taskruns_liverun t
                    WHERE t.queue = q.name AND t.status IN ('queued','retrying') AND t.published_at IS NULL
                      AND t.held IS NULL AND t.priority > p.priority
                )
                FROM p WHERE p.priority IS NOT NULL
            )
            SELECT p.priority FROM p WHERE p.priority IS NOT NULL
        ) p
    LOOP
        -- As many as the largest window at a time, as long as there are any. As an array, because the plan of a join
        -- compared each of them with each.
        FOR round IN 1..10 LOOP
            met := ARRAY(
                SELECT t.id FROM (
                    SELECT t.id, t.name FROM taskruns_liverun t
                    WHERE t.queue = one.name AND t.status IN ('queued','retrying') AND t.published_at IS NULL
                      AND t.held IS NULL AND t.priority = one.priority AND t.run_at <= statement_timestamp()
                    ORDER BY t.run_at LIMIT 2000
                ) t WHERE t.name = ANY(stopped)
            );
            met := ARRAY(
                SELECT t.id FROM taskruns_liverun t
                WHERE t.id = ANY(met) AND t.status IN ('queued','retrying') AND t.published_at IS NULL
                  AND t.held IS NULL FOR UPDATE SKIP LOCKED
            );
            UPDATE taskruns_liverun t SET held = 3 WHERE t.id = ANY(met);
            GET DIAGNOSTICS found_runs = ROW_COUNT;
            EXIT WHEN found_runs = 0;
        END LOOP;
    END LOOP;
    RETURN stopped;
END $$;
