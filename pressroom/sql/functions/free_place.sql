-- Notes that a run has left its place, for admit.sql. Called by pressroom.sql.limits.triggers, in triggers of the live runs.
CREATE OR REPLACE FUNCTION taskruns_free_place_1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO taskruns_freedplace (lane) VALUES (OLD.lane);
    RETURN NULL;
END $$;
