from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("taskruns", "0007_indexes_for_operations"),
    ]

    operations = [
        migrations.DeleteModel(
            name="DeadLetter",
        ),
    ]
