"""A private module and a draft do not exist for strangers: on no page, in no list, in no count."""

import json
import re

import pytest
from django.test import Client

from hub_site.accounts.models import Membership
from modules_registry.catalog import tags_in_use
from modules_registry.models import Module
from modules_registry.repositories import repository_create
from tests.factories import adapter_files, make_module
from tests.modules_registry.hub_api.test_refusals import Uploader

pytestmark = [pytest.mark.django_db, pytest.mark.slow]  # every address, as everybody

NAME = "unheard-of"
ADDRESSES = [
    "/lab/{name}",
    "/lab/{name}/tree/main",
    "/lab/{name}/tree/{commit}",
    "/lab/{name}/resolve/main/adapter_config.json",
    "/lab/{name}/resolve/{commit}/adapter_config.json",
    "/api/v1/modules/lab/{name}",
    "/api/v1/modules/lab/{name}/versions",
    "/api/v1/modules/lab/{name}/files/adapter_config.json",
    "/api/models/lab/{name}",
    "/api/models/lab/{name}/revision/main",
    "/api/models/lab/{name}/revision/{commit}",
    "/api/models/lab/{name}/tree/main",
    "/api/models/lab/{name}/commits/main",
    "/api/models/lab/{name}/refs",
    "/api/models/lab/{name}/auth-check",
]
OWNERS_ADDRESSES = ["/lab/{name}/edit", "/lab/{name}/upload", "/lab/{name}/delete"]
LISTS = [
    "/modules/?q={name}",
    "/modules/",
    "/",
    "/lab",
    "/tests/tiny",
    "/api/v1/modules",
    "/api/v1/modules?q={name}",
    "/api/v1/modules?author=lab",
    "/api/v1/tags",
    "/api/models",
    "/api/models?author=lab&full=true",
    "/api/models?search={name}",
    "/api/models-tags-by-type",
    "/compositions/new/",
    "/compositions/new/?modules=lab/{name}",
]
WRITES = [
    ("POST", "/api/models/lab/{name}/preupload/main", {"files": []}),
    ("POST", "/api/models/lab/{name}/commit/main", {}),
    ("POST", "/api/models/lab/{name}/paths-info/main", {"paths": []}),
    ("POST", "/api/models/lab/{name}/branch/x", {}),
    ("POST", "/api/models/lab/{name}/tag/main", {"tag": "x"}),
    ("DELETE", "/api/models/lab/{name}/tag/x", {}),
    ("PUT", "/api/models/lab/{name}/settings", {"private": False}),
    ("POST", "/lab/{name}.git/info/lfs/objects/batch", {"operation": "upload", "objects": []}),
    ("DELETE", "/api/repos/delete", {"organization": "lab", "name": "{name}"}),
    ("POST", "/api/repos/move", {"fromRepo": "lab/{name}", "toRepo": "charlie/x"}),
]


@pytest.fixture
def secret(alice, lab, base):
    """A private module of an organisation, with a tag and a licence that nothing else has."""
    module = make_module(alice, "elsewhere", seed=4, private=True, tags=["hush"], licence="cc0-1.0")
    Module.objects.filter(pk=module.pk).update(namespace=lab, name=NAME, key=NAME)
    return Module.objects.get(pk=module.pk)


@pytest.fixture
def strangers(charlie, browser_of):
    def with_token(address):
        return Uploader(charlie).send("GET", address)

    return [Client().get, browser_of(charlie).get, with_token]


def at(address, module):
    head = module.current or module.draft
    return address.format(name=module.name, commit=head.commit_id)


@pytest.mark.parametrize("address", [*ADDRESSES, *OWNERS_ADDRESSES])
def test_its_addresses_are_those_of_nothing(secret, strangers, address):
    nothing = Module(namespace=secret.namespace, name="no-such-name", current=secret.current)
    for get in strangers:
        there, not_there = get(at(address, secret)), get(at(address, nothing))
        assert there.status_code == not_there.status_code
        assert there.status_code in (302, 404)  # to sign in, or nothing
        assert without(NAME, there) == without("no-such-name", not_there)


def without(name, response):
    """A page but for what differs anyway: the name asked for, and 64 random characters against forgery."""
    return re.sub(r"\b[A-Za-z0-9]{64}\b", "", response.content.decode()).replace(name, "")


@pytest.mark.parametrize("address", LISTS)
def test_no_list_search_facet_or_count_knows_it(secret, strangers, address):
    asked = at(address, secret)
    for get in strangers:
        content = get(asked).content.decode()
        assert "hush" not in content
        assert f'/lab/{NAME}"' not in content  # a link, an id
        assert NAME in asked or NAME not in content  # a search shows its own words
    assert tags_in_use() == []


def test_counts_are_those_without_it(secret, strangers):
    assert "0</span> module" in strangers[0]("/modules/").content.decode()
    assert strangers[0]("/api/v1/modules").json()["count"] == 0
    assert strangers[0]("/api/v1/bases").json()[0]["modules_count"] == 0
    assert strangers[0]("/api/organizations/lab/overview").json()["numModels"] == 0
    assert [get("/api/models?search=unheard").json() for get in strangers] == [[], [], []]


@pytest.mark.parametrize(("method", "address", "value"), WRITES)
def test_a_stranger_can_change_nothing_and_learns_nothing(secret, charlie, method, address, value):
    uploader = Uploader(charlie)
    answers = []
    for name in (NAME, "no-such-name"):
        body = json.loads(json.dumps(value).replace("{name}", name))
        answers.append(uploader.send(method, address.format(name=name), body))
    assert answers[0].status_code == answers[1].status_code == 404
    assert answers[0].content.replace(NAME.encode(), b"") == answers[1].content.replace(b"no-such-name", b"")
    assert answers[0].get("X-Error-Code") == answers[1].get("X-Error-Code") == "RepoNotFound"
    assert Module.objects.get(pk=secret.pk).private


def test_to_create_it_again_says_no_more_than_for_any_name(secret, charlie):
    for name in (NAME, "no-such-name"):
        response = Uploader(charlie).create(name, organization="lab")
        assert response.status_code == 403
        assert "exists" not in response.json()["error"]


@pytest.mark.parametrize("role", ["read", "write"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_the_organisation_s_people_have_it(secret, lab, charlie, browser_of, role, address):
    Membership.objects.create(namespace=lab, user=charlie, role=role)
    for response in (
        browser_of(charlie).get(at(address, secret)),
        Uploader(charlie, "read").send("GET", at(address, secret)),
    ):
        if "/api/v1" in address or address.startswith("/api") or "resolve" in address:
            assert response.status_code == 200
    assert browser_of(charlie).get(at("/lab/{name}", secret)).status_code == 200


def test_its_owner_finds_it_in_the_lists(secret, alice, browser_of):
    assert NAME in browser_of(alice).get("/modules/?q=unheard").content.decode()
    assert NAME in browser_of(alice).get("/lab").content.decode()
    assert [each["id"] for each in Uploader(alice).send("GET", "/api/models").json()] == [f"lab/{NAME}"]


@pytest.mark.parametrize("address", [*ADDRESSES, *OWNERS_ADDRESSES])
def test_a_draft_is_there_for_its_owner_alone(alice, lab, strangers, browser_of, address):
    draft = repository_create(author=alice, namespace=lab, name=NAME)
    assert all(get(at(address, draft)).status_code in (302, 404) for get in strangers)
    is_file = "adapter_config.json" in address
    is_ours = address.startswith("/api/v1")  # knows published modules only
    answer = browser_of(alice).get(at(address, draft))
    assert answer.status_code == (404 if is_file or is_ours else 200)


def test_a_draft_is_listed_to_its_owner_alone(alice, lab, strangers, browser_of):
    repository_create(author=alice, namespace=lab, name=NAME)
    assert NAME in browser_of(alice).get("/lab").content.decode()
    for get in strangers:
        assert NAME not in get("/lab").content.decode()
        assert get("/api/models?author=lab").json() == []


def test_a_form_completes_a_draft(alice, base, browser_of):
    draft = repository_create(author=alice, namespace=alice.namespace, name="german")
    response = browser_of(alice).post("/alice/german/upload", adapter_files())
    assert response.status_code == 302
    draft.refresh_from_db()
    assert (draft.current.number, draft.draft) == (1, None)


def test_a_module_is_hidden_and_shown_by_its_edit_form(alice, french, browser_of, client):
    described = {"sentence": "Words", "licence": "mit", "tags": "", "card": ""}
    browser_of(alice).post("/alice/french/edit", described | {"private": "on"})
    assert client.get("/alice/french").status_code == 404
    browser_of(alice).post("/alice/french/edit", described)
    assert client.get("/alice/french").status_code == 200
