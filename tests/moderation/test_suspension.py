"""A suspended account signs in nowhere and works nowhere; its modules are hidden until it is restored."""

import pytest
from django.core import mail
from django.test import Client

from hub_site.accounts.services import token_create
from hub_site.audit.models import AuditEntry
from hub_site.common.errors import Refusal
from hub_site.jobs.models import Status
from hub_site.moderation.services import account_decide
from tests.conftest import PASSWORD

pytestmark = pytest.mark.django_db
WHY = "It floods the library."


def suspend(staff, account):
    account_decide(staff=staff, account=account, decision="suspend", reason=WHY)


def test_sign_in_tokens_and_uploads_are_refused_with_the_reason(bob, staff, db):
    _, token = token_create(user=bob, label="all", scope="write")
    signed_in = Client()
    signed_in.force_login(bob)
    suspend(staff, bob)
    page = Client().post("/accounts/login/", {"login": "bob", "password": PASSWORD})
    assert (page.status_code, WHY in page.content.decode()) == (403, True)
    wrong = Client().post("/accounts/login/", {"login": "bob", "password": "something else"})
    assert WHY not in wrong.content.decode()  # only who knows the password is told
    bearer = {"Authorization": f"Bearer {token}"}
    answer = Client().get("/api/v1/whoami", headers=bearer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "account_suspended")
    assert WHY in answer.json()["error"]["message"]
    answer = Client().get("/api/whoami-v2", headers=bearer)
    assert (answer.status_code, WHY in answer["X-Error-Message"]) == (403, True)
    assert signed_in.get("/settings/tokens/").status_code == 302


def test_its_modules_are_nobody_s_until_it_is_restored(modules, bob, alice, staff):
    suspend(staff, bob)
    reader = Client()
    reader.force_login(alice)
    for client in (reader, Client()):
        assert client.get("/bob/upper").status_code == 404
        assert client.get("/bob/upper/resolve/main/adapter_model.safetensors").status_code == 404
        assert client.get("/api/v1/modules").json()["count"] == 0
    account_decide(staff=staff, account=bob, decision="restore")
    assert Client().get("/bob/upper").status_code == 200
    assert Client().post("/accounts/login/", {"login": "bob", "password": PASSWORD}).status_code == 302


def test_its_work_ends_and_that_of_others_with_its_modules(ask, alice, bob, staff, wakes):
    composition = ask()  # Alice's, of Bob's modules
    suspend(staff, bob)
    composition.refresh_from_db()
    assert (composition.status, composition.error_code) == (Status.CANCELLED, "module_held")
    account_decide(staff=staff, account=bob, decision="restore")
    second = ask(name="Again")
    suspend(staff, alice)
    second.refresh_from_db()
    assert (second.status, second.error_code) == (Status.CANCELLED, "account_suspended")
    assert WHY in second.error_message


def test_it_is_told_by_mail_and_written_down(bob, staff, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        suspend(staff, bob)
    assert WHY in mail.outbox[0].body
    entry = AuditEntry.objects.get(action="account.suspend")
    assert (entry.actor, entry.thing, entry.detail) == (staff, f"user:{bob.pk}", {"reason": WHY})


def test_staff_are_not_suspended(staff):
    with pytest.raises(Refusal, match="belongs to staff"):
        suspend(staff, staff)


def test_only_staff_suspend(bob, charlie):
    with pytest.raises(Refusal, match="Only the staff"):
        suspend(charlie, bob)


def test_staff_suspend_on_the_page_and_by_program(bob, staff, browser_of, api_of):
    browser_of(staff).post("/staff/accounts/bob/", {"decision": "suspend", "reason": WHY})
    bob.refresh_from_db()
    assert bob.suspended_at
    answer = api_of(staff).post("/api/v1/staff/accounts/bob", {"decision": "restore"})
    assert (answer.status_code, answer.json()["suspended_at"]) == (200, None)
