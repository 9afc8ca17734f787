from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0014_misses_owner_without_constraint")]

    operations = [
        migrations.AddField(
            "storedresult", "children", models.TextField(help_text="JSON: as a run's.", null=True)
        ),
    ]
