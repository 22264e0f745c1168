"""The registry for programs: one error shape, the same rules as on the pages."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from rest_framework.test import APIClient

from modules_registry.files.conversion import stop_launcher
from modules_registry.models import Module
from modules_registry.selectors import module_find
from tests.factories import adapter_files, card_file, config_file, make_module, weights_file
from tests.modules_registry.importing.checkpoints import attacks, lora, saved

pytestmark = pytest.mark.django_db
MODULES = "/api/v1/modules"
FRENCH = f"{MODULES}/alice/french"


@pytest.fixture
def converter():
    yield
    stop_launcher()


def publish(client, **changes):
    form = {"name": "french", "sentence": "Into French", "licence": "mit", "tags": ["a b", "c"]}
    return client.post(MODULES, form | adapter_files() | changes, format="multipart")


def error(response):
    return response.json()["error"]


def test_publish_find_read_and_download(alice, api_of, client, base):
    answer = publish(api_of(alice), card_file=card_file("# Card\n"))
    assert answer.status_code == 201
    module = answer.json()
    assert (module["id"], module["owner"], module["tags"]) == ("alice/french", "alice", ["a-b", "c"])
    assert module["current"]["author"] == "alice"
    found = client.get(f"{MODULES}?q=french&tag=c&author=alice").json()
    assert [result["id"] for result in found["results"]] == ["alice/french"]
    read = client.get(FRENCH).json()
    assert (read["card"], read["is_composable"], read["rank"]) == ("# Card\n", True, 2)
    download = client.get(f"{FRENCH}/files/adapter_model.safetensors")
    assert b"".join(download.streaming_content) == weights_file().read()


def test_a_base_may_be_named_beside_the_files(alice, api_of, base):
    at_home = config_file(base_model_name_or_path="/home/me/base")
    module = publish(api_of(alice), config_file=at_home, base=base.name).json()
    assert (module["base"], module["is_composable"]) == (base.name, True)


def test_an_uploaded_form_may_name_several_tags_in_one_text(alice, api_of):
    assert publish(api_of(alice), tags="one, Two words").json()["tags"] == ["one", "two-words"]


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"name": ""}, 400, "invalid", "name"),
        ({"licence": "made-up"}, 400, "invalid", "licence"),
        ({"weights_file": ""}, 400, "invalid", "weights_file"),
        ({"name": "a--b"}, 400, "bad_name", "name"),
        ({"namespace": "bob"}, 403, "not_your_namespace", "namespace"),
        ({"namespace": "nobody"}, 400, "no_such_namespace", "namespace"),
        ({"config_file": SimpleUploadedFile("c.json", b"{")}, 400, "config_not_json", "config_file"),
        ({"weights_file": SimpleUploadedFile("m.bin", b"GGUF")}, 400, "weights_gguf", "weights_file"),
        ({"tags": "<b>"}, 400, "bad_tags", "tags"),
    ],
)
def test_a_refusal_has_a_code_a_sentence_and_its_field(alice, bob, api_of, changes, status, code, field):
    response = publish(api_of(alice), **changes)
    assert (response.status_code, error(response)["code"]) == (status, code)
    assert list(error(response)["fields"]) == [field]
    assert error(response)["message"]
    assert not Module.objects.exists()


def test_adapter_model_bin_is_converted_and_never_run(alice, api_of, base, converter):
    def pickled(data):
        return {"weights_file": SimpleUploadedFile("adapter_model.bin", data)}

    api = api_of(alice)
    answer = publish(api, **pickled(saved(lora())))
    assert answer.status_code == 201
    assert [made["code"] for made in answer.json()["current"]["repairs"]] == ["converted"]
    again = api.post(f"{FRENCH}/versions", adapter_files() | pickled(saved(lora())), format="multipart")
    assert again.status_code == 200  # the same weights
    refused = publish(api, name="harmful", **pickled(attacks()["code in a zip"][0]))
    assert (refused.status_code, error(refused)["code"]) == (400, "checkpoint_code")
    assert error(refused)["message"].startswith("adapter_model.bin: ")


def test_a_taken_name_is_409(alice, french, api_of):
    response = publish(api_of(alice))
    assert (response.status_code, error(response)["code"]) == (409, "name_taken")


def test_without_a_token_one_reads_only(french, client):
    assert client.get(FRENCH).status_code == 200
    for answer in (publish(APIClient()), APIClient().delete(FRENCH)):
        assert answer.status_code == 401
        assert error(answer)["code"] == "not_authenticated"


def test_a_read_token_does_not_write(alice, french, api_of):
    client = api_of(alice, scope="read")
    for answer in (
        publish(client, name="other"),
        client.patch(FRENCH, {"sentence": "x"}),
        client.delete(FRENCH),
    ):
        assert answer.status_code == 403
    assert module_find("alice", "french").sentence == "Translates words into French."


def test_for_a_stranger_s_changes_the_module_is_not_found(french, charlie, api_of):
    client = api_of(charlie)
    answers = [
        client.patch(FRENCH, {"sentence": "Mine"}),
        client.delete(FRENCH),
        client.post(f"{FRENCH}/versions", adapter_files(seed=1), format="multipart"),
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert {error(answer)["code"] for answer in answers} == {"not_found"}
    assert module_find("alice", "french").current.number == 1


def test_a_change_names_only_what_changes(alice, french, api_of):
    answer = api_of(alice).patch(FRENCH, {"tags": ["new"]})
    assert answer.status_code == 200
    assert (answer.json()["tags"], answer.json()["sentence"]) == (["new"], "Translates words into French.")
    assert module_find("alice", "french").current == french.current


@pytest.mark.parametrize("changes", [{"owner": "bob"}, {"commit_id": "0"}, {"current": None}])
def test_what_cannot_be_changed_is_refused_and_nothing_changes(alice, french, api_of, changes):
    answer = api_of(alice).patch(FRENCH, {"tags": ["new"], **changes})
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == list(changes)
    assert api_of(alice).get(FRENCH).json()["tags"] != ["new"]


def test_a_new_version_is_201_and_the_same_files_200(alice, french, api_of):
    client = api_of(alice)
    answers = [
        client.post(f"{FRENCH}/versions", adapter_files(seed=1), format="multipart"),
        client.post(f"{FRENCH}/versions", adapter_files(seed=1), format="multipart"),
    ]
    assert [(answer.status_code, answer.json()["number"]) for answer in answers] == [(201, 2), (200, 2)]
    numbers = [version["number"] for version in client.get(f"{FRENCH}/versions").json()]
    assert numbers == [2, 1]


def test_a_deleted_module_is_gone(alice, french, api_of):
    client = api_of(alice)
    assert client.delete(FRENCH).status_code == 204
    assert client.get(FRENCH).status_code == 404
    assert client.get(MODULES).json()["count"] == 0


def test_results_come_in_pages(alice, base, client):
    for number in range(3):
        make_module(alice, f"m{number}", seed=number)
    first = client.get(f"{MODULES}?page_size=2&sort=name").json()
    assert (first["count"], [module["name"] for module in first["results"]]) == (3, ["m0", "m1"])
    second = client.get(first["next"]).json()
    assert [module["name"] for module in second["results"]] == ["m2"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("page=99", 400),
        ("cursor=x", 400),
        ("sort=evil", 400),
        ("q=%00", 400),
        ("tag=%00", 400),
        ("page_size=0", 400),
        ("page_size=101", 400),
        ("rank=x", 400),
        ("size=huge", 400),
    ],
)
def test_an_odd_query_is_answered_in_the_api_s_shape(french, client, query, status):
    response = client.get(f"{MODULES}?{query}")
    assert response.status_code == status
    if status != 200:
        assert set(error(response)) >= {"code", "message"}


@pytest.mark.parametrize("path", ["%2e%2e/%2e%2e/etc/passwd", "%00", "nothing", "adapter_model.bin"])
def test_files_that_are_not_there_are_404(french, client, path):
    assert client.get(f"{FRENCH}/files/{path}").status_code == 404
    assert client.get(f"{FRENCH}/files/adapter_config.json?revision={path}").status_code == 404


def test_bases_and_tags_say_how_many_modules_they_have(alice, french, client):
    make_module(
        alice, "far", config_file=config_file(base_model_name_or_path="google/flan-t5-large"), tags=["far"]
    )
    [base] = client.get("/api/v1/bases").json()
    assert (base["name"], base["modules_count"]) == ("tests/tiny", 1)
    assert {"name": "far", "modules_count": 1} in client.get("/api/v1/tags").json()


def test_a_base_counts_modules_and_not_their_versions(alice, french, api_of, client):
    api_of(alice).post(f"{FRENCH}/versions", adapter_files(seed=1), format="multipart")
    assert client.get("/api/v1/bases").json()[0]["modules_count"] == 1


def test_whoami_tells_whose_token_it_is(alice, lab, api_of, client):
    assert api_of(alice, scope="read").get("/api/v1/whoami").json() == {
        "name": "alice",
        "limited_to": "",
        "scope": "read",
        "namespaces": ["alice", "lab"],
    }
    assert client.get("/api/v1/whoami").status_code == 401


def test_unknown_addresses_answer_in_the_api_s_shape(client, db):
    strict = Client(enforce_csrf_checks=True)
    for response in (
        client.get("/api/v1/nothing/here"),
        client.get("/api/v1/a%0Ab"),
        strict.post("/api/v1/x"),
    ):
        assert (response.status_code, error(response)["code"]) == (404, "not_found")


def test_uploads_are_counted_and_reading_is_not(alice, french, api_of, client, settings):
    settings.HUB_UPLOADS_AN_HOUR = 2  # one was that of the fixture
    writer = api_of(alice)
    answer = publish(writer, name="one")
    assert (answer.status_code, answer["RateLimit"].partition(";t=")[0]) == (201, '"uploads";r=0')
    refused = publish(writer, name="two", weights_file=weights_file(seed=2))
    assert (refused.status_code, error(refused)["code"]) == (429, "too_many_uploads")
    assert refused["RateLimit-Policy"] == '"uploads";q=2;w=3600'
    assert 0 < int(refused["Retry-After"]) <= 3600
    assert writer.get(FRENCH).status_code == 200
