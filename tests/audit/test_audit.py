import pytest
from django.db import DatabaseError, transaction

from hub_site.audit.models import AuditEntry
from hub_site.audit.services import audit_record

pytestmark = pytest.mark.django_db


def test_an_entry_can_be_neither_changed_nor_deleted():
    audit_record(actor=None, action="module.publish", subject="demo/french", version=1)
    entry = AuditEntry.objects.get()
    assert entry.detail == {"version": 1}
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        AuditEntry.objects.update(subject="other")
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        entry.delete()
