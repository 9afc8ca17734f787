from django.db import migrations

from pressroom.sql import functions


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0002_runs")]

    operations = [functions.create(name) for name in ("insert", "claim", "succeed", "take_due", "finish_and_claim")]
