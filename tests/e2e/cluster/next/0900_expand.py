"""A release's migration as it should be: the old code runs on with it. A column that may be empty, then an index."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # An index that locks nobody out is made outside of a transaction.
    atomic = False

    dependencies = [("blog", "0003_cover")]

    operations = [
        migrations.AddField("post", "subtitle", models.TextField(null=True)),
        AddIndexConcurrently("post", models.Index(fields=["subtitle"], name="post_subtitle")),
    ]
