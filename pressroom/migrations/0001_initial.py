import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="CodeSchedule",
            fields=[
                ("name", models.TextField(primary_key=True, serialize=False)),
                ("fingerprint", models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name="StoredResult",
            fields=[
                ("celery_id", models.TextField(primary_key=True, serialize=False)),
                ("state", models.TextField(help_text="Celery's, or the task's own (`update_state`).")),
                ("result", models.TextField(help_text="JSON.", null=True)),
                ("traceback", models.TextField(default="")),
                ("children", models.TextField(help_text="JSON: as a run's.", null=True)),
                ("stored_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="TaskGroup",
            fields=[
                ("group_id", models.TextField(primary_key=True, serialize=False)),
                (
                    "structure",
                    models.TextField(help_text="JSON: the GroupResult, where it was saved or is nested.", null=True),
                ),
                ("size", models.PositiveIntegerField(help_text="How many parts the chord's header has.", null=True)),
                ("done", models.PositiveIntegerField(default=0)),
                ("fired", models.BooleanField(default=False, help_text="The chord's callback was called: once.")),
                ("created_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="Tick",
            fields=[
                ("name", models.TextField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="Undeliverable",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("queue", models.TextField()),
                ("message", models.BinaryField(help_text="As it stood in the Redis list.")),
                ("reason", models.TextField()),
                ("received_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name": "undeliverable message",
            },
        ),
        migrations.CreateModel(
            name="BrokenSchedule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "stage",
                    models.TextField(
                        choices=[
                            ("code", "the code's schedule was not taken over"),
                            ("row", "the schedule cannot be read"),
                            ("call", "its last call could not be made"),
                        ]
                    ),
                ),
                ("name", models.TextField(help_text="Of the schedule: one of the code has no row yet.")),
                ("error", models.TextField()),
                ("since", models.DateTimeField()),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("stage", "name"), name="brokenschedule_once")],
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.TextField(help_text="Celery's node name.")),
                ("queues", models.JSONField(help_text="Names of the queues it consumes.")),
                ("slots", models.PositiveIntegerField(help_text="How many tasks it runs at once.")),
                ("started_at", models.DateTimeField()),
                ("heartbeat_at", models.DateTimeField()),
                (
                    "stopping_at",
                    models.DateTimeField(help_text="When it was first seen to take no more tasks.", null=True),
                ),
                ("dead_at", models.DateTimeField(help_text="When it left or was declared dead.", null=True)),
                (
                    "lost",
                    models.BooleanField(
                        db_default=False, help_text="It was declared dead: it did not leave by itself."
                    ),
                ),
                (
                    "memory",
                    models.BigIntegerField(
                        help_text="Bytes that it and its processes held at the last heartbeat.", null=True
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("dead_at", None)), fields=["heartbeat_at"], name="worker_alive")
                ],
            },
        ),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("address", models.TextField(db_default="", help_text="Of a caller who is not signed in.")),
                ("key", models.TextField()),
                ("request", models.TextField(help_text="HMAC of method, path and body: it may stand for a password.")),
                ("status", models.PositiveSmallIntegerField()),
                ("headers", models.JSONField()),
                ("body", models.TextField()),
                ("created_at", models.DateTimeField(auto_now_add=True, db_index=True)),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("user", "address", "key"), name="idempotency_key_once", nulls_distinct=False
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ChordPart",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("celery_id", models.TextField()),
                ("position", models.FloatField(help_text="In the header; infinite where Celery gives none.")),
                ("state", models.TextField()),
                ("result", models.TextField(null=True)),
                (
                    "group",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="parts",
                        to="taskruns.taskgroup",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("group", "celery_id"), name="chordpart_once")],
            },
        ),
    ]
