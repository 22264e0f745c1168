"""Imports for programs: the same rules as on the pages, one error shape."""

import pytest

from modules_registry.importing import runner
from modules_registry.importing.models import ModuleImport
from tests.modules_registry.importing.source_server import COMMIT

pytestmark = pytest.mark.django_db
IMPORTS = "/api/v1/imports"


def error(response):
    return response.json()["error"]["code"]


def test_ask_follow_and_try_again(hub, alice, base, api_of):
    client = api_of(alice)
    answer = client.post(IMPORTS, {"sources": ["far"]})
    assert answer.status_code == 202
    asked = answer.json()
    assert (asked["status"], asked["sources"], asked["namespace"]) == ("queued", ["far"], "alice")
    assert asked["url"].endswith(f"/modules/imports/{asked['id']}/")
    address = f"{IMPORTS}/{asked['id']}"
    assert error(client.post(f"{address}/again")) == "not_finished"
    runner.import_run(ModuleImport.objects.get().pk)
    read = client.get(address).json()
    assert (read["status"], read["is_finished"]) == ("done", True)
    assert read["counts"] == {"waiting": 0, "imported": 2, "unchanged": 0, "refused": 2}
    items = {item["repo_id"]: item for item in read["items"]}
    repaired = items["far/wrong-rank"]
    assert repaired["module"] == "alice/wrong-rank"
    assert [repair["code"] for repair in repaired["origin"]["repairs"]] == ["rank", "converted", "peft_type"]
    assert (items["far/harmful"]["code"], items["far/harmful"]["module"]) == ("checkpoint_code", None)
    listed = client.get(IMPORTS).json()
    assert [row["id"] for row in listed["results"]] == [asked["id"]]
    again = client.post(f"{address}/again")
    assert (again.status_code, again.json()["sources"]) == (202, ["far/harmful", "far/empty"])


def test_a_module_says_where_it_comes_from(hub, alice, base, api_of, client):
    api_of(alice).post(IMPORTS, {"sources": ["far/good"]})
    runner.import_run(ModuleImport.objects.get().pk)
    origin = client.get("/api/v1/modules/alice/good").json()["current"]["origin"]
    assert (origin["repo_id"], origin["commit_id"]) == ("far/good", COMMIT)
    assert (origin["weights_file"], len(origin["weights_sha256"])) == ("adapter_model.bin", 64)
    assert origin["url"] == f"{origin['hub']}/far/good/tree/{COMMIT}"


def test_an_uploaded_module_has_no_origin(french, client):
    assert client.get("/api/v1/modules/alice/french").json()["current"]["origin"] is None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid"),
        ({"sources": []}, 400, "invalid"),
        ({"sources": [" "]}, 400, "invalid"),
        ({"sources": ["../x"]}, 400, "bad_sources"),
        ({"sources": ["a/b"], "base": "../x"}, 400, "base_not_a_name"),
        ({"sources": ["a/b"], "namespace": "bob"}, 403, "not_your_namespace"),
        ({"sources": ["a/b"], "namespace": "none"}, 400, "no_such_namespace"),
        ({"sources": ["a/b", "a/c", "a/d"]}, 400, "bad_sources"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(alice, bob, api_of, settings, body, status, code):
    settings.HUB_IMPORT_REPOSITORIES_MAX = 2
    answer = api_of(alice).post(IMPORTS, body)
    assert (answer.status_code, error(answer)) == (status, code)
    assert not ModuleImport.objects.exists()


def test_an_owner_has_few_unfinished_imports_at_once(alice, api_of, settings):
    settings.HUB_IMPORTS_UNFINISHED_MAX = 1
    client = api_of(alice)
    first = client.post(IMPORTS, {"sources": ["a/b"]}).json()
    second = client.post(IMPORTS, {"sources": ["a/b"]})
    assert (second.status_code, error(second)) == (429, "too_many_running")
    assert int(second.headers["Retry-After"]) > 0
    cancelled = client.post(f"{IMPORTS}/{first['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    assert client.post(IMPORTS, {"sources": ["a/b"]}).status_code == 202


def test_a_stranger_finds_nothing_and_a_visitor_is_asked_for_a_token(alice, charlie, api_of, client):
    address = f"{IMPORTS}/{api_of(alice).post(IMPORTS, {'sources': ['a/b']}).json()['id']}"
    stranger = api_of(charlie)
    assert stranger.get(IMPORTS).json()["count"] == 0
    for call, path in ((stranger.get, ""), (stranger.post, "/cancel"), (stranger.post, "/again")):
        assert call(address + path).status_code == 404
    assert client.get(IMPORTS).status_code == 401
    assert client.post(IMPORTS, {"sources": ["a/b"]}, content_type="application/json").status_code == 401
    assert api_of(alice, scope="read").post(IMPORTS, {"sources": ["a/b"]}).status_code == 403
    assert ModuleImport.objects.get().status == "queued"


def test_the_schema_describes_imports(client):
    schema = client.get("/api/v1/schema", headers={"accept": "application/json"}).json()
    for path in ("", "/{import_id}", "/{import_id}/cancel", "/{import_id}/again"):
        assert f"{IMPORTS}{path}" in schema["paths"]
    version = schema["components"]["schemas"]["Version"]["properties"]
    assert "origin" in version
