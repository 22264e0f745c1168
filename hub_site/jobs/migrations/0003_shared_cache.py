from django.db import migrations


class Migration(migrations.Migration):
    """The table of hub_site.common.shared_cache, as Django's `createcachetable` makes it."""

    dependencies = [("jobs", "0002_low_disk")]

    operations = [
        migrations.RunSQL(
            """
            CREATE TABLE shared_cache (
                cache_key varchar(255) NOT NULL PRIMARY KEY,
                value text NOT NULL,
                expires timestamp with time zone NOT NULL
            );
            CREATE INDEX shared_cache_expires ON shared_cache (expires);
            """,
            "DROP TABLE shared_cache;",
        ),
    ]
