from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("taskruns", "0014_misses_owner_without_constraint"),
    ]

    operations = [
        migrations.CreateModel(
            name="BrokenSchedule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "stage",
                    models.TextField(
                        choices=[
                            ("code", "the code's schedule was not taken over"),
                            ("row", "the schedule cannot be read"),
                            ("call", "its last call could not be made"),
                        ]
                    ),
                ),
                ("name", models.TextField(help_text="Of the schedule: one of the code has no row yet.")),
                ("error", models.TextField()),
                ("since", models.DateTimeField()),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("stage", "name"), name="brokenschedule_once")],
            },
        ),
    ]
