from django.db import migrations

# A run's page shows the actions on the run. The index keeps that fast when the admin's log is long.
CREATE = "CREATE INDEX CONCURRENTLY IF NOT EXISTS operations_log_by_object ON django_admin_log (object_id)"
DROP = "DROP INDEX IF EXISTS operations_log_by_object"


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("operations", "0001_initial"),
        ("admin", "0003_logentry_add_action_flag_choices"),
    ]

    operations = [migrations.RunSQL(CREATE, DROP)]
