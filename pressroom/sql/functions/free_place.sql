-- Notes that a run gives its place back and waits again, for admit.sql. Called by pressroom.sql.limits.trigger, in a
-- trigger of the live runs.
CREATE OR REPLACE FUNCTION taskruns_free_place_1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO taskruns_freedplace (lane) VALUES (OLD.lane);
    RETURN NULL;
END $$;
