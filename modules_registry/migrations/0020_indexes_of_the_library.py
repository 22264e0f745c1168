import django.contrib.postgres.indexes
import django.db.models.functions.comparison
import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("modules_registry", "0019_what_the_search_reads")]

    operations = [
        migrations.AddIndex(
            model_name="module",
            index=django.contrib.postgres.indexes.GinIndex(fields=["search"], name="module_search"),
        ),
        migrations.AddIndex(
            model_name="module",
            index=django.contrib.postgres.indexes.GinIndex(fields=["facets"], name="module_facets"),
        ),
        migrations.AddIndex(
            model_name="module",
            index=models.Index(
                condition=models.Q(("current__isnull", False), ("deleted_at", None), ("hold", "")),
                fields=["-updated_at", "-id"],
                name="module_by_change",
            ),
        ),
        migrations.AddIndex(
            model_name="module",
            index=models.Index(
                condition=models.Q(("current__isnull", False), ("deleted_at", None), ("hold", "")),
                fields=["-created_at", "-id"],
                name="module_by_creation",
            ),
        ),
        migrations.AddIndex(
            model_name="module",
            index=models.Index(
                condition=models.Q(("current__isnull", False), ("deleted_at", None), ("hold", "")),
                fields=["-downloads", "-id"],
                name="module_by_downloads",
            ),
        ),
        migrations.AddIndex(
            model_name="module",
            index=models.Index(
                condition=models.Q(("current__isnull", False), ("deleted_at", None), ("hold", "")),
                fields=["-likes", "-id"],
                name="module_by_likes",
            ),
        ),
        migrations.AddIndex(
            model_name="module",
            index=models.Index(
                condition=models.Q(("current__isnull", False), ("deleted_at", None), ("hold", "")),
                fields=["-trending", "-id"],
                name="module_by_trending",
            ),
        ),
        migrations.AddIndex(
            model_name="module",
            index=models.Index(
                django.db.models.functions.comparison.Collate(django.db.models.functions.text.Lower("name"), "C"),
                models.F("id"),
                condition=models.Q(("current__isnull", False), ("deleted_at", None), ("hold", "")),
                name="module_by_name",
            ),
        ),
        migrations.AddIndex(
            model_name="module",
            index=models.Index(
                condition=models.Q(("current__isnull", False), ("deleted_at", None), ("hold", "")),
                fields=["namespace", "-updated_at", "-id"],
                name="module_of_owner",
            ),
        ),
        migrations.AddIndex(
            model_name="module",
            index=models.Index(
                condition=models.Q(("indexed_at", None)), fields=["id"], name="module_to_index"
            ),
        ),
        migrations.AddIndex(
            model_name="facetvalue",
            index=models.Index(
                django.db.models.functions.comparison.Collate(django.db.models.functions.text.Lower("value"), "C"),
                condition=models.Q(("n_modules__gt", 0)),
                name="facet_value_beginning",
            ),
        ),
        migrations.AddConstraint(
            model_name="facetvalue",
            constraint=models.UniqueConstraint(fields=("facet", "value"), name="facet_value_once"),
        ),
        migrations.AddIndex(
            model_name="searchword",
            index=django.contrib.postgres.indexes.GinIndex(
                django.contrib.postgres.indexes.OpClass("word", name="gin_trgm_ops"),
                name="search_word_trigrams",
            ),
        ),
    ]
