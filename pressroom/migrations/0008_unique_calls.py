from django.db import migrations, models

from pressroom.sql import functions


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0007_pauses")]

    operations = [
        migrations.CreateModel(
            name="UniqueCall",
            fields=[
                ("key", models.TextField(primary_key=True, serialize=False)),
                ("celery_id", models.TextField()),
                ("ends_at", models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.AddField(
            "liverun",
            "unique_key",
            models.TextField(help_text="Of a unique call, as long as others are not stored for it.", null=True),
        ),
        migrations.AddConstraint(
            "liverun",
            models.UniqueConstraint(
                condition=models.Q(("unique_key__isnull", False)), fields=("unique_key",), name="liverun_unique"
            ),
        ),
        *(functions.create(name) for name in ("insert_unique", "claim", "finish_and_claim")),
    ]
