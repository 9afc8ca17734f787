from django.db import migrations

# Every run is written a few times and deleted in the end: a fifth of a large table is too much to leave dead.
TABLES = ("taskruns_taskrun", "taskruns_taskattempt", "taskruns_chordpart", "taskruns_worker")
SET = "ALTER TABLE {} SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500)"
RESET = "ALTER TABLE {} RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold)"


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0002_functions")]

    operations = [migrations.RunSQL(SET.format(table), RESET.format(table)) for table in TABLES]
