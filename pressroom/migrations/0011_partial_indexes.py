import django.db.models.deletion
from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # Built while the ledger is written to: a large one would stand still otherwise.
    atomic = False

    dependencies = [
        ("taskruns", "0010_bundles"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("owner__isnull", False)), fields=["owner", "id"], name="taskrun_owner"
            ),
        ),
        AddIndexConcurrently(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("retry_of__isnull", False)), fields=["retry_of"], name="taskrun_retry_of"
            ),
        ),
        migrations.AlterField(
            model_name="taskrun",
            name="owner",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AlterField(
            model_name="taskrun",
            name="retry_of",
            field=models.ForeignKey(
                db_index=False,
                help_text="The run that it repeats.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="retried_by",
                to="taskruns.taskrun",
            ),
        ),
    ]
