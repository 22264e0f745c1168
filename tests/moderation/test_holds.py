"""A module in quarantine is nobody's, through every way in; its owner is told why; a release undoes it."""

from io import BytesIO

import pytest
from django.core import mail
from django.test import Client

from composer.models import Composition
from composer.playground.models import TryOut
from composer.services import require_own
from hub_site.accounts.services import token_create
from hub_site.common.errors import Refusal
from hub_site.jobs.models import Status
from hub_site.moderation.selectors import Thing
from hub_site.moderation.services import thing_decide
from modules_registry.blobs import open_stored, store
from modules_registry.models import Module, Version
from modules_registry.repositories import repository_hide, repository_move
from modules_registry.services import module_delete, module_edit
from tests.factories import make_module, weights_file

pytestmark = pytest.mark.django_db

WHY = "It holds letters of a stranger."
READS = [
    "/bob/upper/resolve/main/adapter_model.safetensors",
    "/bob/upper/resolve/v1/adapter_config.json",
    "/bob/upper/raw/main/adapter_config.json",
    "/api/v1/modules/bob/upper",
    "/api/v1/modules/bob/upper/versions",
    "/api/v1/modules/bob/upper/files/adapter_model.safetensors",
    "/api/models/bob/upper",
    "/api/models/bob/upper/revision/main",
    "/api/models/bob/upper/tree/main",
    "/api/models/bob/upper/refs",
    "/api/models/bob/upper/auth-check",
    "/try/bob/upper/main/",
    "/bob/upper/edit",
    "/bob/upper/upload",
    "/bob/upper/delete",
]
LISTS = [
    "/modules/?q=upper",
    "/bob",
    "/api/v1/modules?q=upper",
    "/api/models?search=upper",
    "/",
]


@pytest.fixture
def upper(modules):
    return Module.objects.get(name="upper")


@pytest.fixture
def held(upper, staff):
    decide(staff, upper, "quarantine")
    return upper


def decide(staff, module, decision, reason=WHY):
    module.refresh_from_db()
    thing_decide(staff=staff, thing=Thing(module), decision=decision, reason=reason)
    module.refresh_from_db()


def clients_of(user):
    """As a browser, and as a program with a token."""
    browser, program = Client(), Client()
    browser.force_login(user)
    _, token = token_create(user=user, label="all", scope="write")
    program.defaults["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return [browser, program]


def test_nobody_gets_anything_of_it(held, bob, charlie, staff):
    strangers, told = [Client(), *clients_of(charlie)], [*clients_of(bob), *clients_of(staff)]
    for address in READS:
        for client in strangers:
            assert status(client, address) in (404, "sign in"), address
        for client in told:
            assert status(client, address) in (403, 404, "sign in"), address


def status(client, address):
    """What it comes to once redirects are followed."""
    answer = client.get(address)
    if answer.status_code != 302:
        return answer.status_code
    place = answer["Location"]
    return "sign in" if place.startswith("/accounts/login/") else status(client, place)


def test_no_list_names_it_to_a_stranger(held, charlie):
    for client in [Client(), *clients_of(charlie)]:
        for address in LISTS:
            assert "bob/upper" not in client.get(address).content.decode(), address


def test_its_owner_is_told_why_on_the_page_by_mail_and_by_each_program(
    held, bob, django_capture_on_commit_callbacks
):
    browser, program = clients_of(bob)
    assert WHY in (page := browser.get("/bob/upper").content.decode()), page
    assert "In quarantine" in browser.get("/bob").content.decode()
    assert WHY in program.get("/api/v1/modules/bob/upper").json()["error"]["message"]
    answer = program.get("/api/models/bob/upper")
    assert (answer.status_code, WHY in answer["X-Error-Message"]) == (403, True)


def test_a_mail_goes_to_its_owner_once_the_decision_stands(upper, staff, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        decide(staff, upper, "quarantine")
    (letter,) = mail.outbox
    assert (letter.recipients(), WHY in letter.body) == (["bob@example.org"], True)


@pytest.mark.parametrize(
    "change",
    [
        lambda module, owner: module_delete(editor=owner, module=module),
        lambda module, owner: module_edit(editor=owner, module=module, sentence="Harmless."),
        lambda module, owner: repository_hide(editor=owner, module=module, private=True),
        lambda module, owner: repository_move(
            editor=owner, module=module, namespace=owner.namespace, name="elsewhere"
        ),
    ],
)
def test_nothing_of_it_can_be_changed(held, bob, change):
    with pytest.raises(Refusal, match="in quarantine"):
        change(held, bob)


def test_its_weights_come_in_under_no_other_name(held, charlie, bob):
    for owner in (charlie, bob):
        with pytest.raises(Refusal) as refused:
            make_module(owner, "same-again", weights_file=weights_file(seed=2))
        assert refused.value.code == "weights_held"


def test_it_is_not_composed_any_more(held, ask):
    with pytest.raises(Refusal, match="no module"):
        ask(modules=["bob/upper", "bob/first"], selection="chosen")
    assert [row.name for row in ask().modules.all()] == ["bob/first", "bob/fruit"]


def test_what_waits_with_it_ends_and_says_why(ask, upper, staff, wakes):
    waiting = ask()
    question = TryOut.objects.create(
        owner=waiting.owner,
        version=upper.current,
        base=waiting.base,
        input="x",
        template="",
        max_new_tokens=4,
    )
    decide(staff, upper, "quarantine")
    waiting.refresh_from_db()
    question.refresh_from_db()
    assert (waiting.status, waiting.error_code) == (Status.CANCELLED, "module_held")
    assert (question.status, question.error_code) == (Status.FAILED, "module_held")


def test_an_adapter_that_it_went_into_is_handed_to_nobody(done, upper, staff, wakes):
    composition = done()
    decide(staff, upper, "quarantine")
    browser, program = clients_of(composition.owner)
    assert browser.get(f"/compositions/{composition.pk}/adapter.zip").status_code == 409
    assert program.get(f"/api/v1/compositions/{composition.pk}/adapter").status_code == 409
    assert "taken bob/upper out" in browser.get(composition.get_absolute_url()).content.decode()
    decide(staff, upper, "release")
    assert program.get(f"/api/v1/compositions/{composition.pk}/adapter").status_code == 200


def test_a_release_brings_everything_back(held, staff, charlie):
    decide(staff, held, "release", reason="")
    for client in [Client(), *clients_of(charlie)]:
        assert client.get("/bob/upper").status_code == 200
        assert client.get(READS[0]).status_code == 200


def test_a_takedown_deletes_the_bytes_and_keeps_name_and_weights_known(
    held, staff, bob, django_capture_on_commit_callbacks
):
    weights = held.current.weights_sha256
    with django_capture_on_commit_callbacks(execute=True):
        decide(staff, held, "takedown")
    assert not store().exists(weights)
    assert Version.objects.filter(module=held, weights_sha256=weights).exists()
    with pytest.raises(Refusal, match="exists already"):
        make_module(bob, "upper", seed=9)
    with pytest.raises(Refusal, match="removed these weights"):
        make_module(bob, "other", weights_file=weights_file(seed=2))
    with pytest.raises(Refusal, match="decision is not possible"):
        decide(staff, held, "release")


def test_a_blocked_link_leads_nowhere_and_is_not_made_anew(done, alice, staff, wakes):
    from composer.share.services import share_renew

    composition = done()
    link = share_renew(owner=alice, composition_id=composition.pk)
    thing_decide(staff=staff, thing=Thing(composition), decision="block", reason=WHY)
    for address in (link.get_absolute_url(), f"/api/v1/shared/{link.token}/adapter"):
        assert Client().get(address).status_code == 404
    with pytest.raises(Refusal, match=WHY):
        share_renew(owner=alice, composition_id=composition.pk)
    assert require_own(alice, composition.pk).report  # it is still hers
    thing_decide(staff=staff, thing=Thing(Composition.objects.get()), decision="unblock")
    assert Client().get(link.get_absolute_url()).status_code == 200


def test_staff_see_the_other_modules_with_the_same_weights(upper, staff, alice, api_of, browser_of):
    file = upper.current.files.get(path="adapter_model.safetensors")
    with open_stored(file.sha256) as stored:
        the_same = BytesIO(stored.read())
    copy = make_module(alice, "copy", weights_file=the_same)
    other = make_module(alice, "other", weights_file=weights_file(seed=77))
    decide(staff, upper, "takedown")
    told = api_of(staff).get(f"/api/v1/staff/things/module/{upper.pk}").json()["same_weights"]
    assert told == [{"key": str(copy.pk), "name": "alice/copy", "owner": "alice", "state": ""}]
    page = browser_of(staff).get(f"/staff/things/module/{upper.pk}/").content.decode()
    assert "alice/copy" in page
    assert other.full_name not in page
    decide(staff, copy, "quarantine")
    (told,) = api_of(staff).get(f"/api/v1/staff/things/module/{upper.pk}").json()["same_weights"]
    assert told["state"]
    (back,) = api_of(staff).get(f"/api/v1/staff/things/module/{copy.pk}").json()["same_weights"]
    assert back["name"] == "bob/upper"
