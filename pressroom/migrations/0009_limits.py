from django.db import migrations, models

from pressroom.sql import functions, limits


class Migration(migrations.Migration):

    dependencies = [
        ('taskruns', '0008_unique_calls'),
    ]

    operations = [
        migrations.CreateModel(
            name='FreedPlace',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lane', models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name='Lane',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lane', models.TextField()),
                ('queue', models.TextField()),
                ('served_at', models.DateTimeField(help_text='When a run of it was last admitted.')),
                ('is_ready', models.BooleanField(help_text='Whether there may be a place for its first run.')),
                ('ready_at', models.DateTimeField(help_text='When there may be one again; null: when a place is freed.', null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Limit',
            fields=[
                ('name', models.TextField(help_text="The task's.", primary_key=True, serialize=False)),
                ('concurrency', models.PositiveIntegerField(help_text='Runs at once.', null=True)),
                ('rate', models.PositiveIntegerField(help_text='Starts in a period.', null=True)),
                ('period', models.FloatField(help_text='Seconds.', null=True)),
                ('seen_at', models.DateTimeField(help_text='When code that has it was last seen, to some minutes.')),
            ],
        ),
        migrations.CreateModel(
            name='Start',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lane', models.TextField()),
                ('at', models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.AddField(
            model_name='liverun',
            name='lane',
            field=models.TextField(help_text="Of a run with a limit: the limit's name, chr(31) and the call's key.", null=True),
        ),
        migrations.AlterField(
            model_name='liverun',
            name='held',
            field=models.SmallIntegerField(choices=[(1, 'arrived'), (2, 'waits for a place'), (3, 'paused')], help_text='Why it may not start, if it may not.', null=True),
        ),
        migrations.AddIndex(
            model_name='liverun',
            index=models.Index(condition=models.Q(('held', 1)), fields=['run_at'], name='liverun_arrived'),
        ),
        migrations.AddIndex(
            model_name='liverun',
            index=models.Index(condition=models.Q(('held', 2)), fields=['queue', 'lane', 'priority', 'run_at'], name='liverun_lane'),
        ),
        migrations.AddIndex(
            model_name='liverun',
            index=models.Index(condition=models.Q(('held', None), ('lane__isnull', False)), fields=['lane'], name='liverun_place'),
        ),
        migrations.AddIndex(
            model_name='lane',
            index=models.Index(condition=models.Q(('is_ready', True)), fields=['queue', 'served_at'], name='lane_next'),
        ),
        migrations.AddIndex(
            model_name='lane',
            index=models.Index(condition=models.Q(('is_ready', False), ('ready_at__isnull', False)), fields=['ready_at'], name='lane_later'),
        ),
        migrations.AddConstraint(
            model_name='lane',
            constraint=models.UniqueConstraint(fields=('lane', 'queue'), name='lane_once'),
        ),
        migrations.AddIndex(
            model_name='start',
            index=models.Index(fields=['lane', 'at'], name='start_lane'),
        ),
        *(
            functions.create(name)
            for name in (
                "free_place", "admit", "insert", "insert_unique", "hold", "claim", "take_due", "finish_and_claim"
            )
        ),
        *limits.triggers(),
        # Small tables that are written often.
        *(
            migrations.RunSQL(
                f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500)",
                f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold)",
            )
            for table in ("taskruns_lane", "taskruns_start", "taskruns_freedplace")
        ),
    ]
