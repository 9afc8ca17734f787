import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from pressroom.sql import functions


class Migration(migrations.Migration):
    dependencies = [
        ("taskruns", "0006_insert_one"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Pause",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.TextField(choices=[("queue", "queue"), ("task", "task")])),
                ("name", models.TextField()),
                ("since", models.DateTimeField()),
                (
                    "by",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        help_text="Who paused it; null for a command or code.",
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"constraints": [models.UniqueConstraint(fields=("kind", "name"), name="pause_once")]},
        ),
        migrations.AddField(
            "liverun",
            "held",
            models.SmallIntegerField(
                choices=[(3, "paused")], help_text="Why it may not start, if it may not.", null=True
            ),
        ),
        migrations.RemoveIndex("liverun", "liverun_due"),
        migrations.AddIndex(
            "liverun",
            models.Index(
                condition=models.Q(("held", None), ("published_at", None), ("status__in", ("queued", "retrying"))),
                fields=["queue", "priority", "run_at"],
                name="liverun_due",
            ),
        ),
        migrations.AddIndex(
            "liverun",
            models.Index(condition=models.Q(("held", 3)), fields=["queue", "name", "run_at"], name="liverun_paused"),
        ),
        *(functions.create(name) for name in ("claim", "hold", "take_due", "finish_and_claim")),
    ]
