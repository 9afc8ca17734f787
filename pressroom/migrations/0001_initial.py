import django.db.models.deletion
import pressroom.uuid7
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
            name="TaskRun",
            fields=[
                (
                    "id",
                    models.UUIDField(default=pressroom.uuid7.uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("celery_id", models.TextField(help_text="Celery's task id; unique among live runs only.")),
                ("name", models.TextField(help_text="Name of the task.")),
                ("queue", models.TextField()),
                ("priority", models.SmallIntegerField(default=0, help_text="0 first, as Celery has it on Redis.")),
                (
                    "status",
                    models.TextField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("retrying", "Retrying"),
                            ("succeeded", "Succeeded"),
                            ("dead", "Dead"),
                            ("cancelled", "Cancelled"),
                            ("expired", "Expired"),
                            ("replaced", "Replaced"),
                        ],
                        default="queued",
                    ),
                ),
                ("headers", models.TextField()),
                ("body", models.TextField()),
                ("properties", models.TextField()),
                ("created_at", models.DateTimeField()),
                ("run_at", models.DateTimeField(help_text="Due from then on.")),
                ("expires_at", models.DateTimeField(null=True)),
                ("published_at", models.DateTimeField(help_text="When it was last given to Redis.", null=True)),
                ("started_at", models.DateTimeField(help_text="Start of the last attempt.", null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("attempt", models.PositiveIntegerField(default=0, help_text="How often it was claimed.")),
                ("losses", models.PositiveIntegerField(default=0, help_text="Attempts that ended without a verdict.")),
                (
                    "misses",
                    models.PositiveIntegerField(
                        db_default=0,
                        default=0,
                        help_text="Dispatches that ended without a claim since it was last called.",
                    ),
                ),
                (
                    "unknown_since",
                    models.DateTimeField(help_text="When a worker first did not know the task's name.", null=True),
                ),
                ("claim", models.UUIDField(help_text="Token of the last claim: the fence of its finish.", null=True)),
                (
                    "cancel_requested_at",
                    models.DateTimeField(help_text="When a running one was asked to stop.", null=True),
                ),
                ("progress_current", models.BigIntegerField(null=True)),
                ("progress_total", models.BigIntegerField(null=True)),
                ("progress_message", models.TextField(default="")),
                (
                    "result",
                    models.TextField(
                        help_text="JSON: what the task returned, or the exception as Celery has it.", null=True
                    ),
                ),
                (
                    "children",
                    models.TextField(help_text="JSON: the tasks it called, as Celery's results have them.", null=True),
                ),
                ("error_type", models.TextField(default="")),
                ("error", models.TextField(default="")),
                ("traceback", models.TextField(default="")),
                (
                    "owner",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "retry_of",
                    models.ForeignKey(
                        db_index=False,
                        help_text="The run that it repeats.",
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="retried_by",
                        to="taskruns.taskrun",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="TaskAttempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("outcome", models.TextField(choices=[("retried", "retried"), ("failed", "failed"), ("lost", "lost")])),
                ("worker_name", models.TextField(default="")),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField()),
                ("error_type", models.TextField(default="")),
                ("error", models.TextField(default="")),
                ("traceback", models.TextField(default="")),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="attempts", to="taskruns.taskrun"
                    ),
                ),
            ],
            options={
                "ordering": ["run", "number"],
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
        migrations.AddField(
            model_name="taskrun",
            name="worker",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="taskruns.worker",
            ),
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
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("published_at", None), ("status__in", ("queued", "retrying"))),
                fields=["queue", "priority", "run_at"],
                name="taskrun_due",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("published_at__isnull", False), ("status__in", ("queued", "retrying"))),
                fields=["queue", "published_at"],
                name="taskrun_published",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(condition=models.Q(("status", "running")), fields=["worker"], name="taskrun_running"),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("expires_at__isnull", False), ("status__in", ("queued", "retrying"))),
                fields=["expires_at"],
                name="taskrun_expiring",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("losses__gte", 2), ("status__in", ("queued", "retrying", "running"))),
                fields=["queue"],
                name="taskrun_suspect",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(fields=["celery_id"], name="taskrun_celery_id"),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("owner__isnull", False)), fields=["owner", "id"], name="taskrun_owner"
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("retry_of__isnull", False)), fields=["retry_of"], name="taskrun_retry_of"
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(condition=models.Q(("status", "dead")), fields=["queue"], name="taskrun_dead"),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)),
                fields=["queue", "finished_at"],
                name="taskrun_ended",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("status__in", ("retrying", "dead", "cancelled", "expired", "replaced"))),
                fields=["status", "id"],
                include=("queue", "name", "error_type"),
                name="taskrun_notable",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(fields=["name", "id"], name="taskrun_name"),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)),
                fields=["finished_at"],
                include=("status", "run_at", "started_at"),
                name="taskrun_finished",
            ),
        ),
        migrations.AddConstraint(
            model_name="taskrun",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status__in", ("queued", "retrying", "running"))),
                fields=("celery_id",),
                name="taskrun_live_celery_id",
            ),
        ),
    ]
