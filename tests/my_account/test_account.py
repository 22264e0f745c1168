"""An account sees what it uses, takes its data along, and goes; what others stand on stays."""

import json
import zipfile
from io import BytesIO

import pytest
from django.test import Client

from composer.models import Composition
from hub_site.accounts.models import ApiToken, Membership, Namespace, User
from hub_site.accounts.services import organization_create, user_create
from hub_site.common.errors import Refusal
from hub_site.my_account.services import account_delete, consequences
from modules_registry.models import Module, VersionFile
from modules_registry.repositories import repository_move
from modules_registry.services import module_publish
from tests.conftest import PASSWORD
from tests.factories import adapter_files, make_module

pytestmark = pytest.mark.django_db


def test_the_page_and_the_api_show_each_quota_with_what_is_used(modules, bob, browser_of, api_of):
    organization_create(founder=bob, name="lab")
    page = browser_of(bob).get("/settings/").content.decode()
    assert "Usage of bob" in page
    assert "Usage of lab" in page
    own, lab = api_of(bob).get("/api/v1/account").json()
    counted = {quota["name"]: quota["used"] for quota in own["quotas"]}
    assert (counted["repositories"], counted["uploads"], counted["imports"]) == (3, 3, 0)
    assert counted["storage"] > 0
    assert (lab["owner"], lab["quotas"][1]["used"]) == ("lab", 0)


def test_the_export_holds_all_and_nobody_else_s(done, alice, bob, browser_of, api_of, wakes):
    composition = done()
    for answer in (browser_of(alice).post("/settings/export/"), api_of(alice).get("/api/v1/account/export")):
        archive = zipfile.ZipFile(BytesIO(b"".join(answer)))
        told = json.loads(archive.read(f"compositions/{composition.pk}.json"))
        assert {"role": "shot", "input": "apple", "output": "APPLE"} in told["examples"]
        assert json.loads(archive.read("account.json"))["username"] == "alice"
        assert json.loads(archive.read("modules.json")) == []
    told = api_of(bob).get("/api/v1/account/export")
    archive = zipfile.ZipFile(BytesIO(b"".join(told)))
    assert [row["name"] for row in json.loads(archive.read("modules.json"))].count("upper") == 1
    assert not any(name.startswith("compositions/") for name in archive.namelist())


def test_what_a_deletion_means_is_said_first_and_it_needs_name_and_password(
    done,
    bob,
    browser_of,
    wakes,
):
    done()  # Alice's, from Bob's modules
    page = browser_of(bob).get("/settings/delete/").content.decode()
    assert "3 modules" in page
    assert "3 of your modules are part of other people's work" in page
    for wrong in ({"name": "bob", "password": "wrong"}, {"name": "alice", "password": PASSWORD}):
        assert "Nothing was deleted" in browser_of(bob).post("/settings/delete/", wrong).content.decode()
    browser = browser_of(bob)
    assert browser.post("/settings/delete/", {"name": "bob", "password": PASSWORD}).status_code == 302
    assert Client().get("/bob/upper").status_code == 404
    assert Client().get("/bob").status_code == 404


def test_a_deleted_account_is_gone_and_others_work_stays(done, alice, bob, api_of, wakes):
    composition = done()
    api_of(bob)
    lab = organization_create(founder=bob, name="lab")
    lab.memberships.create(user=alice, role="admin")
    lab.invitations.create(email="new@example.org", invited_by=bob)
    account_delete(user=bob)
    assert not lab.invitations.exists()
    assert [row.user for row in lab.memberships.all()] == [alice]
    bob.refresh_from_db()
    assert (bob.username, bob.email, bob.is_active) == (f"~{bob.pk}", "", False)
    assert not ApiToken.objects.filter(user=bob).exists()
    assert not Module.objects.existing().filter(namespace__name="bob").exists()
    assert VersionFile.objects.filter(version__used_in__composition=composition).exists()  # for that alone
    assert api_of(alice).get(f"/api/v1/compositions/{composition.pk}/adapter").status_code == 200
    with pytest.raises(Refusal, match="taken"):
        user_create(username="bob")
    account_delete(user=alice)
    assert not Composition.objects.exists()
    assert set(Namespace.objects.values_list("name", flat=True)) == {"alice", "bob", "lab"}


def test_an_organisation_is_not_left_without_an_owner(alice, base, api_of):
    lab = organization_create(founder=alice, name="lab")
    assert consequences(alice).is_possible  # it is empty
    module_publish(author=alice, namespace=lab, name="french", **adapter_files())
    asked = {"name": "alice", "password": PASSWORD}
    answer = api_of(alice).delete("/api/v1/account", asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "last_owner")
    assert User.objects.get(username="alice").is_active
    lab.memberships.create(user=user_create(username="olga"), role="admin")
    assert api_of(alice).delete("/api/v1/account", asked | {"name": "other"}).status_code == 400
    assert api_of(alice).delete("/api/v1/account", asked).status_code == 204
    assert Client().get("/lab/french").status_code == 200


def test_sessions_are_listed_and_ended(alice, api_of):
    browsers = [Client(headers={"User-Agent": name}) for name in ("Firefox", "Chromium")]
    for browser in browsers:
        browser.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    listed = api_of(alice).get("/api/v1/account/sessions").json()
    assert sorted(session["user_agent"] for session in listed) == ["Chromium", "Firefox"]
    assert "Chromium" in browsers[0].get("/accounts/sessions/").content.decode()
    stranger = Client()
    stranger.force_login(user_create(username="stranger-person"))
    numbers = {session["user_agent"]: session["id"] for session in listed}
    assert stranger.post(f"/settings/sessions/{numbers['Firefox']}/end/").status_code == 404
    browsers.append(Client(headers={"User-Agent": "Safari"}))
    browsers[2].post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    answer = browsers[2].post(f"/settings/sessions/{numbers['Chromium']}/end/", follow=True)
    assert "Session ended." in answer.content.decode()
    assert [browser.get("/settings/").status_code for browser in browsers] == [200, 302, 200]
    browsers[1].post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    browsers[2].logout()
    browsers[0].post("/accounts/sessions/")
    assert browsers[1].get("/settings/").status_code == 302
    (own,) = api_of(alice).get("/api/v1/account/sessions").json()
    assert api_of(alice).delete(f"/api/v1/account/sessions/{own['id']}").status_code == 204
    assert browsers[0].get("/settings/").status_code == 302


def test_a_module_is_renamed_and_transferred_on_its_page_and_by_program(
    alice,
    charlie,
    base,
    browser_of,
    api_of,
):
    organization_create(founder=alice, name="lab")
    make_module(alice, "french")
    browser_of(alice).post("/alice/french/move", {"namespace": "lab", "name": "francais"})
    assert Client().get("/alice/french")["Location"] == "/lab/francais"
    answer = api_of(alice).post("/api/v1/modules/lab/francais/move", {"namespace": "alice", "name": "french"})
    assert (answer.status_code, answer.json()["name"]) == (200, "french")
    assert (
        api_of(alice).post("/api/v1/modules/alice/french/move", {"namespace": "charlie"}).status_code == 403
    )
    assert browser_of(charlie).get("/alice/french/move").status_code == 404


def test_a_token_alone_deletes_no_account(alice, api_of):
    api = api_of(alice)
    for asked in ({"name": "alice"}, {"name": "alice", "password": "wrong"}):
        answer = api.delete("/api/v1/account", asked, format="json")
        assert answer.status_code == 400
        assert set(answer.json()["error"]["fields"]) == {"password"}
    assert Client().get("/alice").status_code == 200
    assert (
        api.delete("/api/v1/account", {"name": "alice", "password": PASSWORD}, format="json").status_code
        == 204
    )
    assert Client().get("/alice").status_code == 404


def test_few_passwords_can_be_tried_by_page_and_program_together(alice, api_of, browser_of, settings):
    settings.ACCOUNT_RATE_LIMITS = {"reauthenticate": "3/m/user"}
    api, wrong = api_of(alice), {"name": "alice", "password": "wrong"}
    assert [api.delete("/api/v1/account", wrong, format="json").status_code for _ in range(3)] == [400] * 3
    right = wrong | {"password": PASSWORD}
    for answer in (
        api.delete("/api/v1/account", right, format="json"),
        browser_of(alice).post("/settings/delete/", right),
    ):
        assert (answer.status_code, answer["Retry-After"]) == (429, "60")
    assert Client().get("/alice").status_code == 200


@pytest.mark.parametrize("way", ["page", "api", "hub"])
def test_only_an_owner_of_an_organisation_moves_a_module_out_of_it(alice, bob, base, api_of, browser_of, way):
    lab = organization_create(founder=alice, name="lab")
    Membership.objects.create(namespace=lab, user=bob, role=Membership.Role.WRITE)
    module = make_module(alice, "french")
    repository_move(editor=alice, module=module, namespace=lab, name="french")

    def move(user, owner, name):
        was = Module.objects.get(pk=module.pk).full_name
        if way == "page":
            browser_of(user).post(f"/{was}/move", {"namespace": owner, "name": name})
        elif way == "api":
            api_of(user).post(
                f"/api/v1/modules/{was}/move", {"namespace": owner, "name": name}, format="json"
            )
        else:
            asked = {"fromRepo": was, "toRepo": f"{owner}/{name}", "type": "model"}
            api_of(user).post("/api/repos/move", asked, format="json")
        return Module.objects.get(pk=module.pk).full_name

    assert move(bob, "bob", "mine") == "lab/french"
    assert move(bob, "lab", "francais") == "lab/francais"  # a writer may rename
    assert move(alice, "alice", "french") == "alice/french"


def test_whoever_may_not_move_a_module_out_is_told_who_may(alice, bob, base, api_of):
    lab = organization_create(founder=alice, name="lab")
    Membership.objects.create(namespace=lab, user=bob, role=Membership.Role.WRITE)
    module = make_module(alice, "french")
    repository_move(editor=alice, module=module, namespace=lab, name="french")
    answer = api_of(bob).post("/api/v1/modules/lab/french/move", {"namespace": "bob"}, format="json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "owners_only")
    assert answer.json()["error"]["message"] == "Only an owner of lab moves a module out of it."
