"""Anybody can tell staff; staff see it by thing, and nobody else does; each decision is written down."""

import pytest
from django.test import Client

from hub_site.audit.models import AuditEntry
from hub_site.common.errors import Refusal
from hub_site.moderation.models import Report
from hub_site.moderation.selectors import Thing, cases_waiting
from hub_site.moderation.services import report_file, thing_decide
from tests.factories import make_base, make_module

pytestmark = pytest.mark.django_db
WHY = "It holds letters of a stranger."


@pytest.fixture
def module(bob, tmp_path):
    make_base(tmp_path / "base")
    return make_module(bob, "french")


def test_a_report_goes_from_the_page_to_the_queue_to_a_decision(module, charlie, staff, browser_of):
    page = browser_of(charlie).get("/bob/french").content.decode()
    assert "/bob/french/report" in page
    answer = browser_of(charlie).post("/bob/french/report", {"reason": "personal", "note": "See line 3."})
    assert answer.status_code == 302
    queue = browser_of(staff).get("/staff/").content.decode()
    assert "bob/french" in queue
    address = Thing(module).page
    assert "See line 3." in browser_of(staff).get(address).content.decode()
    browser_of(staff).post(address, {"decision": "quarantine", "reason": WHY})
    assert Client().get("/bob/french").status_code == 404
    assert cases_waiting() == []
    assert WHY in browser_of(staff).get("/staff/").content.decode()


def test_the_same_by_programs(module, charlie, staff, api_of):
    answer = api_of(charlie).post("/api/v1/modules/bob/french/reports", {"reason": "spam"})
    assert answer.status_code == 201
    (case,) = api_of(staff).get("/api/v1/staff/queue").json()
    assert (case["thing"]["name"], case["reports"][0]["by"]) == ("bob/french", "charlie")
    address = f"/api/v1/staff/things/{case['thing']['kind']}/{case['thing']['key']}"
    assert api_of(staff).post(address, {"decision": "takedown"}).status_code == 400  # without a reason
    answer = api_of(staff).post(address, {"decision": "quarantine", "reason": WHY})
    assert (answer.status_code, answer.json()["state"]) == (200, "In quarantine")
    assert api_of(staff).post(address, {"decision": "release"}).json()["state"] == ""


def test_reports_about_one_thing_are_one_case_and_one_account_counts_once(module, alice, charlie):
    for reporter in (alice, charlie):
        report_file(thing=Thing(module), reason="spam", reporter=reporter)
    with pytest.raises(Refusal, match="already"):
        report_file(thing=Thing(module), reason="rights", reporter=alice)
    (case,) = cases_waiting()
    assert len(case.reports) == 2


def test_dismissed_reports_are_settled_and_may_come_again(module, charlie, staff):
    report_file(thing=Thing(module), reason="spam", reporter=charlie)
    thing_decide(staff=staff, thing=Thing(module), decision="dismiss")
    assert Report.objects.get().outcome == "dismiss"
    report_file(thing=Thing(module), reason="spam", reporter=charlie)
    assert len(cases_waiting()) == 1


def test_a_visitor_leaves_a_mail_address_and_is_throttled_by_network_address(module):
    client, address = Client(), "/api/v1/modules/bob/french/reports"
    assert client.post(address, {"reason": "spam"}, content_type="application/json").status_code == 400
    told = {"reason": "spam", "email": "reader@example.org"}
    answers = [client.post(address, told, content_type="application/json") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [201] * 5 + [429]
    assert 0 < int(answers[-1]["Retry-After"]) <= 3600
    page = client.post("/bob/french/report", told)
    assert (page.status_code, "Retry-After" in page) == (429, True)
    elsewhere = client.post(address, told, content_type="application/json", REMOTE_ADDR="10.0.0.9")
    assert elsewhere.status_code == 201


@pytest.mark.parametrize(
    "address", ["/staff/", "/staff/things/module/1/", "/staff/accounts/?name=bob", "/staff/accounts/bob/"]
)
def test_the_pages_of_staff_exist_for_staff_alone(module, charlie, browser_of, address):
    assert browser_of(charlie).get(address).status_code == 404
    assert Client().get(address)["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize("address", ["/api/v1/staff/things/module/1", "/api/v1/staff/accounts/bob"])
def test_programs_of_others_than_staff_decide_nothing(module, bob, staff, api_of, address):
    sent = {"decision": "suspend", "reason": WHY}
    assert api_of(bob).post(address, sent).status_code == 404
    assert api_of(staff, scope="read").post(address, sent).status_code == 403
    assert api_of(bob).get("/api/v1/staff/queue").status_code == 404


def test_nobody_reports_what_they_do_not_see(module, charlie, browser_of):
    type(module).objects.update(private=True)
    assert browser_of(charlie).get("/bob/french/report").status_code == 404
    assert browser_of(charlie).post("/bob/french/report", {"reason": "spam"}).status_code == 404


def test_each_decision_is_in_the_audit_with_who_and_why(module, charlie, staff):
    report_file(thing=Thing(module), reason="spam", reporter=charlie)
    for decision in ("quarantine", "release", "takedown"):
        module.refresh_from_db()
        thing_decide(staff=staff, thing=Thing(module), decision=decision, reason=WHY)
    entries = AuditEntry.objects.filter(actor=staff, action__startswith="module.").order_by("pk")
    told = [(entry.action, entry.thing, entry.detail["reason"]) for entry in entries]
    assert told == [
        (f"module.{action}", f"module:{module.pk}", WHY) for action in ("quarantine", "release", "takedown")
    ]


def test_its_owner_reads_the_history_without_names_of_staff_or_reporters(
    module, bob, charlie, staff, browser_of, api_of
):
    report_file(thing=Thing(module), reason="spam", reporter=charlie)
    thing_decide(staff=staff, thing=Thing(module), decision="dismiss")
    thing_decide(staff=staff, thing=Thing(module), decision="quarantine", reason=WHY)
    page = browser_of(bob).get("/bob/french/history").content.decode()
    assert "quarantined the module" in page
    assert WHY in page
    assert "stella" not in page
    assert "charlie" not in page
    lines = api_of(bob).get("/api/v1/modules/bob/french/history").json()["results"]
    assert [line["action"] for line in lines] == ["module.quarantine", "module.publish"]
    assert lines[0]["who"] == "the site's staff"
    assert browser_of(charlie).get("/bob/french/history").status_code == 404
