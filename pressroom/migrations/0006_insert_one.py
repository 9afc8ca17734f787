from django.db import migrations

from pressroom.sql import functions


class Migration(migrations.Migration):
    dependencies = [("taskruns", "0005_worker_place")]

    operations = [functions.create("insert_one")]
