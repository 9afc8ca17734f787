from django.db import migrations

from pressroom.sql import functions, limits


class Migration(migrations.Migration):
    """Has a run free its place when it goes on in another lane, or without one. Claims a run without a limit faster."""

    dependencies = [("taskruns", "0013_fewer_indexes")]

    operations = [migrations.RunSQL(limits.trigger().sql, migrations.RunSQL.noop), functions.create("claim")]
