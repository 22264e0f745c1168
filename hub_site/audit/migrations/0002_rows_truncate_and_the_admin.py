from django.conf import settings
from django.db import migrations, models

NO_TRUNCATE = """
CREATE TRIGGER audit_entry_no_truncate BEFORE TRUNCATE ON audit_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_refuse_change();
"""
NO_TRUNCATE_UNDONE = "DROP TRIGGER audit_entry_no_truncate ON audit_auditentry;"

# A trigger, because the admin writes its log in several ways, and some of them send no signal.
ADMIN_LOG = """
CREATE FUNCTION audit_entry_from_admin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_auditentry (at, actor_id, action, subject, thing, detail)
    SELECT NEW.action_time, NEW.user_id,
           CASE NEW.action_flag WHEN 1 THEN 'admin.add' WHEN 2 THEN 'admin.change' ELSE 'admin.delete' END,
           left(NEW.object_repr, 200),
           coalesce(left(kind.model || ':' || NEW.object_id, 100), ''),
           jsonb_build_object('change', NEW.change_message)
    FROM (SELECT 1) AS once LEFT JOIN django_content_type AS kind ON kind.id = NEW.content_type_id;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_entry_of_admin AFTER INSERT ON django_admin_log
    FOR EACH ROW EXECUTE FUNCTION audit_entry_from_admin();
"""
ADMIN_LOG_UNDONE = """
DROP TRIGGER audit_entry_of_admin ON django_admin_log;
DROP FUNCTION audit_entry_from_admin();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0001_initial"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="auditentry",
            name="thing",
            field=models.CharField(blank=True, default="", max_length=100),
            preserve_default=False,
        ),
        migrations.AddIndex(
            model_name="auditentry",
            index=models.Index(fields=["thing", "-at"], name="audit_of_thing"),
        ),
        migrations.AddIndex(
            model_name="auditentry",
            index=models.Index(fields=["actor", "-at"], name="audit_of_actor"),
        ),
        migrations.RunSQL(sql=NO_TRUNCATE, reverse_sql=NO_TRUNCATE_UNDONE),
        migrations.RunSQL(sql=ADMIN_LOG, reverse_sql=ADMIN_LOG_UNDONE),
    ]
