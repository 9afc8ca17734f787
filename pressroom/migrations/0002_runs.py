import django.db.models.deletion
import pressroom.uuid7
from django.conf import settings
from django.db import migrations, models

from pressroom.sql import history


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("taskruns", "0001_initial"),
    ]

    operations = [
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
                ("created_at", models.DateTimeField()),
                ("run_at", models.DateTimeField(help_text="Due from then on.")),
                ("expires_at", models.DateTimeField(null=True)),
                ("started_at", models.DateTimeField(help_text="Start of the last attempt.", null=True)),
                ("attempt", models.PositiveIntegerField(default=0, help_text="How often it was claimed.")),
                ("losses", models.PositiveIntegerField(default=0, help_text="Attempts that ended without a verdict.")),
                (
                    "misses",
                    models.PositiveIntegerField(
                        default=0, help_text="Dispatches that ended without a claim since it was last called."
                    ),
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
                ("error_type", models.TextField(default="")),
                ("error", models.TextField(default="")),
                ("traceback", models.TextField(default="")),
                ("published_at", models.DateTimeField(null=True)),
                ("unknown_since", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("children", models.TextField(null=True)),
            ],
            options={
                "ordering": ["-id"],
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="LiveRun",
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
                ("created_at", models.DateTimeField()),
                ("run_at", models.DateTimeField(help_text="Due from then on.")),
                ("expires_at", models.DateTimeField(null=True)),
                ("started_at", models.DateTimeField(help_text="Start of the last attempt.", null=True)),
                ("attempt", models.PositiveIntegerField(default=0, help_text="How often it was claimed.")),
                ("losses", models.PositiveIntegerField(default=0, help_text="Attempts that ended without a verdict.")),
                (
                    "misses",
                    models.PositiveIntegerField(
                        default=0, help_text="Dispatches that ended without a claim since it was last called."
                    ),
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
                ("error_type", models.TextField(default="")),
                ("error", models.TextField(default="")),
                ("traceback", models.TextField(default="")),
                ("published_at", models.DateTimeField(help_text="When it was last given to Redis.", null=True)),
                (
                    "unknown_since",
                    models.DateTimeField(help_text="When a worker first did not know the task's name.", null=True),
                ),
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
                        db_constraint=False,
                        db_index=False,
                        help_text="The run that it repeats.",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="taskruns.taskrun",
                    ),
                ),
                (
                    "worker",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="taskruns.worker",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("published_at", None), ("status__in", ("queued", "retrying"))),
                        fields=["queue", "priority", "run_at"],
                        name="liverun_due",
                    ),
                    models.Index(
                        condition=models.Q(("published_at__isnull", False), ("status__in", ("queued", "retrying"))),
                        fields=["queue", "priority", "run_at"],
                        name="liverun_published",
                    ),
                    models.Index(condition=models.Q(("status", "running")), fields=["worker"], name="liverun_running"),
                    models.Index(
                        condition=models.Q(("expires_at__isnull", False), ("status__in", ("queued", "retrying"))),
                        fields=["expires_at"],
                        name="liverun_expiring",
                    ),
                    models.Index(condition=models.Q(("losses__gte", 2)), fields=["queue"], name="liverun_suspect"),
                    models.Index(condition=models.Q(("status", "retrying")), fields=["id"], name="liverun_retrying"),
                    models.Index(
                        condition=models.Q(("owner__isnull", False)), fields=["owner", "id"], name="liverun_owner"
                    ),
                    models.Index(
                        condition=models.Q(("retry_of__isnull", False)), fields=["retry_of"], name="liverun_retry_of"
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("celery_id",), name="liverun_celery_id"),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ("queued", "retrying", "running"))), name="liverun_status"
                    ),
                ],
            },
        ),
        # Django knows no partitions.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="TaskCall",
                    fields=[
                        (
                            "id",
                            models.UUIDField(
                                default=pressroom.uuid7.uuid7, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("headers", models.TextField()),
                        ("body", models.TextField()),
                        ("properties", models.TextField()),
                    ],
                ),
                migrations.CreateModel(
                    name="EndedRun",
                    fields=[
                        (
                            "id",
                            models.UUIDField(
                                default=pressroom.uuid7.uuid7, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("celery_id", models.TextField(help_text="Celery's task id; unique among live runs only.")),
                        ("name", models.TextField(help_text="Name of the task.")),
                        ("queue", models.TextField()),
                        (
                            "priority",
                            models.SmallIntegerField(default=0, help_text="0 first, as Celery has it on Redis."),
                        ),
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
                        ("created_at", models.DateTimeField()),
                        ("run_at", models.DateTimeField(help_text="Due from then on.")),
                        ("expires_at", models.DateTimeField(null=True)),
                        ("published_at", models.DateTimeField(help_text="When it was last given to Redis.", null=True)),
                        ("unknown_since", models.DateTimeField(help_text="When a worker first did not know the task's name.", null=True)),
                        ("started_at", models.DateTimeField(help_text="Start of the last attempt.", null=True)),
                        ("attempt", models.PositiveIntegerField(default=0, help_text="How often it was claimed.")),
                        (
                            "losses",
                            models.PositiveIntegerField(default=0, help_text="Attempts that ended without a verdict."),
                        ),
                        (
                            "misses",
                            models.PositiveIntegerField(
                                default=0, help_text="Dispatches that ended without a claim since it was last called."
                            ),
                        ),
                        (
                            "claim",
                            models.UUIDField(help_text="Token of the last claim: the fence of its finish.", null=True),
                        ),
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
                        ("error_type", models.TextField(default="")),
                        ("error", models.TextField(default="")),
                        ("traceback", models.TextField(default="")),
                        ("finished_at", models.DateTimeField()),
                        (
                            "children",
                            models.TextField(
                                help_text="JSON: the tasks it called, as Celery's results have them.", null=True
                            ),
                        ),
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
                                db_constraint=False,
                                db_index=False,
                                help_text="The run that it repeats.",
                                null=True,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="+",
                                to="taskruns.taskrun",
                            ),
                        ),
                        (
                            "worker",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                null=True,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="+",
                                to="taskruns.worker",
                            ),
                        ),
                    ],
                    options={
                        "abstract": False,
                    },
                ),
                migrations.CreateModel(
                    name="TaskAttempt",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                            ),
                        ),
                        ("number", models.PositiveIntegerField()),
                        (
                            "outcome",
                            models.TextField(choices=[("retried", "retried"), ("failed", "failed"), ("lost", "lost")]),
                        ),
                        ("worker_name", models.TextField(default="")),
                        ("started_at", models.DateTimeField(null=True)),
                        ("finished_at", models.DateTimeField()),
                        ("error_type", models.TextField(default="")),
                        ("error", models.TextField(default="")),
                        ("traceback", models.TextField(default="")),
                        (
                            "run",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="attempts",
                                to="taskruns.taskrun",
                            ),
                        ),
                    ],
                    options={
                        "ordering": ["run", "number"],
                    },
                ),
            ],
            database_operations=[history.create()],
        ),
    ]
