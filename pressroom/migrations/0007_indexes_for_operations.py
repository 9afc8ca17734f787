from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # Built while the ledger is written to: a large one would stand still otherwise.
    atomic = False

    dependencies = [
        ("taskruns", "0006_worker_memory_and_end"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("status__in", ("retrying", "dead", "cancelled", "expired", "replaced"))),
                fields=["status", "id"],
                include=("queue", "name", "error_type"),
                name="taskrun_notable",
            ),
        ),
        AddIndexConcurrently(
            model_name="taskrun",
            index=models.Index(fields=["name", "id"], name="taskrun_name"),
        ),
        AddIndexConcurrently(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)),
                fields=["finished_at"],
                include=("status", "run_at", "started_at"),
                name="taskrun_finished",
            ),
        ),
    ]
