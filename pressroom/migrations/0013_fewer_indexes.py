from django.db import migrations, models

from pressroom.sql import functions


class Migration(migrations.Migration):
    """Takes away what each task paid for, with a limit or without one: two triggers, two indexes and some statements."""

    dependencies = [("taskruns", "0012_key_pauses")]

    operations = [
        migrations.RemoveIndex("liverun", "liverun_arrived"),
        migrations.RemoveIndex("liverun", "liverun_held"),
        migrations.RemoveIndex("liverun", "liverun_place"),
        migrations.RemoveIndex("liverun", "liverun_queue_place"),
        migrations.AddIndex(
            "liverun",
            models.Index(
                condition=models.Q(("held__isnull", False)), fields=["held", "queue", "run_at"], name="liverun_held"
            ),
        ),
        migrations.AddIndex(
            "liverun",
            models.Index(
                condition=models.Q(("held", None), ("lane__isnull", False)),
                fields=["lane", "queue"],
                name="liverun_place",
            ),
        ),
        *(functions.create(name) for name in ("admit", "take_due", "insert_one", "succeed", "finish_and_claim")),
        # The statements that end a run say themselves what these said. The migrations before no longer make them, but the
        # code before needs the first one.
        migrations.RunSQL(
            """
            DROP TRIGGER IF EXISTS liverun_ended_1 ON taskruns_liverun;
            DROP TRIGGER IF EXISTS endedrun_late_1 ON taskruns_endedrun;
            DROP FUNCTION IF EXISTS taskruns_note_late_1();
            """,
            """
            CREATE TRIGGER liverun_ended_1 AFTER DELETE ON taskruns_liverun FOR EACH ROW
            WHEN (OLD.lane IS NOT NULL AND OLD.held IS NULL) EXECUTE FUNCTION taskruns_free_place_1()
            """,
        ),
    ]
