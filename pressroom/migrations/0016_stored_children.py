from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0015_broken_schedules")]

    operations = [
        migrations.AddField("storedresult", "children", models.TextField(help_text="JSON: as a run's.", null=True)),
    ]
