from django.db import migrations, models

from pressroom.sql import functions


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0011_hourly_figures")]

    operations = [
        migrations.AddField(
            "pause",
            "lane",
            models.TextField(db_default="", default="", help_text="Of a key: the lane of its runs."),
        ),
        migrations.AlterField(
            "pause",
            "kind",
            models.TextField(choices=[("queue", "queue"), ("task", "task"), ("key", "key of a task")]),
        ),
        migrations.AlterField("pause", "name", models.TextField(help_text="Of the queue or the task.")),
        migrations.RemoveConstraint("pause", "pause_once"),
        migrations.AddConstraint(
            "pause", models.UniqueConstraint(fields=("kind", "name", "lane"), name="pause_once")
        ),
        *(functions.create(name) for name in ("admit", "take_due")),
        # Several keys of a task would be the same pause for the code before. Undone first, as the last one here.
        migrations.RunSQL(migrations.RunSQL.noop, "DELETE FROM taskruns_pause WHERE kind = 'key'"),
    ]
