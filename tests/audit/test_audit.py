import re

import psycopg
import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection, transaction
from django.test import Client

from hub_site.accounts.models import ApiToken, Membership
from hub_site.audit.models import AuditEntry
from hub_site.audit.selectors import WORDS
from hub_site.audit.services import audit_record
from hub_site.embedded.postgres import SUPERUSER
from tests.conftest import PASSWORD

pytestmark = pytest.mark.django_db


def test_an_entry_can_be_neither_changed_nor_deleted():
    audit_record(actor=None, action="module.publish", subject="demo/french", version=1)
    entry = AuditEntry.objects.get()
    assert entry.detail == {"version": 1}
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        AuditEntry.objects.update(subject="other")
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        entry.delete()


def test_the_table_cannot_be_emptied_either():
    with connection.cursor() as cursor:
        # The tests' database has it off, see conftest.py; the end of this test takes that back.
        cursor.execute("ALTER TABLE audit_auditentry ENABLE TRIGGER audit_entry_no_truncate")
        with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
            cursor.execute("TRUNCATE audit_auditentry")


def test_what_is_done_in_the_administration_is_written_down(staff, bob, browser_of):
    chosen = {"action": "delete_selected", "_selected_action": [bob.namespace.pk], "post": "yes"}
    browser = browser_of(staff)
    browser.post(
        "/admin/accounts/membership/add/", {"namespace": bob.namespace.pk, "user": bob.pk, "role": "read"}
    )
    made = Membership.objects.get()
    chosen["_selected_action"] = [made.pk]
    browser.post("/admin/accounts/membership/", chosen)  # several at once, which sends no signal
    told = AuditEntry.objects.filter(action__startswith="admin.").order_by("pk")
    assert [(entry.actor, entry.action, entry.thing) for entry in told] == [
        (staff, "admin.add", f"membership:{made.pk}"),
        (staff, "admin.delete", f"membership:{made.pk}"),
    ]


def test_sign_ins_passwords_and_tokens_are_written_down_and_their_owner_reads_them(alice, bob, api_of):
    browser = Client()
    browser.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    browser.post("/settings/tokens/", {"label": "laptop", "scope": "read"})
    browser.post(f"/settings/tokens/{ApiToken.objects.get().pk}/revoke/")
    actions = ["account.create", "account.sign_in", "token.create", "token.revoke"]
    entries = AuditEntry.objects.filter(thing=f"user:{alice.pk}").order_by("pk")
    assert [entry.action for entry in entries] == actions
    page = browser.get("/settings/history/").content.decode()
    assert all(words in page for words in ("signed in", "created a token", "revoked a token"))
    lines = api_of(bob).get("/api/v1/account/history").json()["results"]
    assert {line["who"] for line in lines} == {"bob"}


def test_failed_sign_ins_are_written_down_few_times_without_the_password(alice, client, settings):
    cache.clear()
    for _ in range(12):
        client.post("/accounts/login/", {"login": "alice", "password": "a secret guess"})
    for number in range(12):
        client.post("/accounts/login/", {"login": f"my-password-{number}", "password": "another guess"})
    client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    entries = AuditEntry.objects.filter(action="account.sign_in_failed").order_by("pk")
    told = [(entry.thing, entry.detail["times"]) for entry in entries]
    assert told == [(f"user:{alice.pk}", 1), (f"user:{alice.pk}", 10), ("", 1), ("", 10)]
    assert "guess" not in str(list(AuditEntry.objects.values()))
    assert "my-password" not in str(list(AuditEntry.objects.values()))
    page = client.get("/settings/history/").content.decode()
    assert "wrong password number 10 within an hour" in page
    cache.clear()


@pytest.fixture
def site_role(settings):
    """The role of the operator's guide, made by the cluster's superuser as it says; its other statements."""
    text = (settings.BASE_DIR / "docs" / "operating.md").read_text()
    make, *others = text.partition("```sql\n")[2].partition("```")[0].strip().splitlines()
    server = connection.settings_dict
    where = {"host": server["HOST"], "port": server["PORT"] or None, "dbname": "postgres"}
    with psycopg.connect(user=SUPERUSER, autocommit=True, **where) as superuser:
        superuser.execute(make)
        superuser.execute(f"GRANT hub_site TO {server['USER']}")
    yield "\n".join(others)
    with psycopg.connect(user=SUPERUSER, autocommit=True, **where) as superuser:
        superuser.execute("DROP ROLE hub_site")


def test_a_role_of_its_own_for_the_site_can_add_entries_and_nothing_else(site_role):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(site_role)
        cursor.execute("SET LOCAL ROLE hub_site")
        audit_record(actor=None, action="module.publish", subject="demo/french")
        assert AuditEntry.objects.count() == 1
        for forbidden in (
            "UPDATE audit_auditentry SET subject = 'other'",
            "DELETE FROM audit_auditentry",
            "TRUNCATE audit_auditentry",
            "ALTER TABLE audit_auditentry DISABLE TRIGGER ALL",
        ):
            with pytest.raises(DatabaseError, match=r"permission denied|must be owner"), transaction.atomic():
                cursor.execute(forbidden)
        transaction.set_rollback(True)


def test_everything_that_is_recorded_has_words():
    source = "\n".join(
        path.read_text()
        for app in ("hub_site", "modules_registry", "composer")
        for path in (settings.BASE_DIR / app).rglob("*.py")
    )
    recorded = set(re.findall(r"""action=["']([a-z_]+\.[a-z_.]+)["']""", source))
    assert len(recorded) > 20
    assert recorded <= WORDS.keys()
