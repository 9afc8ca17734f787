"""A release's migration as it should be: the old code runs on with it. A column that may be empty, then an index."""

from pathlib import Path

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

LAST = max(file.stem for file in Path(__file__).parent.glob("0*.py") if file != Path(__file__))
"""Of the release under test, whichever that is."""


class Migration(migrations.Migration):
    # An index that locks nobody out is made outside of a transaction.
    atomic = False

    dependencies = [("blog", LAST)]

    operations = [
        migrations.AddField("post", "subtitle", models.TextField(null=True)),
        AddIndexConcurrently("post", models.Index(fields=["subtitle"], name="post_subtitle")),
    ]
