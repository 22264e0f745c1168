"""Compositions under /api/v1/: the journey, the refusals, and who may see what."""

import io
import json
import zipfile

import pytest

from composer.core.spec.choices import BUDGET_OF_METHOD
from composer.models import Composition, CompositionEvent
from composer.run import job_folder
from hub_site.jobs import leases
from modules_registry.models import BaseModel, Version
from modules_registry.services import module_delete, version_add
from tests.factories import adapter_files, make_base, make_module

pytestmark = pytest.mark.usefixtures("wakes")  # nothing here reaches a broker

ADDRESS = "/api/v1/compositions"
BODY = {
    "name": "Fruit in capitals",
    "base": "tests/tiny",
    "examples": [{"input": "apple", "output": "APPLE"}, {"input": "pear", "output": "PEAR"}],
    "held_out": [{"input": "fig", "output": "FIG"}],
    "seed": 3,
}


@pytest.fixture
def api(alice, modules, api_of):
    return api_of(alice)


def error_of(response, status):
    assert response.status_code == status, response.content
    return response.json()["error"]


def test_a_composition_is_asked_for_and_answered_at_once(api):
    answer = api.post(ADDRESS, BODY)
    assert answer.status_code == 202
    asked = answer.json()
    assert (asked["status"], asked["method"], asked["seed"]) == ("queued", "auto", 3)
    assert asked["budget"] == BUDGET_OF_METHOD["auto"]
    assert [module["name"] for module in asked["modules"]] == ["bob/first", "bob/fruit", "bob/upper"]
    assert api.get(f"{ADDRESS}/{asked['id']}").json()["id"] == asked["id"]
    assert [row["id"] for row in api.get(ADDRESS).json()["results"]] == [asked["id"]]


def test_modules_are_chosen_by_name(api):
    asked = api.post(ADDRESS, BODY | {"modules": ["bob/upper", "Bob/First"]}).json()
    assert asked["selection"] == "chosen"
    assert [module["name"] for module in asked["modules"]] == ["bob/upper", "bob/first"]


def test_everything_the_command_line_takes_can_be_asked_for(api):
    wanted = {
        "method": "lorahub", "search": "cma", "objective": "exact_match", "selection": "random:3+screen:2",
        "budget": 12, "batch_size": 1, "precision": "fp32", "device": "cpu", "rank": 2,
        "template": "Q: {input}", "max_new_tokens": 8, "baselines": "none",
    }  # fmt: skip
    asked = api.post(ADDRESS, BODY | wanted).json()
    assert {name: asked[name] for name in wanted} == wanted
    job = job_folder.job_description(Composition.objects.get(), [])
    assert {name: job[name] for name in wanted.keys() - {"selection"}} == {
        name: value for name, value in wanted.items() if name != "selection"
    }
    assert job["select"] == "screen:2"  # three are drawn, and rows, already


@pytest.mark.parametrize(
    ("sent", "kept"),
    [({}, "auto"), ({"rank": None}, "auto"), ({"rank": "auto"}, "auto"), ({"rank": "full"}, "full"),
     ({"rank": 16}, 16), ({"rank": "16"}, 16)],
)  # fmt: skip
def test_a_rank_is_auto_unless_another_is_asked_for(api, sent, kept):
    asked = api.post(ADDRESS, BODY | sent).json()
    assert asked["rank"] == kept
    assert job_folder.job_description(Composition.objects.get(), [])["rank"] == kept


def test_a_running_search_is_stopped_and_a_waiting_one_has_nothing_to_keep(api, ask, charlie, api_of):
    composition = ask()
    stop = f"{ADDRESS}/{composition.pk}/stop"
    assert error_of(api.post(stop), 409)["code"] == "not_running"
    leases.claim(Composition, composition.pk, worker="w")
    assert api_of(charlie).post(stop).status_code == 404
    assert [api.post(stop).json()["stop_requested"] for _ in range(2)] == [True, True]


def test_a_begun_one_that_waits_again_takes_the_wish_to_stop_down(api, ask):
    held = leases.claim(Composition, ask().pk, worker="w")
    leases.put_off(held, code="machine_fault", reason="A machine of the site has a fault.")
    assert api.post(f"{ADDRESS}/{held.pk}/stop").json()["stop_requested"] is True


def test_the_same_idempotency_key_and_body_give_the_same_composition(api):
    answers = [api.post(ADDRESS, BODY, headers={"Idempotency-Key": "once"}) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.fixture
def retried(api):
    """Send a body under one key; send it again after the library changed: the ids that were answered."""

    def send_twice(body, change):
        once = {"Idempotency-Key": "once"}
        first = api.post(ADDRESS, body, headers=once).json()["id"]
        change()
        again = api.post(ADDRESS, body, headers=once)
        assert again.status_code == 202, again.content
        return first, again.json()["id"]

    return send_twice


def test_a_retry_is_the_same_request_though_the_library_outgrew_what_is_composed_at_once(
    retried, bob, monkeypatch
):
    monkeypatch.setattr("composer.matching.ranking.MODULES_MAX", 3)
    first, again = retried(BODY | {"selection": "auto"}, lambda: make_module(bob, "fourth", seed=4))
    assert first == again
    row = Composition.objects.get()
    assert (row.selection, row.modules.count()) == ("all", 3)


def test_a_retry_is_the_same_request_though_other_modules_are_the_most_promising_by_now(
    retried, bob, modules, monkeypatch
):
    for name in ("MODULES_MAX", "TRIED_MAX"):
        monkeypatch.setattr(f"composer.matching.ranking.{name}", 1)
    body = BODY | {"name": "fruit", "selection": "auto"}
    first, again = retried(body, lambda: module_delete(editor=bob, module=modules[1]))
    assert first == again
    assert [module.name for module in Composition.objects.get().modules.all()] == ["bob/fruit"]


def test_a_retry_is_the_same_request_though_a_named_module_has_a_new_version(retried, bob, modules):
    body = BODY | {"modules": ["bob/upper", "bob/first"]}
    first, again = retried(body, lambda: version_add(author=bob, module=modules[0], **adapter_files(seed=99)))
    assert first == again
    assert Composition.objects.get().modules.get(name="bob/first").version.number == 1


def test_a_retry_is_the_same_request_though_another_base_has_most_modules_by_now(retried, bob, tmp_path):
    body = {name: value for name, value in BODY.items() if name != "base"}

    def another_base():
        make_base(tmp_path / "other", name="tests/other")
        Version.objects.update(base=BaseModel.objects.get(name="tests/other"))

    first, again = retried(body, another_base)
    assert first == again
    assert Composition.objects.get().base.name == "tests/tiny"


def test_a_level_that_takes_more_modules_is_another_request_where_it_decides(api):
    asked = BODY | {"budget": 30, "baselines": "none", "selection": "auto", "level": "quick"}
    api.post(ADDRESS, asked, headers={"Idempotency-Key": "once"})
    changed = asked | {"level": "balanced"}
    error = error_of(api.post(ADDRESS, changed, headers={"Idempotency-Key": "once"}), 422)
    assert error["code"] == "idempotency_key_reused"
    for level in ("quick", "balanced"):
        sent = asked | {"selection": "all", "level": level}
        assert api.post(ADDRESS, sent, headers={"Idempotency-Key": "all"}).status_code == 202
    assert Composition.objects.count() == 2


def test_without_any_base_a_request_is_refused_at_its_field(api_of, alice):
    body = {name: value for name, value in BODY.items() if name != "base"}
    for address in (ADDRESS, f"{ADDRESS}/estimate", f"{ADDRESS}/candidates"):
        error = error_of(api_of(alice).post(address, body), 400)
        assert error["fields"] == {"base": ["The library has no base model yet."]}


def test_the_same_idempotency_key_with_another_body_is_refused(api):
    api.post(ADDRESS, BODY, headers={"Idempotency-Key": "once"})
    error = error_of(api.post(ADDRESS, BODY | {"seed": 4}, headers={"Idempotency-Key": "once"}), 422)
    assert error["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("key", ["", "k" * 81])
def test_an_idempotency_key_of_no_use_is_refused(api, key):
    assert (
        error_of(api.post(ADDRESS, BODY, headers={"Idempotency-Key": key}), 400)["code"]
        == "bad_idempotency_key"
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"base": "no/such"}, "base"),
        ({"examples": []}, "examples"),
        ({"examples": [{"input": "a", "output": "  "}]}, "examples.0.output"),
        ({"examples": [{"input": "a\0", "output": "b"}]}, "examples.0.input"),
        ({"examples": [{"input": ["a"], "output": "b"}]}, "examples.0.input"),
        ({"examples": ["a"]}, "examples.0"),
        ({"held_out": [{"input": "fig", "output": "x" * 4001}]}, "held_out.0.output"),
        ({"examples": "text"}, "examples"),
        ({"modules": ["bob/nothing"]}, "modules"),
        ({"budget": 0}, "budget"),
        ({"budget": 10**400}, "budget"),
        ({"seed": "x"}, "seed"),
        ({"method": "magic"}, "method"),
        ({"selection": "random:99"}, "selection"),
        ({"selection": "near:0"}, "selection"),
        ({"search": "nevergrad:no such"}, "search"),
        ({"objective": "accuracy"}, "objective"),
        ({"objective": "exact_match"}, "objective"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2}, "batch_size"),  # of the default method, whose objective has no batches
        ({"rank": 1025}, "rank"),
        ({"rank": "small"}, "rank"),
        ({"rank": 0.5}, "rank"),
        ({"rank": [8]}, "rank"),
        ({"precision": "fp16"}, "precision"),
        ({"device": "tpu"}, "device"),
        ({"template": "no place for it"}, "template"),
        ({"max_new_tokens": 1025}, "max_new_tokens"),
        ({"baselines": "all"}, "baselines"),
        ({"held_out": BODY["examples"]}, "held_out"),
    ],
)
def test_a_wrong_value_is_told_at_its_field_and_starts_nothing(api, changes, field):
    error = error_of(api.post(ADDRESS, BODY | changes), 400)
    assert any(name.startswith(field) for name in error["fields"]), error
    assert Composition.objects.count() == 0
    if "selection" not in changes:  # an estimate only counts who takes part
        assert error_of(api.post(f"{ADDRESS}/estimate", BODY | changes), 400)["fields"] == error["fields"]


@pytest.mark.parametrize("kind", ["examples", "held_out"])
def test_a_blank_input_is_refused_at_its_field_with_the_form_s_sentence(api, kind):
    examples = [*BODY["examples"], {"input": " \n", "output": "FIG"}]
    error = error_of(api.post(ADDRESS, BODY | {kind: examples}), 400)
    assert error["fields"] == {
        f"{kind}.2.input": ["This example has no input. Fill it in or remove the line."]
    }
    assert Composition.objects.count() == 0


def test_a_held_out_example_with_an_example_s_input_is_left_out_whatever_its_output(api):
    held_out = [{"input": " apple", "output": "la pomme"}, {"input": "fig", "output": "FIG"}]
    assert api.post(ADDRESS, BODY | {"held_out": held_out}).status_code == 202
    (left,) = Composition.objects.get().examples.filter(role="held_out")
    assert left.input == "fig"
    error = error_of(api.post(ADDRESS, BODY | {"held_out": held_out[:1]}), 400)
    assert error["code"] == "held_out_seen"


@pytest.mark.parametrize("changes", [{"owner": 3}, {"status": "done"}, {"report": {}}, {"generation": 9}])
def test_what_a_client_may_not_set_is_refused(api, charlie, changes):
    error = error_of(api.post(ADDRESS, BODY | changes), 400)
    assert list(error["fields"]) == list(changes)
    assert not Composition.objects.exists()


def test_events_are_read_from_where_one_left_off(api, ask):
    held = leases.claim(Composition, ask().pk, worker="w")
    leases.append_events(held, [CompositionEvent(kind="step", detail={"step": n}) for n in (1, 2, 3)])
    news = api.get(f"{ADDRESS}/{held.pk}/events?after=1").json()
    assert [event["number"] for event in news["events"]] == [2, 3]
    assert (news["status"], news["is_finished"]) == ("running", False)
    assert error_of(api.get(f"{ADDRESS}/{held.pk}/events?after=x"), 400)["code"] == "bad_after"


def test_a_composition_is_cancelled_and_then_deleted(api):
    address = f"{ADDRESS}/{api.post(ADDRESS, BODY).json()['id']}"
    assert error_of(api.delete(address), 409)["code"] == "still_running"
    assert api.post(f"{address}/cancel").json()["status"] == "cancelled"
    assert api.delete(address).status_code == 204
    assert error_of(api.get(address), 404)["code"] == "not_found"


def test_the_adapter_comes_as_a_zip_with_its_card_and_report(api, done):
    answer = api.get(f"{ADDRESS}/{done().pk}/adapter")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="fruit-in-capitals.zip"'
    content = b"".join(answer.streaming_content)
    assert int(answer.headers["Content-Length"]) == len(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == [
            "fruit-in-capitals/README.md",
            "fruit-in-capitals/adapter_config.json",
            "fruit-in-capitals/adapter_model.safetensors",
            "fruit-in-capitals/report.json",
        ]
        assert json.loads(archive.read("fruit-in-capitals/report.json"))["verdict"]["decision"] == "use"


def test_the_same_adapter_is_the_same_zip(api, done):
    composition = done()
    first, second = (
        b"".join(api.get(f"{ADDRESS}/{composition.pk}/adapter").streaming_content) for _ in range(2)
    )
    assert first == second


def test_there_is_no_adapter_before_the_end(api):
    asked = api.post(ADDRESS, BODY).json()
    assert error_of(api.get(f"{ADDRESS}/{asked['id']}/adapter"), 409)["code"] == "not_done"


@pytest.mark.parametrize("path", ["", "/events", "/adapter"])
def test_a_stranger_gets_404_for_alices_composition(api_of, charlie, done, path):
    assert error_of(api_of(charlie).get(f"{ADDRESS}/{done().pk}{path}"), 404)["code"] == "not_found"


def test_a_stranger_can_neither_cancel_nor_delete_it(api_of, charlie, ask):
    address = f"{ADDRESS}/{ask().pk}"
    assert api_of(charlie).post(f"{address}/cancel").status_code == 404
    assert api_of(charlie).delete(address).status_code == 404
    assert Composition.objects.get().status == "queued"


def test_nobody_lists_somebody_else_s_compositions(api_of, charlie, ask):
    ask()
    assert api_of(charlie).get(ADDRESS).json()["results"] == []


def test_without_a_token_everything_private_is_401(client, ask):
    address = f"{ADDRESS}/{ask().pk}"
    for answer in (client.get(ADDRESS), client.get(address), client.post(f"{address}/cancel")):
        error = error_of(answer, 401)
        assert error["code"] == "not_authenticated"
        assert "Authorization: Bearer lh_" in error["message"]


def test_a_read_token_may_look_and_not_ask(api_of, alice, modules):
    reader = api_of(alice, scope="read")
    assert reader.get(ADDRESS).status_code == 200
    assert error_of(reader.post(ADDRESS, BODY), 403)["code"] == "permission_denied"


def test_the_methods_are_listed_with_their_searches_and_sources(client):
    methods = {method["name"]: method for method in client.get("/api/v1/methods").json()}
    assert {"exact", "lorahub"} <= set(methods)
    assert methods["lorahub"]["budget"] == 40
    assert all(search["source"] for method in methods.values() for search in method["searches"])


def test_all_that_can_be_chosen_is_listed(client):
    offered = client.get("/api/v1/choices").json()
    assert [row["name"] for row in offered["selectors"]] == ["all", "random:K", "screen:K", "near:K"]
    kinds = {"searches", "objectives", "selectors", "precisions", "devices", "baselines", "levels"}
    assert set(offered) == kinds


def test_the_demo_tasks_are_listed_and_one_comes_with_its_examples(client, db, demo_bundle):
    names = [task["name"] for task in client.get("/api/v1/demo-tasks").json()]
    task = client.get(f"/api/v1/demo-tasks/{names[0]}").json()
    assert len(task["shots"]) == 5
    assert set(task["held_out"][0]) == {"input", "output"}
    assert error_of(client.get("/api/v1/demo-tasks/nothing"), 404)["code"] == "not_found"


def send(api, body):
    """As a client that escapes everything beyond ASCII, half characters too."""
    return api.post(ADDRESS, json.dumps(body), content_type="application/json")


@pytest.mark.parametrize(
    "field", ["name", "sentence", "base", "method", "search", "selection", "objective", "template", "device"]
)
@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_database_takes_is_refused(api, field, text):
    assert field in error_of(send(api, BODY | {field: text}), 400)["fields"]


@pytest.mark.parametrize("name", ["bob/\0", "\ud800", "", "/", "a/b/c", "../..", "x" * 500])
def test_a_name_that_is_none_is_refused_at_the_modules(api, name):
    error = error_of(send(api, BODY | {"modules": [name]}), 400)
    assert all(field.startswith("modules") for field in error["fields"])
