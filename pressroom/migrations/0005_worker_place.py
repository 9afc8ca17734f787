from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0004_autovacuum")]

    operations = [
        migrations.AddField("worker", "place", models.TextField(db_default="", help_text="Where its process runs, as JSON.")),
    ]
