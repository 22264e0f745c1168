"""The database notifies listeners when a composition has a new event or status; they read the rows.

A trigger, and no line in each service, so that every way to change a row is heard of. It notifies on commit;
a heartbeat of the lease notifies nobody.
"""

from django.db import migrations

LISTEN = """
CREATE FUNCTION composition_event_told() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('composition', NEW.job_id::text);
    RETURN NULL;
END $$;

CREATE FUNCTION composition_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('composition', OLD.id::text);
    RETURN NULL;
END $$;

CREATE TRIGGER composition_event_told AFTER INSERT ON composer_compositionevent
    FOR EACH ROW EXECUTE FUNCTION composition_event_told();

CREATE TRIGGER composition_changed
    AFTER UPDATE OF status, stop_requested, cancel_requested ON composer_composition
    FOR EACH ROW
    WHEN ((OLD.status, OLD.stop_requested, OLD.cancel_requested)
        IS DISTINCT FROM (NEW.status, NEW.stop_requested, NEW.cancel_requested))
    EXECUTE FUNCTION composition_changed();

CREATE TRIGGER composition_deleted AFTER DELETE ON composer_composition
    FOR EACH ROW EXECUTE FUNCTION composition_changed();
"""

LISTEN_NO_MORE = """
DROP TRIGGER composition_deleted ON composer_composition;
DROP TRIGGER composition_changed ON composer_composition;
DROP TRIGGER composition_event_told ON composer_compositionevent;
DROP FUNCTION composition_changed();
DROP FUNCTION composition_event_told();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("composer", "0006_a_letter_when_it_is_done"),
    ]

    operations = [migrations.RunSQL(LISTEN, LISTEN_NO_MORE)]
