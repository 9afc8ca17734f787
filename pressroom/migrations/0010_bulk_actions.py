import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("taskruns", "0009_limits"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="BulkAction",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.TextField(
                        choices=[
                            ("cancel", "cancel"),
                            ("run-again", "run again"),
                            ("run-now", "run now"),
                            ("move", "move"),
                            ("discard", "discard"),
                        ]
                    ),
                ),
                ("filter", models.JSONField(help_text="The conditions: see RunFilter.to_json.")),
                (
                    "queue",
                    models.TextField(default="", help_text="To which it moves the runs; empty: their queue stays."),
                ),
                (
                    "priority",
                    models.SmallIntegerField(help_text="Which it gives the runs; null: theirs stays.", null=True),
                ),
                (
                    "state",
                    models.TextField(
                        choices=[
                            ("ordered", "ordered"),
                            ("counting", "counting"),
                            ("running", "running"),
                            ("done", "done"),
                            ("cancelled", "cancelled"),
                            ("failed", "failed"),
                        ],
                        default="ordered",
                    ),
                ),
                (
                    "ordered_at",
                    models.DateTimeField(help_text="Runs that were called or have ended later are left alone."),
                ),
                ("worked_at", models.DateTimeField(help_text="When the last batch was done.")),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "position",
                    models.UUIDField(help_text="Down to which run it has counted or acted; null: none yet.", null=True),
                ),
                ("total", models.BigIntegerField(default=0, help_text="How many runs matched, once they are counted.")),
                ("done", models.BigIntegerField(default=0, help_text="Runs that it has changed.")),
                ("skipped", models.BigIntegerField(default=0, help_text="Runs whose state did not allow it.")),
                ("failed", models.BigIntegerField(default=0, help_text="Runs with which an error occurred.")),
                (
                    "reasons",
                    models.JSONField(default=dict, help_text="Why runs were skipped or failed: how many, by reason."),
                ),
                ("error", models.TextField(default="", help_text="Why the whole action failed.")),
                (
                    "by",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        help_text="Who ordered it; null for a command or code.",
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(condition=models.Q(("ended_at", None)), fields=["worked_at"], name="bulkaction_open")
                ],
            },
        ),
    ]
