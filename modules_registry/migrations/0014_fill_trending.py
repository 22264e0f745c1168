from django.db import migrations

# Of downloads before this day only the number is known, not when: they do not count for “trending”.
DAYS = """
INSERT INTO modules_registry_downloadday (module_id, day, downloads)
SELECT version.module_id, counted.day, count(*)
FROM modules_registry_versiondownload AS counted
JOIN modules_registry_version AS version ON version.id = counted.version_id
GROUP BY version.module_id, counted.day
"""
TRENDING = """
UPDATE modules_registry_module AS module
SET trending = made.week + ln(1 + coalesce((
        SELECT sum(counted.downloads * power(2::float8, least(
            extract(epoch FROM counted.day)::float8 / 604800 - made.week, 1000)))
        FROM modules_registry_downloadday AS counted WHERE counted.module_id = module.id), 0)) / ln(2::float8)
FROM (SELECT id, extract(epoch FROM created_at)::float8 / 604800 AS week FROM modules_registry_module) AS made
WHERE made.id = module.id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('modules_registry', '0013_likes_and_download_days'),
    ]

    operations = [
        migrations.RunSQL(DAYS, migrations.RunSQL.noop),
        migrations.RunSQL(TRENDING, migrations.RunSQL.noop),
    ]
