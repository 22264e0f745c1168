"""An account is told, once, what became of its work and its modules: on a page, by the API, by mail."""

import smtplib
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from composer.models import Composition
from composer.run import evidence
from hub_site.accounts.organizations import member_invite
from hub_site.accounts.services import organization_create
from hub_site.jobs import leases
from hub_site.jobs.models import PUT_OFF_MAX, Status
from hub_site.jobs.tasks import forget_notifications, mail_notifications
from hub_site.moderation.selectors import Thing
from hub_site.moderation.services import report_file, thing_decide
from hub_site.notifications.models import Kind, Notice, Notification
from hub_site.notifications.services import mail_choose, notify
from modules_registry.importing.models import ImportItem, ModuleImport
from modules_registry.importing.services import import_request
from modules_registry.lineage import lineage_record
from modules_registry.services import module_edit
from tests.factories import make_module

pytestmark = pytest.mark.usefixtures("wakes")
ADDRESS, API = "/notifications/", "/api/v1/account/notifications"


@pytest.fixture(autouse=True)
def with_mail_server(settings):
    settings.MAIL_SERVER = {"EMAIL_HOST": "mail.example.org"}
    settings.PUBLIC_ADDRESS = "https://hub.example.org"


def told(user, kind=None):
    """The texts of an account's notifications, newest first."""
    found = Notification.objects.filter(user=user)
    return [row.text for row in (found.filter(kind=kind) if kind else found)]


def record_part(composition):
    """What a finished composition tells of the modules in it."""
    modules = [{"name": "bob/first", "without_loss_nats": 1.4}]
    verdict = {"decision": "use"}
    report = {"few_shot_loss_nats": 1.0, "modules": modules, "baselines": [], "verdict": verdict}
    rows = list(composition.modules.select_related("version__module"))
    evidence.record_composition(composition, rows, report)


# --- what is told -----------------------------------------------------------


def test_a_finished_composition_is_told_with_its_verdict_and_its_page(done, alice):
    composition = done()
    (notification,) = Notification.objects.filter(user=alice)
    assert notification.text == "“Fruit in capitals” is done: Use it."
    assert notification.path == composition.get_absolute_url()
    assert notification.read_at is None


def test_a_failed_one_is_told_with_its_reason_and_a_cancelled_one_is_not(ask, alice):
    failed, cancelled = (leases.claim(Composition, ask().pk, worker="w") for _ in range(2))
    leases.finish(failed, Status.FAILED, error_code="deadline", error_message="It took too long.")
    leases.finish(cancelled, Status.CANCELLED)
    assert told(alice) == ["“Fruit in capitals” has failed. It took too long."]


def test_one_that_the_sweep_gives_up_is_told_too(ask, alice):
    composition = leases.claim(Composition, ask().pk, worker="w")
    long_ago = timezone.now() - PUT_OFF_MAX - timedelta(seconds=1)
    Composition.objects.filter(pk=composition.pk).update(lease_until=long_ago, put_off_since=long_ago)
    leases.sweep(Composition)
    (text,) = told(alice)
    assert "did not pass within a day" in text


def test_a_worker_that_lost_its_job_tells_nothing(ask, alice):
    stale = leases.claim(Composition, ask().pk, worker="w")
    Composition.objects.filter(pk=stale.pk).update(generation=stale.generation + 1)
    with pytest.raises(leases.LeaseLost):
        leases.finish(stale, Status.FAILED, error_message="It took too long.")
    assert told(alice) == []


def test_an_import_is_told_with_how_much_came_in(alice):
    asked = import_request(owner=alice, namespace=alice.namespace, sources=["a/x", "a/y"], enqueue=False)
    job = leases.claim(ModuleImport, asked.pk, worker="w")
    for position, state in enumerate((ImportItem.State.IMPORTED, ImportItem.State.REFUSED)):
        job.items.create(position=position, repo_id=f"a/{position}", state=state)
    leases.finish(job, Status.DONE)
    assert told(alice) == ["The import of a/x and 1 more is done: 1 imported, 1 not imported."]


def test_the_first_and_the_tenth_composition_of_others_with_a_module_are_told_without_names(ask, bob):
    record_part(ask())
    record_part(ask(seed=8))
    assert told(bob) == ["Your module bob/first was used in someone else's composition."]
    for seed in range(10, 18):
        record_part(ask(seed=seed))
        Composition.objects.update(status=Status.CANCELLED)
    assert told(bob)[0] == "Your module bob/first was used in 10 compositions of others."
    assert len(told(bob)) == 2
    record_part(ask(owner=bob))
    assert len(told(bob)) == 2


def test_a_module_composed_from_somebody_s_is_told_once_it_is_public(modules, alice, bob):
    first, fruit, upper = modules
    child = make_module(alice, "capitals", seed=9, private=True)
    parents = [(first.current, 0.5), (fruit.current, 0.2), (upper.current, 0.0)]
    lineage_record(version=child.current, parents=parents)
    assert told(bob) == []
    for private in (False, True, False):
        module_edit(editor=alice, module=child, private=private)
    assert sorted(told(bob)) == [
        "alice/capitals was published. It is composed from your module bob/first.",
        "alice/capitals was published. It is composed from your module bob/fruit.",
    ]
    assert {row.path for row in Notification.objects.all()} == {"/alice/capitals"}


def test_nobody_is_told_of_their_own_modules(modules, bob):
    child = make_module(bob, "capitals", seed=9)
    lineage_record(version=child.current, parents=[(modules[0].current, 1.0)])
    assert told(bob) == []


def test_who_reported_and_whose_it_is_are_told_what_staff_decided(modules, bob, charlie, staff):
    report_file(thing=Thing(modules[0]), reason="spam", reporter=charlie)
    thing_decide(staff=staff, thing=Thing(modules[0]), decision="quarantine", reason="It is advertising.")
    (reported,) = told(charlie)
    assert reported.startswith("Your report about bob/first was handled: it is out of the library")
    assert told(bob, Kind.STAFF) == ["bob/first is in quarantine. It is advertising."]
    assert Notification.objects.get(user=charlie).path == ""


def test_an_invitation_is_told(alice, bob):
    lab = organization_create(founder=alice, name="lab")
    member_invite(actor=alice, namespace=lab, who="bob", role="read")
    assert told(bob) == ["alice invites you to the organization lab."]


def test_the_same_is_not_told_again(alice):
    notices = [Notice(alice.pk, Kind.USE, f"module:{number}:uses:1", "Used.") for number in (1, 1, 2)]
    notify(notices)
    notify(notices)
    assert told(alice) == ["Used.", "Used."]


# --- where it is read --------------------------------------------------------


def test_the_header_counts_what_is_unread_and_the_page_it_leads_to_marks_it(done, alice, browser_of):
    composition, browser = done(), browser_of(alice)
    assert "unread notifications" in browser.get("/help/").content.decode()
    page = browser.get(ADDRESS).content.decode()
    assert f'<a href="{composition.get_absolute_url()}">“Fruit in capitals” is done:' in page
    assert "Unread (1)" in page
    browser.get(composition.get_absolute_url())
    assert "unread notifications" not in browser.get("/help/").content.decode()
    assert "Nothing unread" in browser.get(f"{ADDRESS}?show=unread").content.decode()


def test_one_is_marked_or_all_and_nobody_else_s(alice, bob, browser_of, api_of):
    for user in (alice, bob):
        notify(Notice(user.pk, Kind.USE, f"module:{number}:uses:1", f"Use {number}.") for number in range(3))
    first = Notification.objects.filter(user=alice).earliest("pk")
    browser = browser_of(alice)
    browser.post(f"{ADDRESS}read/", {"id": first.pk})
    assert api_of(alice).get(API, {"unread": "true"}).json()["count"] == 2
    others = list(Notification.objects.filter(user=bob).values_list("pk", flat=True))
    assert api_of(alice).post(f"{API}/read", {"ids": others}).json() == {"read": 0}
    browser.post(f"{ADDRESS}read/", {"id": "9" * 40})
    browser.post(f"{ADDRESS}read/")
    assert api_of(alice).get(API, {"unread": "true"}).json()["count"] == 0
    assert api_of(bob).post(f"{API}/read", {}).json() == {"read": 3}


def test_a_program_reads_them_newest_first(done, alice, api_of):
    composition = done()
    notify([Notice(alice.pk, Kind.USE, "module:1:uses:1", "Used.")])
    newest, oldest = api_of(alice).get(API).json()["results"]
    assert (newest["kind"], newest["url"], newest["read_at"]) == ("use", "", None)
    assert oldest["url"] == f"https://hub.example.org{composition.get_absolute_url()}"
    assert api_of(alice).get(API, {"unread": "maybe"}).status_code == 400


def test_after_half_a_year_they_are_forgotten(alice):
    notify([Notice(alice.pk, Kind.USE, "module:1:uses:1", "Used.")])
    forget_notifications()
    assert told(alice) == ["Used."]
    Notification.objects.update(created_at=timezone.now() - timedelta(days=181))
    forget_notifications()
    assert told(alice) == []


# --- by mail -----------------------------------------------------------------


def test_by_mail_come_those_that_were_chosen_once_each(alice, bob, browser_of):
    browser_of(alice).post(f"{ADDRESS}mail/", {"mail": ["use", "import"]})
    for user in (alice, bob):
        notify([Notice(user.pk, Kind.USE, "module:1:uses:1", "Used.", "/alice/french")])
        notify([Notice(user.pk, Kind.REPORT, "report:1", "Handled.")])
    for _ in range(2):
        mail_notifications()
    (letter,) = mail.outbox
    assert letter.to == ["alice@example.org"]
    assert "Used." in letter.body
    assert "https://hub.example.org/alice/french" in letter.body
    assert "https://hub.example.org/notifications/" in letter.body


def test_a_mail_server_that_is_away_is_tried_again(alice, monkeypatch):
    mail_choose(user=alice, kinds=["use"])
    notify([Notice(alice.pk, Kind.USE, "module:1:uses:1", "Used.")])

    def refuse(*args, **kwargs):
        raise smtplib.SMTPServerDisconnected("It is away.")

    with monkeypatch.context() as away:
        away.setattr("hub_site.notifications.mail.send_mail", refuse)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            mail_notifications()
    mail_notifications()
    assert len(mail.outbox) == 1


def test_who_wants_a_mail_of_each_composition_finds_it_switched_on(ask, alice, browser_of, api_of):
    assert not ask().mail_when_done
    assert api_of(alice).put(f"{API}/mail", {"mail": ["composition"]}).json() == {"mail": ["composition"]}
    composition = ask()
    assert composition.mail_when_done
    held = leases.claim(Composition, composition.pk, worker="w")
    leases.finish(held, Status.FAILED, error_message="It took too long.")
    mail_notifications()
    assert mail.outbox == []  # it has a mail of its own, with the verdict
    page = browser_of(alice).get(ADDRESS).content.decode()
    assert 'value="composition" checked' in page


def test_a_choice_is_taken_back_and_unknown_kinds_are_refused(alice, api_of):
    program = api_of(alice)
    program.put(f"{API}/mail", {"mail": ["use", "report"]})
    assert program.put(f"{API}/mail", {"mail": []}).json() == {"mail": []}
    assert program.put(f"{API}/mail", {"mail": ["staff"]}).status_code == 400
    assert api_of(alice, scope="read").put(f"{API}/mail", {"mail": []}).status_code == 403


def test_a_site_without_a_mail_server_offers_none(alice, browser_of, settings):
    settings.MAIL_SERVER = None
    page = browser_of(alice).get(ADDRESS).content.decode()
    assert "has no mail server" in page
    assert 'name="mail"' not in page
