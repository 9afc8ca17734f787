import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from pressroom.sql import functions, limits


class Migration(migrations.Migration):
    dependencies = [
        ("taskruns", "0008_unique_calls"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="FreedPlace",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("lane", models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name="Lane",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("lane", models.TextField(help_text="As a run's.")),
                ("queue", models.TextField()),
                ("served_at", models.DateTimeField(help_text="When a run of it was last admitted.")),
                ("is_ready", models.BooleanField(help_text="Whether there may be a place for its first run.")),
                (
                    "ready_at",
                    models.DateTimeField(
                        help_text="When there may be one again; null: when a place is freed.", null=True
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("is_ready", True)), fields=["queue", "served_at"], name="lane_next"
                    ),
                    models.Index(
                        condition=models.Q(("is_ready", False), ("ready_at__isnull", False)),
                        fields=["ready_at"],
                        name="lane_later",
                    ),
                ],
                "constraints": [models.UniqueConstraint(fields=("lane", "queue"), name="lane_once")],
            },
        ),
        migrations.CreateModel(
            name="Limit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.TextField(choices=[("queue", "queue"), ("task", "task")])),
                ("name", models.TextField()),
                ("concurrency", models.PositiveIntegerField(help_text="Runs at once.", null=True)),
                ("rate", models.PositiveIntegerField(help_text="Starts in a period.", null=True)),
                ("period", models.FloatField(help_text="Seconds.", null=True)),
                ("code_concurrency", models.PositiveIntegerField(null=True)),
                ("code_rate", models.PositiveIntegerField(null=True)),
                ("code_period", models.FloatField(null=True)),
                ("seen_at", models.DateTimeField(help_text="When code that has it was last seen, to some minutes.")),
                (
                    "set_at",
                    models.DateTimeField(
                        help_text="When an operator set what is in force; null: it is the code's.", null=True
                    ),
                ),
                (
                    "set_by",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        help_text="Who set it; null for a command or code.",
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"constraints": [models.UniqueConstraint(fields=("kind", "name"), name="limit_once")]},
        ),
        migrations.CreateModel(
            name="Start",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("lane", models.TextField(help_text="Of the run; for the rate of a queue, chr(31) and its name.")),
                ("at", models.DateTimeField(db_index=True)),
            ],
            options={"indexes": [models.Index(fields=["lane", "at"], name="start_lane")]},
        ),
        migrations.AddField(
            "liverun",
            "lane",
            models.TextField(
                help_text="Where it waits for a limit: the task's name if the task has one, chr(31), the call's key.",
                null=True,
            ),
        ),
        migrations.AlterField(
            "liverun",
            "held",
            models.SmallIntegerField(
                choices=[(1, "arrived"), (2, "waits for a place"), (3, "paused")],
                help_text="Why it may not start, if it may not.",
                null=True,
            ),
        ),
        *(
            migrations.AddIndex("liverun", models.Index(condition=models.Q(condition), fields=fields, name=name))
            for name, fields, condition in (
                ("liverun_arrived", ["run_at"], ("held", 1)),
                ("liverun_lane", ["queue", "lane", "priority", "run_at"], ("held", 2)),
                ("liverun_held", ["queue", "run_at"], ("held", 2)),
            )
        ),
        *(
            migrations.AddIndex(
                "liverun",
                models.Index(
                    condition=models.Q(("held", None), ("lane__isnull", False)), fields=fields, name=name
                ),
            )
            for name, fields in (("liverun_place", ["lane"]), ("liverun_queue_place", ["queue"]))
        ),
        *(
            functions.create(name)
            for name in (
                "free_place", "admit", "insert", "insert_unique", "hold", "claim", "take_due", "finish_and_claim"
            )
        ),
        limits.trigger(),
        # Made when migration 13 is undone.
        migrations.RunSQL(migrations.RunSQL.noop, "DROP TRIGGER IF EXISTS liverun_ended_1 ON taskruns_liverun"),
        # Small tables that are written often.
        *(
            migrations.RunSQL(
                f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500)",
                f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold)",
            )
            for table in ("taskruns_lane", "taskruns_start", "taskruns_freedplace")
        ),
    ]
