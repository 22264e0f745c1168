import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0003_shared_cache'),
    ]

    operations = [
        migrations.CreateModel(
            name='JobRequest',
            fields=[
                ('job_id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('request_id', models.CharField(max_length=64)),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False)),
            ],
        ),
        migrations.CreateModel(
            name='JobCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=40)),
                ('outcome', models.CharField(max_length=20)),
                ('code', models.CharField(blank=True, max_length=60)),
                ('number', models.PositiveBigIntegerField(default=0)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('kind', 'outcome', 'code'), name='job_count_once')],
            },
        ),
        migrations.CreateModel(
            name='StageTime',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=40)),
                ('stage', models.CharField(max_length=20)),
                ('most_s', models.FloatField()),
                ('number', models.PositiveBigIntegerField(default=0)),
                ('seconds', models.FloatField(default=0)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('kind', 'stage', 'most_s'), name='stage_time_once')],
            },
        ),
    ]
