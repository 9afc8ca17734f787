-- Gives places to runs that wait for a limit. Called by pressroom.sql.dispatch.take_due, within taskruns_take_due_4; why:
-- docs/decisions/0028-flow-control.md.
--
-- `names` are queues and `windows` how many published and unclaimed runs each may have: no more are admitted than the
-- relay can publish. `stopped` are the paused tasks. The lane of a paused key gets no place. A lane is the task's name
-- and a key, with chr(31) between them; the name is empty if only the queue has a limit. A run occupies a place while
-- it is live and not held. If another relay admits at the moment, does nothing.
CREATE OR REPLACE FUNCTION taskruns_admit_3(names text[], windows integer[], stopped text[]) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    one record;
    its record;
    room integer;
    fair integer;
    free integer;
    taken integer;
    given integer;
    progress integer;
    oldest timestamptz;
    ready boolean;
    again timestamptz;
    met uuid[];
    closed text[] := ARRAY(SELECT p.lane FROM taskruns_pause p WHERE p.kind = 'key');
BEGIN
    IF NOT pg_try_advisory_xact_lock(482804169574) THEN
        RETURN;
    END IF;
    -- Put what is due into its lane. A lane that is there already knows when to look at it again.
    WITH due AS (
        SELECT head.id FROM unnest(names) AS q (name) CROSS JOIN LATERAL (
            SELECT t.id FROM taskruns_liverun t
            WHERE t.held = 1 AND t.queue = q.name AND t.run_at <= statement_timestamp()
            ORDER BY t.run_at LIMIT 2000 FOR UPDATE SKIP LOCKED
        ) head
    ),
    arrived AS (
        UPDATE taskruns_liverun t SET held = 2 FROM due WHERE t.id = due.id RETURNING t.lane, t.queue
    )
    INSERT INTO taskruns_lane (lane, queue, served_at, is_ready)
    SELECT DISTINCT a.lane, a.queue, to_timestamp(0), true FROM arrived a
    ON CONFLICT DO NOTHING;
    -- Look at lanes again in which a place was freed, or whose time has come.
    WITH freed AS (DELETE FROM taskruns_freedplace RETURNING lane)
    UPDATE taskruns_lane l SET is_ready = true
    FROM (SELECT DISTINCT lane FROM freed) f WHERE l.lane = f.lane AND NOT l.is_ready;
    UPDATE taskruns_lane l SET is_ready = true WHERE NOT l.is_ready AND l.ready_at <= statement_timestamp();
    FOR one IN
        SELECT q.name, q.places - (SELECT count(*) FROM taskruns_liverun t WHERE t.queue = q.name
               AND t.status IN ('queued','retrying') AND t.published_at IS NOT NULL) AS places,
            m.name AS known, m.concurrency, m.rate, m.period
        FROM unnest(names, windows) AS q (name, places)
        LEFT JOIN taskruns_limit m ON m.kind = 'queue' AND m.name = q.name
        WHERE NOT EXISTS (SELECT FROM taskruns_pause p WHERE p.kind = 'queue' AND p.name = q.name)
    LOOP
        room := one.places;
        -- The limit of the queue itself: first its places, then its starts.
        IF one.concurrency IS NOT NULL AND room > 0 THEN
            SELECT count(*) INTO taken FROM (
                SELECT FROM taskruns_liverun t
                WHERE t.queue = one.name AND t.lane IS NOT NULL AND t.held IS NULL LIMIT one.concurrency
            ) places;
            room := least(room, one.concurrency - taken);
        END IF;
        IF one.rate IS NOT NULL AND room > 0 THEN
            SELECT count(*) INTO taken FROM (
                SELECT FROM taskruns_liverun t
                WHERE t.queue = one.name AND t.lane IS NOT NULL AND t.held IS NULL AND t.status <> 'running'
                LIMIT one.rate
            ) admitted;
            SELECT taken + count(*) INTO taken FROM (
                SELECT FROM taskruns_start s
                WHERE s.lane = E'\x1f' || one.name AND s.at > clock_timestamp() - make_interval(secs => one.period)
                LIMIT one.rate
            ) starts;
            room := least(room, one.rate - taken);
        END IF;
        WHILE room > 0 LOOP
            progress := 0;
            -- With fewer lanes than places each may have more than one in a round.
            SELECT count(*) INTO fair FROM (
                SELECT FROM taskruns_lane l WHERE l.queue = one.name AND l.is_ready LIMIT room
            ) ready;
            fair := greatest(1, room / greatest(fair, 1));
            FOR its IN
                SELECT l.lane, CASE WHEN l.lane = E'\x1f' THEN one.known ELSE m.name END AS known,
                    m.concurrency, m.rate, m.period
                FROM taskruns_lane l
                LEFT JOIN taskruns_limit m ON m.kind = 'task' AND m.name = split_part(l.lane, E'\x1f', 1)
                WHERE l.queue = one.name AND l.is_ready ORDER BY l.served_at LIMIT room
            LOOP
                free := least(fair, room);
                ready := true;
                again := NULL;
                IF its.known IS NULL THEN
                    -- Neither the relay nor a worker has written this limit yet.
                    free := 0;
                    ready := false;
                    again := clock_timestamp() + interval '0.5 s';
                END IF;
                IF split_part(its.lane, E'\x1f', 1) = ANY(stopped) OR its.lane = ANY(closed) THEN
                    free := 0;
                    ready := false;
                    again := clock_timestamp() + interval '0.5 s';
                END IF;
                IF its.lane = E'\x1f' AND stopped <> '{}' THEN
                    -- This lane has runs of several tasks. Set the paused ones aside, so that each is met once.
                    met := ARRAY(
                        SELECT t.id FROM (
                            SELECT t.id, t.name FROM taskruns_liverun t
                            WHERE t.queue = one.name AND t.lane = its.lane AND t.held = 2
                            ORDER BY t.priority, t.run_at LIMIT 2000
                        ) t WHERE t.name = ANY(stopped)
                    );
                    met := ARRAY(
                        SELECT t.id FROM taskruns_liverun t WHERE t.id = ANY(met) AND t.held = 2 FOR UPDATE SKIP LOCKED
                    );
                    UPDATE taskruns_liverun t SET held = 3 WHERE t.id = ANY(met);
                END IF;
                IF its.concurrency IS NOT NULL AND free > 0 THEN
                    SELECT count(*) INTO taken FROM (
                        SELECT FROM taskruns_liverun t WHERE t.lane = its.lane AND t.held IS NULL LIMIT its.concurrency
                    ) places;
                    free := least(free, its.concurrency - taken);
                    IF taken >= its.concurrency THEN
                        ready := false;
                    END IF;
                END IF;
                IF its.rate IS NOT NULL AND free > 0 THEN
                    -- A run that is admitted and has not started counts as a start.
                    SELECT count(*) INTO taken FROM (
                        SELECT FROM taskruns_liverun t
                        WHERE t.lane = its.lane AND t.held IS NULL AND t.status <> 'running' LIMIT its.rate
                    ) admitted;
                    SELECT taken + count(*), min(starts.at) INTO taken, oldest FROM (
                        SELECT s.at FROM taskruns_start s
                        WHERE s.lane = its.lane AND s.at > clock_timestamp() - make_interval(secs => its.period)
                        ORDER BY s.at DESC LIMIT its.rate
                    ) starts;
                    free := least(free, its.rate - taken);
                    IF taken >= its.rate THEN
                        ready := false;
                        again := coalesce(oldest + make_interval(secs => its.period),
                            clock_timestamp() + interval '0.1 s');
                    END IF;
                END IF;
                given := 0;
                IF free > 0 THEN
                    UPDATE taskruns_liverun t SET held = NULL
                    FROM (
                        SELECT t.id FROM taskruns_liverun t
                        WHERE t.queue = one.name AND t.lane = its.lane AND t.held = 2 AND NOT t.name = ANY(stopped)
                          AND (t.expires_at IS NULL OR t.expires_at > statement_timestamp())
                        ORDER BY t.priority, t.run_at LIMIT free FOR UPDATE SKIP LOCKED
                    ) head WHERE t.id = head.id;
                    GET DIAGNOSTICS given = ROW_COUNT;
                    IF given = 0 THEN
                        -- All that wait here are paused, expired or locked.
                        ready := false;
                        again := clock_timestamp() + interval '0.5 s';
                    END IF;
                END IF;
                IF NOT EXISTS (
                    SELECT FROM taskruns_liverun t WHERE t.queue = one.name AND t.lane = its.lane AND t.held = 2
                ) THEN
                    DELETE FROM taskruns_lane l WHERE l.lane = its.lane AND l.queue = one.name;
                ELSE
                    UPDATE taskruns_lane l SET is_ready = ready, ready_at = again,
                        served_at = CASE WHEN given > 0 THEN clock_timestamp() ELSE l.served_at END
                    WHERE l.lane = its.lane AND l.queue = one.name;
                END IF;
                room := room - given;
                progress := progress + given;
                EXIT WHEN room <= 0;
            END LOOP;
            EXIT WHEN progress = 0;
        END LOOP;
    END LOOP;
END $$;
