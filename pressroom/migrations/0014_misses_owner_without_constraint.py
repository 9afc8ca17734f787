import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("taskruns", "0013_exchange_2"),
    ]

    operations = [
        migrations.AddField(
            model_name="taskrun",
            name="misses",
            field=models.PositiveIntegerField(
                db_default=0, default=0, help_text="Dispatches that ended without a claim since it was last called."
            ),
        ),
        migrations.AlterField(
            model_name="taskrun",
            name="owner",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
    ]
