from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("taskruns", "0005_ticks_dead_ended"),
    ]

    operations = [
        migrations.AddField(
            model_name="worker",
            name="lost",
            field=models.BooleanField(db_default=False, help_text="It was declared dead: it did not leave by itself."),
        ),
        migrations.AddField(
            model_name="worker",
            name="memory",
            field=models.BigIntegerField(
                help_text="Bytes that it and its processes held at the last heartbeat.", null=True
            ),
        ),
        migrations.AddField(
            model_name="worker",
            name="stopping_at",
            field=models.DateTimeField(help_text="When it was first seen to take no more tasks.", null=True),
        ),
    ]
