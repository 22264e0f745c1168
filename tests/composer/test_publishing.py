"""A finished composition becomes a module: what it carries, who may do it, and when it is refused."""

import json
import re
import shlex
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from composer.__main__ import build_parser
from composer.core.evaluation.verdict import verdict_without_evidence
from composer.models import Composition
from composer.publish.services import composition_publish
from composer.run.job_folder import job_description
from composer.run.results import keep_result
from hub_site.common.errors import Refusal
from hub_site.jobs import leases
from modules_registry.blobs import open_stored
from modules_registry.core.cards import check_card
from modules_registry.lineage import composed_from
from modules_registry.models import Module
from modules_registry.selectors import card_of
from modules_registry.services import module_delete, module_edit
from tests.composer.fake_jobs import report_of, small_report
from tests.factories import BASE_NAME, adapter_config, make_module, weights_file

pytestmark = pytest.mark.usefixtures("wakes")

SITE = "http://hub.test"
WEIGHTS = weights_file(seed=5).read()


@pytest.fixture
def finished(ask, tmp_path):
    """A finished composition of Alice's whose adapter is a real, small one; its report as changed."""

    def finish(report=None, **asked):
        composition = leases.claim(Composition, ask(**asked).pk, worker="tests")
        out = tmp_path / f"out-{composition.pk}"
        out.mkdir()
        job = job_description(composition, list(composition.modules.select_related("version")))
        (out / "adapter_config.json").write_text(json.dumps(adapter_config(lora_dropout=0.0)))
        (out / "adapter_model.safetensors").write_bytes(WEIGHTS)
        (out / "README.md").write_text("# A composed adapter\n")
        (out / "report.json").write_text(json.dumps(report_of(job) | (report or {})))
        keep_result(composition, out)
        composition.refresh_from_db()
        return composition

    return finish


@pytest.fixture
def publish(alice):
    def service(composition, **changes):
        asked = {"owner": alice, "namespace": alice.namespace, "name": "capitals", "site": SITE}
        return composition_publish(composition_id=composition.pk, **(asked | changes))

    return service


def refused(publish, *args, **changes) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        publish(*args, **changes)
    return refusal.value


def test_it_becomes_a_module_with_the_adapter_s_very_bytes_and_its_parents(finished, publish, alice):
    composition = finished()
    module, is_new = publish(composition, sentence="Puts fruit in capitals.")
    assert (is_new, module.full_name, module.licence) == (True, "alice/capitals", "mit")
    files = {file.path: file.sha256 for file in module.current.files.all()}
    with open_stored(files["adapter_model.safetensors"]) as stored:
        assert stored.read() == WEIGHTS
    parents = [
        (parent.module.full_name, parent.weight) for parent in composed_from(module.current, alice).parents
    ]
    assert parents == [("bob/upper", -1.5), ("bob/first", 0.5), ("bob/fruit", -0.5)]
    composition.refresh_from_db()
    assert composition.published_as == module.current


def test_what_was_measured_of_it_is_evidence_of_the_module(finished, publish):
    module, _ = publish(finished())
    (row,) = module.evidence.all()
    assert (row.kind, row.task, row.loss_nats, row.reference_nats) == ("whole", "", 1.0, 3.0)
    assert (row.score_percent, row.reference_percent, row.n_scored) == (50.0, 0.0, 2)


def test_without_held_out_examples_it_has_no_share_of_right_answers(finished, publish):
    rows = [
        {"key": "composed", "label": "This", "held_out_exact_match_percent": None, "few_shot_loss_nats": 1.0}
    ]
    module, _ = publish(finished({"n_held_out": 0, "baselines": rows, "predictions": []}))
    (row,) = module.evidence.all()
    assert (row.loss_nats, row.reference_nats, row.score_percent, row.n_scored) == (1.0, None, None, None)


@pytest.fixture
def small(finished):
    """A composition of bob/first, which stands for bob/fruit; bob/upper is not used."""
    composition = finished()
    job = job_description(composition, list(composition.modules.select_related("version")))
    composition.report = small_report(job)
    composition.save(update_fields=["report"])
    return composition


def test_the_authors_of_copies_are_credited_and_pruned_modules_are_no_parents(small, publish, alice):
    module, _ = publish(small)
    parents = [
        (parent.module.full_name, parent.weight) for parent in composed_from(module.current, alice).parents
    ]
    assert parents == [("bob/first", 0.5), ("bob/fruit", 0.0)]
    card = card_of(module.current)
    head = check_card(card.text.encode()).front_matter
    assert [row["name"] for row in head["parents"]] == ["bob/first"]
    assert [(row["name"], row["represented_by"]) for row in head["copies"]] == [("bob/fruit", "bob/first")]
    assert "| bob/fruit |" in card.body
    assert "has rank 16 and 390 kB" in card.body


def test_a_copy_s_terms_count_for_what_is_published(small, publish, modules, bob):
    modules[1].licence = "cc-by-nc-4.0"
    modules[1].save(update_fields=["licence"])
    module, _ = publish(small)
    assert module.licence == "cc-by-nc-4.0"


def test_a_copy_that_is_private_or_deleted_now_is_named_nowhere_and_stops_nothing(
    small, publish, modules, alice
):
    modules[1].private = True
    modules[1].save(update_fields=["private"])
    module, _ = publish(small)
    assert "bob/fruit" not in card_of(module.current).text
    assert [parent.module.full_name for parent in composed_from(module.current, alice).parents] == [
        "bob/first"
    ]


def test_the_card_says_what_it_is_made_of_and_passes_the_card_check(finished, publish, modules):
    module, _ = publish(finished(), sentence="Puts fruit in capitals.")
    card = card_of(module.current)
    head = check_card(card.text.encode()).front_matter
    assert head["base_model"] == BASE_NAME
    assert (head["base_model_relation"], head["library_name"], head["license"]) == ("adapter", "peft", "mit")
    assert head["parents"][0] == {
        "name": "bob/first",
        "revision": modules[0].current.commit_id,
        "weight": "0.5",
    }
    assert (head["recipe"]["method"], head["recipe"]["seed"]) == ("exact", "7")
    assert "## Verdict: Use it\n\nUse the composition. It is right on 1 of 2." in card.body
    assert "| This composition | 50.0 | 10–90 | 1.000 |" in card.body
    assert "MIT: the strictest" in card.body


def test_the_card_s_command_is_one_that_the_command_line_takes(finished, publish, modules):
    module, _ = publish(finished(template="Say it's {input}", selection="all+screen:2"))
    block = re.search(r"```sh\n(.*?)```", card_of(module.current).body, re.DOTALL)[1]
    words = shlex.split(block.replace("\\\n", " "))
    assert words[:5] == [f"HF_ENDPOINT={SITE}", "python", "-m", "composer", "compose"]
    asked = build_parser().parse_args(words[4:])
    assert (asked.seed, asked.budget, asked.template) == (7, 30, "Say it's {input}")
    assert asked.modules == [f"{module.full_name}@{module.current.commit_id}" for module in modules]


def test_nothing_of_the_owner_s_examples_or_words_is_in_the_card(finished, publish):
    composition = finished(name="My secret plan", sentence="For nobody else")
    module, _ = publish(composition, sentence="Capitals.")
    card = card_of(module.current).text
    for private in (
        "fig",
        "lime",
        "apple",
        "PEAR",
        "<script>",
        "My secret",
        "secret-plan",
        "For nobody else",
    ):
        assert private not in card


def test_where_nothing_was_compared_the_card_does_not_say_that_nothing_was_gained(finished, publish):
    verdict = verdict_without_evidence("No baseline was measured.")
    module, _ = publish(finished({"verdict": {"decision": verdict.decision, "text": verdict.text}}))
    card = card_of(module.current).body
    assert "## Verdict: Not measured" in card
    assert "No gain" not in card


def test_a_verdict_against_it_stands_in_the_card(finished, publish):
    verdict = {"decision": "train", "text": "Train a LoRA instead: it is right on 2 of 2."}
    module, _ = publish(finished({"verdict": verdict}))
    assert "## Verdict: Train a LoRA instead\n\nTrain a LoRA instead: it is" in card_of(module.current).body


def test_without_held_out_examples_the_card_says_that_nothing_was_measured(finished, publish):
    module, _ = publish(finished({"n_held_out": 0}, held_out=()))
    assert "how often it is right was not measured" in card_of(module.current).body


def test_modules_without_weight_are_no_parents(finished, publish, alice, bob, modules):
    module_edit(editor=bob, module=modules[2], licence="cc-by-nd-4.0")
    rows = report_of_weights(modules, [0.5, 0.0, 0.0])
    module, _ = publish(finished({"modules": rows}))
    assert [parent.module for parent in composed_from(module.current, alice).parents] == [modules[0]]


def test_weights_that_cancel_out_over_the_layers_are_still_in_it(finished, publish, alice, modules):
    rows = report_of_weights(modules, [0.5, 0.0, 0.0])
    layers = {"q": [0.5, 0.25, 0.0], "v": [0.5, -0.25, 0.0]}
    module, _ = publish(finished({"modules": rows, "weights_by_layer": layers}))
    assert len(composed_from(module.current, alice).parents) == 2


def report_of_weights(modules, weights):
    return [
        {"name": module.full_name, "revision": "", "sha256": "", "weight": weight, "alone_loss_nats": 2.0}
        for module, weight in zip(modules, weights, strict=True)
    ]


def test_an_adapter_of_nothing_is_not_published(finished, publish, modules):
    composition = finished({"modules": report_of_weights(modules, [0.0, 0.0, 0.0])})
    assert refused(publish, composition).code == "nothing_to_publish"


def test_the_strictest_of_the_parents_licences_is_its_own(finished, publish, bob, modules):
    module_edit(editor=bob, module=modules[1], licence="cc-by-nc-4.0")
    assert publish(finished())[0].licence == "cc-by-nc-4.0"


@pytest.mark.parametrize(
    ("licences", "code"),
    [
        (("gpl-3.0", "cc-by-nc-sa-4.0", "mit"), "licences_exclude_each_other"),
        (("mit", "mit", "cc-by-nd-4.0"), "licence_forbids_derivatives"),
    ],
)
def test_licences_that_do_not_allow_it_are_refused_and_nothing_is_made(
    finished, publish, bob, modules, licences, code
):
    for module, licence in zip(modules, licences, strict=True):
        module_edit(editor=bob, module=module, licence=licence)
    assert refused(publish, finished()).code == code
    assert not Module.objects.filter(name="capitals").exists()


def test_unknown_terms_need_the_owner_s_word_and_make_it_other(finished, publish, bob, modules):
    module_edit(editor=bob, module=modules[0], licence="unknown")
    composition = finished()
    refusal = refused(publish, composition)
    assert (refusal.code, list(refusal.fields)) == ("terms_not_confirmed", ["confirms_terms"])
    assert "bob/first" in refusal.message
    module, _ = publish(composition, confirms_terms=True)
    assert module.licence == "other"
    assert "license: other" in card_of(module.current).text
    assert "Of those that are known, MIT is the strictest" in card_of(module.current).text


def test_a_parent_that_was_deleted_is_named_in_the_refusal(finished, publish, bob, modules):
    composition = finished()
    module_delete(editor=bob, module=modules[1])
    refusal = refused(publish, composition)
    assert refusal.code == "parent_deleted"
    assert "bob/fruit was deleted" in refusal.message


def test_a_parent_that_became_private_is_named_in_the_refusal(finished, publish, bob, modules):
    composition = finished()
    module_edit(editor=bob, module=modules[1], private=True)
    assert "bob/fruit was made private" in refused(publish, composition, private=True).message


def test_of_an_own_private_parent_only_a_private_module_is_made(finished, publish, alice, base):
    own = make_module(alice, "mine", seed=8)
    composition = finished(selection="chosen", modules=["alice/mine"])
    module_edit(editor=alice, module=own, private=True)
    assert list(refused(publish, composition).fields) == ["private"]
    assert publish(composition, private=True)[0].private


def test_a_module_that_was_only_tried_and_is_private_now_is_not_named(finished, publish, bob, modules):
    composition = finished({"modules": report_of_weights(modules, [0.5, 0.5, 0.0])})
    module_edit(editor=bob, module=modules[2], private=True)
    card = card_of(publish(composition)[0].current).body
    assert "bob/upper" not in card
    assert "1 module of those that were tried is no longer public" in card


def test_published_again_it_is_the_same_module_and_another_name_is_refused(finished, publish):
    composition = finished()
    module, _ = publish(composition)
    assert publish(composition) == (module, False)
    assert "as alice/capitals" in refused(publish, composition, name="letters").message
    assert Module.objects.filter(namespace=module.namespace).count() == 1


@pytest.mark.django_db(transaction=True)
def test_many_clicks_at_once_make_one_module(finished, publish):
    composition = finished()

    def click(_):
        try:
            return publish(composition)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(click, range(4)))
    assert len({module.pk for module, _ in answers}) == 1
    assert sum(is_new for _, is_new in answers) == 1


def test_a_deleted_publication_may_be_published_anew(finished, publish, alice):
    composition = finished()
    module_delete(editor=alice, module=publish(composition)[0])
    assert publish(composition, name="letters")[1]


def test_a_taken_name_and_a_stranger_s_namespace_are_refused_as_for_an_upload(finished, publish, alice, bob):
    composition = finished()
    make_module(alice, "capitals", seed=3)
    assert refused(publish, composition).code == "name_taken"
    assert refused(publish, composition, namespace=bob.namespace).code == "not_your_namespace"


def test_what_is_not_done_has_nothing_to_publish(ask, publish):
    assert refused(publish, ask()).code == "not_done"


def test_an_adapter_that_the_gate_refuses_is_not_published(done, publish):
    refusal = refused(publish, done())
    assert next(iter(refusal.fields)) in ("config_file", "weights_file")
    assert not Module.objects.filter(name="capitals").exists()


def test_a_stranger_gets_404(finished, publish, charlie, browser_of, api_of):
    composition = finished()
    assert refused(publish, composition, owner=charlie).status == 404
    page = f"/compositions/{composition.pk}/publish/"
    assert browser_of(charlie).get(page).status_code == 404
    assert browser_of(charlie).post(page, {"name": "x"}).status_code == 404
    assert api_of(charlie).post(f"/api/v1/compositions/{composition.pk}/publish").status_code == 404
    assert not Module.objects.filter(name="capitals").exists()


def test_the_report_offers_the_form_and_one_click_leads_to_the_module(finished, alice, browser_of, modules):
    composition, browser = finished(), browser_of(alice)
    report = browser.get(composition.get_absolute_url()).content.decode()
    assert f'action="/compositions/{composition.pk}/publish/"' in report
    assert 'value="fruit-in-capitals"' in report
    asked = {"namespace": "alice", "name": "fruit-in-capitals", "sentence": "Capitals."}
    answer = browser.post(f"/compositions/{composition.pk}/publish/", asked)
    assert answer.headers["Location"] == "/alice/fruit-in-capitals"
    page = browser.get("/alice/fruit-in-capitals").content.decode()
    assert "Composed from" in page
    assert "bob/fruit" in page
    assert "/alice/fruit-in-capitals" in browser.get(composition.get_absolute_url()).content.decode()
    again = browser.post(f"/compositions/{composition.pk}/publish/", asked)
    assert again.headers["Location"] == "/alice/fruit-in-capitals"


def test_a_refusal_is_said_on_the_page_beside_what_was_typed(finished, alice, browser_of, bob, modules):
    module_edit(editor=bob, module=modules[0], licence="unknown")
    composition, browser = finished(), browser_of(alice)
    asked = {"namespace": "alice", "name": "two words", "sentence": "Capitals."}
    answer = browser.post(f"/compositions/{composition.pk}/publish/", asked | {"confirms_terms": "on"})
    assert answer.status_code == 422
    assert "cannot be the name of a module" in answer.content.decode()
    assert 'value="two words"' in answer.content.decode()
    unconfirmed = browser.post(f"/compositions/{composition.pk}/publish/", asked | {"name": "letters"})
    assert "are not known here. Confirm" in unconfirmed.content.decode()


def test_a_report_that_cannot_be_published_says_why(finished, alice, browser_of, bob, modules):
    module_edit(editor=bob, module=modules[0], licence="cc-by-nd-4.0")
    composition, browser = finished(), browser_of(alice)
    page = browser.get(composition.get_absolute_url()).content.decode()
    assert "forbids publishing what is made from it" in page
    assert browser.post(f"/compositions/{composition.pk}/publish/", {"name": "x"}).status_code == 409


def test_the_api_publishes_and_answers_with_the_module_and_its_lineage(finished, alice, api_of):
    address = f"/api/v1/compositions/{finished().pk}/publish"
    answer = api_of(alice).post(address, {"name": "capitals", "private": True}, format="json")
    assert answer.status_code == 201, answer.content
    told = answer.json()
    assert (told["id"], told["private"], told["licence"]) == ("alice/capitals", True, "mit")
    assert [parent["id"] for parent in told["composed_from"]["parents"]] == [
        "bob/upper",
        "bob/first",
        "bob/fruit",
    ]
    assert api_of(alice).get(address.removesuffix("/publish")).json()["published_as"] == "alice/capitals"
    assert api_of(alice).post(address, {"name": "capitals"}, format="json").status_code == 200
    again = api_of(alice).post(address, {"name": "letters"}, format="json")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "already_published")


def test_the_api_refuses_a_read_token_and_a_taken_name_at_its_field(finished, alice, api_of):
    make_module(alice, "capitals", seed=3)
    address = f"/api/v1/compositions/{finished().pk}/publish"
    assert api_of(alice, scope="read").post(address).status_code == 403
    taken = api_of(alice).post(address, {"name": "capitals"}, format="json")
    assert taken.status_code == 409
    assert "name" in taken.json()["error"]["fields"]


def test_the_schema_describes_it(client):
    schema = client.get("/api/v1/schema", HTTP_ACCEPT="application/json").json()
    operation = schema["paths"]["/api/v1/compositions/{composition_id}/publish"]["post"]
    assert {"200", "201", "400", "404", "409"} <= set(operation["responses"])
