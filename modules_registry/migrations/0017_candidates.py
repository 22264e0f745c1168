"""Candidates: what can be composed on each base, kept by triggers; filled here for the modules there are."""

import django.db.models.deletion
from django.db import migrations, models

# Of a module: whether it is a candidate is the rule of ModuleQuerySet.visible_to, apart from `private`.
TRIGGERS = """
CREATE FUNCTION candidates_refresh(modules bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM modules_registry_candidateword WHERE module_id = ANY (modules);
    DELETE FROM modules_registry_candidate WHERE module_id = ANY (modules);
    WITH fitting AS MATERIALIZED (
        SELECT m.id, v.base_id, v.id AS version_id, m.namespace_id, n.name || '/' || m.name AS name,
            m.private, v.rank, v.scaling, v.targets, v.has_own_ranks, v.size_bytes, v.weights_sha256,
            array(
                SELECT word FROM unnest(tsvector_to_array(to_tsvector('english', concat_ws(
                    ' ', m.name, m.sentence,
                    (SELECT string_agg(t.name, ' ') FROM modules_registry_module_tags mt
                     JOIN modules_registry_tag t ON t.id = mt.tag_id WHERE mt.module_id = m.id)
                )))) AS word
                WHERE length(word) <= 40
            ) AS words
        FROM modules_registry_module m
        JOIN modules_registry_version v ON v.id = m.current_id
        JOIN accounts_namespace n ON n.id = m.namespace_id
        LEFT JOIN accounts_user u ON u.id = n.user_id
        WHERE m.id = ANY (modules) AND m.deleted_at IS NULL AND m.hold = '' AND v.base_id IS NOT NULL
            AND u.suspended_at IS NULL
    ), stored AS (
        INSERT INTO modules_registry_candidate (
            module_id, base_id, version_id, namespace_id, name, private, rank, scaling, targets,
            has_own_ranks, size_bytes, weights_sha256, n_words
        )
        SELECT id, base_id, version_id, namespace_id, name, private, rank, scaling, targets, has_own_ranks,
            size_bytes, weights_sha256, cardinality(words)
        FROM fitting
        ON CONFLICT (module_id) DO UPDATE SET
            base_id = excluded.base_id, version_id = excluded.version_id,
            namespace_id = excluded.namespace_id, name = excluded.name, private = excluded.private,
            rank = excluded.rank, scaling = excluded.scaling, targets = excluded.targets,
            has_own_ranks = excluded.has_own_ranks, size_bytes = excluded.size_bytes,
            weights_sha256 = excluded.weights_sha256, n_words = excluded.n_words
    )
    INSERT INTO modules_registry_candidateword (base_id, word, module_id)
    SELECT base_id, unnest(words), id FROM fitting
    ON CONFLICT DO NOTHING;
END $$;

CREATE FUNCTION candidate_of_module() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM candidates_refresh(ARRAY[coalesce(NEW.id, OLD.id)]);
    RETURN NULL;
END $$;
CREATE TRIGGER candidate_of_new_module AFTER INSERT ON modules_registry_module
    FOR EACH ROW WHEN (NEW.current_id IS NOT NULL) EXECUTE FUNCTION candidate_of_module();
CREATE TRIGGER candidate_of_changed_module AFTER UPDATE ON modules_registry_module
    FOR EACH ROW WHEN (
        (OLD.current_id, OLD.namespace_id, OLD.name, OLD.sentence, OLD.search_text, OLD.private, OLD.hold,
         OLD.deleted_at)
        IS DISTINCT FROM
        (NEW.current_id, NEW.namespace_id, NEW.name, NEW.sentence, NEW.search_text, NEW.private, NEW.hold,
         NEW.deleted_at)
    ) EXECUTE FUNCTION candidate_of_module();
CREATE TRIGGER candidate_of_deleted_module AFTER DELETE ON modules_registry_module
    FOR EACH ROW EXECUTE FUNCTION candidate_of_module();

CREATE FUNCTION candidate_of_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM candidates_refresh(ARRAY[NEW.module_id]);
    RETURN NULL;
END $$;
CREATE TRIGGER candidate_of_changed_version AFTER UPDATE ON modules_registry_version
    FOR EACH ROW WHEN (
        (OLD.base_id, OLD.rank, OLD.scaling, OLD.targets, OLD.has_own_ranks, OLD.size_bytes,
         OLD.weights_sha256)
        IS DISTINCT FROM
        (NEW.base_id, NEW.rank, NEW.scaling, NEW.targets, NEW.has_own_ranks, NEW.size_bytes,
         NEW.weights_sha256)
    ) EXECUTE FUNCTION candidate_of_version();

CREATE FUNCTION candidates_of_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM candidates_refresh(array(
        SELECT m.id FROM modules_registry_module m JOIN accounts_namespace n ON n.id = m.namespace_id
        WHERE n.user_id = NEW.id
    ));
    RETURN NULL;
END $$;
CREATE TRIGGER candidates_of_suspended_user AFTER UPDATE ON accounts_user
    FOR EACH ROW WHEN (OLD.suspended_at IS DISTINCT FROM NEW.suspended_at)
    EXECUTE FUNCTION candidates_of_user();

CREATE FUNCTION candidates_of_namespace() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM candidates_refresh(array(SELECT id FROM modules_registry_module WHERE namespace_id = NEW.id));
    RETURN NULL;
END $$;
CREATE TRIGGER candidates_of_changed_namespace AFTER UPDATE ON accounts_namespace
    FOR EACH ROW WHEN ((OLD.name, OLD.user_id) IS DISTINCT FROM (NEW.name, NEW.user_id))
    EXECUTE FUNCTION candidates_of_namespace();

SELECT candidates_refresh(array(SELECT id FROM modules_registry_module WHERE current_id IS NOT NULL));
"""
UNDONE = """
DROP TRIGGER candidates_of_changed_namespace ON accounts_namespace;
DROP TRIGGER candidates_of_suspended_user ON accounts_user;
DROP TRIGGER candidate_of_changed_version ON modules_registry_version;
DROP TRIGGER candidate_of_deleted_module ON modules_registry_module;
DROP TRIGGER candidate_of_changed_module ON modules_registry_module;
DROP TRIGGER candidate_of_new_module ON modules_registry_module;
DROP FUNCTION candidates_of_namespace, candidates_of_user, candidate_of_version, candidate_of_module,
    candidates_refresh;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("modules_registry", "0016_sketches"),
        ("accounts", "0005_times_by_the_database"),
    ]

    operations = [
        migrations.CreateModel(
            name="CandidateWord",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "base_id",
                        "word",
                        "module_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("word", models.CharField(db_collation="C", max_length=40)),
                (
                    "base",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="modules_registry.basemodel",
                    ),
                ),
                (
                    "module",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="modules_registry.module",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Candidate",
            fields=[
                (
                    "module",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="candidate",
                        serialize=False,
                        to="modules_registry.module",
                    ),
                ),
                ("name", models.CharField(max_length=193)),
                ("private", models.BooleanField()),
                ("rank", models.PositiveIntegerField()),
                ("scaling", models.FloatField()),
                ("targets", models.JSONField()),
                ("has_own_ranks", models.BooleanField()),
                ("size_bytes", models.PositiveBigIntegerField()),
                ("weights_sha256", models.CharField(max_length=64)),
                ("n_words", models.PositiveIntegerField()),
                (
                    "base",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="candidates",
                        to="modules_registry.basemodel",
                    ),
                ),
                (
                    "namespace",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.namespace",
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="modules_registry.version",
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
                "indexes": [
                    models.Index(
                        fields=["base", "private", "rank", "scaling", "has_own_ranks", "targets"],
                        include=("namespace", "module"),
                        name="candidate_counted",
                    ),
                    models.Index(fields=["base", "name"], name="candidate_by_name"),
                    models.Index(fields=["base", "weights_sha256"], name="candidate_by_weights"),
                ],
            },
        ),
        migrations.RunSQL(sql=TRIGGERS, reverse_sql=UNDONE),
    ]
