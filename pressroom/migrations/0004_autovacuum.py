from django.db import migrations

# A live run's row is written a few times and deleted: a fifth of the table is too much to leave dead. Room on each page
# keeps a run's next version near it.
TABLES = {
    "taskruns_liverun": "fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500",
    "taskruns_chordpart": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500",
    "taskruns_worker": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500",
}
NAMES = "fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold"


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0003_functions")]

    operations = [
        migrations.RunSQL(f"ALTER TABLE {table} SET ({options})", f"ALTER TABLE {table} RESET ({NAMES})")
        for table, options in TABLES.items()
    ]
