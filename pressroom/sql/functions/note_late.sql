-- Notes an ended run that is stored long after its end, for the figures. Called by pressroom.sql.figures.trigger, in a
-- trigger of the ended runs.
CREATE OR REPLACE FUNCTION taskruns_note_late_1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO taskruns_uncountedrun (run_id, is_deleted, queue, name, status, run_at, started_at, finished_at)
    VALUES (NEW.id, false, NEW.queue, NEW.name, NEW.status, NEW.run_at, NEW.started_at, NEW.finished_at);
    RETURN NULL;
END $$;
