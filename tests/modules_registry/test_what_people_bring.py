"""What people bring through the forms and the API: taken with its repairs, or marked with the reason."""

import json
from io import BytesIO

import numpy as np
import pytest
from django.urls import reverse
from django.utils.html import escape
from safetensors.numpy import load

from hub_site.common.errors import Refusal
from modules_registry.base_models import recheck_modules
from modules_registry.models import BaseAlias, Module
from modules_registry.repositories import repository_move
from modules_registry.selectors import module_find, not_composable_because
from modules_registry.services import module_delete, module_edit
from tests.factories import (
    BASE_NAME,
    LAYERS,
    WIDTH,
    adapter_tensors,
    card_file,
    config_file,
    make_base,
    make_module,
    weights_file,
)

pytestmark = pytest.mark.django_db


def dora_tensors():
    magnitudes = {
        f"base_model.model.{layer}.lora_magnitude_vector": np.ones(WIDTH, np.float32) for layer in LAYERS
    }
    return adapter_tensors() | magnitudes


def test_a_dora_is_shared_and_offered_nowhere_for_composing(base, alice, browser_of, client):
    files = {"config_file": config_file(use_dora=True), "weights_file": weights_file(dora_tensors())}
    module = make_module(alice, "dora", **files)
    assert module.current.base is None
    assert not_composable_because(module.current).startswith("It is a DoRA")
    page = client.get("/alice/dora").content.decode()
    assert "not composable here" in page
    assert "It is a DoRA" in page
    assert "export HF_ENDPOINT=" in page
    assert "hf download alice/dora" in page
    magnitudes = sum(array.size for name, array in dora_tensors().items() if "magnitude" in name)
    plain = make_module(alice, "plain").current
    assert module.current.parameters == plain.parameters + magnitudes
    said = client.get("/api/v1/modules/alice/dora").json()
    assert (said["is_composable"], said["current"]["not_composable_because"][:12]) == (False, "It is a DoRA")
    assert recheck_modules(base) == 0
    form = browser_of(alice).get("/compositions/new/?modules=alice/dora").content.decode()
    assert "It is a DoRA" in form


def test_a_module_with_ranks_of_its_own_goes_with_whole_updates_alone(base, alice):
    first = f"base_model.model.{LAYERS[0]}.lora_"
    wide = {
        f"{first}A.weight": np.ones((3, WIDTH), np.float32),
        f"{first}B.weight": np.ones((WIDTH, 3), np.float32),
    }
    files = {
        "config_file": config_file(rank_pattern={LAYERS[0]: 3}),
        "weights_file": weights_file(adapter_tensors() | wide),
    }
    version = make_module(alice, "wide", **files).current
    assert (version.base, version.has_own_ranks) == (base, True)


@pytest.mark.parametrize("named", ["TESTS/Tiny", "tests/tiny"])
def test_a_base_is_known_in_any_case(base, alice, named):
    version = make_module(alice, config_file=config_file(base_model_name_or_path=named)).current
    assert (version.base, version.base_name) == (base, BASE_NAME)
    assert [repair["code"] for repair in version.repairs] == ([] if named == BASE_NAME else ["base"])


def test_staff_declare_another_name_of_a_base_and_modules_that_name_it_become_composable(
    base, alice, browser_of
):
    config = {"base_model_name_or_path": "unsloth/tiny-bnb-4bit", "revision": "abc"}
    early = make_module(alice, "early", config_file=config_file(**config))
    assert early.current.base is None
    alice.is_staff = alice.is_superuser = True
    alice.save()
    answer = browser_of(alice).post(
        reverse("admin:modules_registry_basealias_add"), {"name": "Unsloth/tiny-bnb-4bit", "base": base.pk}
    )
    assert answer.status_code == 302
    assert BaseAlias.objects.get().base == base
    early = module_find("alice", "early")
    late = make_module(alice, "late", config_file=config_file(**config))
    for module in (early, late):
        assert (module.current.base, module.current.base_name) == (base, BASE_NAME)
        assert "unsloth/tiny-bnb-4bit" in module.current.repairs[-1]["sentence"]


def test_modules_that_named_an_alias_are_under_the_base_also_where_they_cannot_be_composed(
    base, alice, bob, browser_of, client
):
    """A DoRA, one whose layers the base lacks, and one that named a revision of the other repository."""
    named = {"base_model_name_or_path": "unsloth/tiny-4bit", "revision": "abc"}
    other_layers = {
        name.replace("block.0", "block.7"): value for name, value in adapter_tensors(seed=2).items()
    }
    make_module(alice, "plain", config_file=config_file(**named))
    dora = {"config_file": config_file(use_dora=True, **named), "weights_file": weights_file(dora_tensors())}
    make_module(alice, "dora", **dora)
    make_module(alice, "misfit", config_file=config_file(**named), weights_file=weights_file(other_layers))
    BaseAlias.objects.create(name="Unsloth/Tiny-4bit", base=base)
    assert recheck_modules(base) == 1
    assert recheck_modules(base) == 0
    for name, fits in (("plain", True), ("dora", False), ("misfit", False)):
        version = module_find("alice", name).current
        assert (version.base_name, version.base_revision) == (BASE_NAME, "")
        assert (version.base == base) == fits
        assert [repair["code"] for repair in version.repairs].count("base") == 1
        assert name in client.get(f"/modules/?base={BASE_NAME}").content.decode()
    assert "Its layers are not those of" in not_composable_because(module_find("alice", "misfit").current)
    assert "tests/tiny" in module_find("alice", "misfit").search_text


@pytest.fixture
def declare(alice, browser_of):
    """Send the admin's form for another name of a base, as staff."""
    alice.is_staff = alice.is_superuser = True
    alice.save()

    def post(name, base):
        address = reverse("admin:modules_registry_basealias_add")
        return browser_of(alice).post(address, {"name": name, "base": base.pk})

    return post


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "This field is required."),
        ("  ", "This field is required."),
        ("/home/me/llama", "Write a model&#x27;s name as on the Hub"),
        ("a b", "Write a model&#x27;s name as on the Hub"),
        ("tests/tiny", "tests/tiny is a base model of this library"),
        ("Tests/TINY", "tests/tiny is a base model of this library"),
        ("UNSLOTH/known", "unsloth/known is declared already: as another name of tests/tiny."),
    ],
)
def test_the_admin_refuses_an_alias_that_names_nothing_or_something_else(base, declare, name, sentence):
    BaseAlias.objects.create(name="unsloth/known", base=base)
    answer = declare(name, base)
    assert answer.status_code == 200
    assert sentence in answer.content.decode()
    assert BaseAlias.objects.count() == 1


def test_a_base_cannot_come_under_a_name_that_is_declared_as_an_alias(base, tmp_path):
    """Else modules that named the alias would be under one base, and later ones under the other."""
    BaseAlias.objects.create(name="Tests/Other", base=base)
    with pytest.raises(Refusal, match="another name of tests/tiny") as refusal:
        make_base(tmp_path / "other", "tests/other")
    assert refusal.value.code == "base_is_alias"


def test_a_copy_of_the_base_s_weights_is_left_out_of_what_is_stored(base, alice, client):
    """As peft writes it beside a LoRA on the head; the tiny base's head is its embedding, of zeros."""
    copy = {"base_model.model.lm_head.base_layer.weight": np.zeros((16, WIDTH), np.float32)}
    module = make_module(alice, weights_file=weights_file(adapter_tensors() | copy))
    assert [repair["code"] for repair in module.current.repairs] == ["base_weights"]
    assert "lm_head.base_layer.weight" in client.get("/alice/french").content.decode()
    stored = client.get("/alice/french/resolve/main/adapter_model.safetensors")
    assert set(load(b"".join(stored.streaming_content))) == set(adapter_tensors())
    differs = {key: value + 1 for key, value in copy.items()}
    with pytest.raises(Refusal, match="save_embedding_layers=False"):
        make_module(alice, "other", weights_file=weights_file(adapter_tensors() | differs))


CARDS = {
    "bad YAML": (b"---\na: [b\n---\n# Mine\n", "front_matter_not_yaml"),
    "references": (b"---\na: &b c\nd: *b\n---\n# Mine\n", "front_matter_alias"),
    "a head that does not end": (b"---\nlicense: mit\n# Mine\n", "front_matter_not_closed"),
    "Latin-1": ("---\nlanguage: fr\n---\n# Résumé Mine\n".encode("latin-1"), "card_not_utf8"),
    "a NUL": (b"# Mine\x00\n", "card_unstorable_text"),
    "too large": (b"# Mine\n" * 100_000, "card_too_large"),
}


@pytest.mark.parametrize("title", CARDS)
def test_a_flaw_of_the_card_is_said_and_stops_nothing(alice, client, title):
    card, code = CARDS[title]
    module = make_module(alice, card_file=BytesIO(card))
    assert [repair["code"] for repair in module.current.repairs] == [code]
    page = client.get("/alice/french").content.decode()
    assert escape(module.current.repairs[0]["sentence"]) in page
    assert ("Mine" in page) == (title != "too large")
    module_edit(editor=alice, module=module, card="# Better\n")
    assert module_find("alice", "french").current.repairs == []


BROKEN_TEMPLATE = "---\nprompt_template: Q: {input}\n---\n# Mine\n"


def test_before_an_upload_the_form_says_that_the_head_of_the_card_is_not_read(alice, browser_of):
    asked = {"card_file": card_file(BROKEN_TEMPLATE), "config_file": config_file()}
    (notice,) = browser_of(alice).post("/modules/check/", asked).json()["notices"]
    assert "so its prompt_template counts as not stated" in notice
    assert "(line 2: mapping values are not allowed in this context)" in notice


def test_a_template_that_is_typed_holds_though_the_head_of_the_card_is_not_read(alice):
    module = make_module(alice, card_file=card_file(BROKEN_TEMPLATE), prompt_template="say {input}")
    assert module.current.prompt_template == "say {input}"
    assert [repair["code"] for repair in module.current.repairs] == ["front_matter_not_yaml"]


def test_a_template_is_written_into_a_card_whose_head_is_not_read_only_if_it_is_read_then(alice, api_of):
    make_module(alice, card_file=card_file(BROKEN_TEMPLATE))
    make_module(alice, "spanish", seed=1, card_file=card_file("---\nlicense: mit\na: [\n---\n"))

    def change(name, **changes):
        return api_of(alice).patch(f"/api/v1/modules/alice/{name}", changes, format="json")

    assert change("french", prompt_template="say {input}").status_code == 200  # in place of the broken line
    assert module_find("alice", "french").current.prompt_template == "say {input}"
    assert codes_of("french") == []
    refused = change("spanish", prompt_template="say {input}")
    assert refused.status_code == 400
    assert "lines 3 to " in refused.json()["error"]["message"]
    assert change("spanish", card="# Mine\n", prompt_template="say {input}").status_code == 200
    assert module_find("alice", "spanish").current.prompt_template == "say {input}"


def codes_of(name="french"):
    return [repair["code"] for repair in module_find("alice", name).current.repairs]


def test_a_licence_that_contradicts_the_card_is_said_by_every_way_in(alice, browser_of, client, api_of):
    """Page and API, an upload, a new version and a change; and it goes with its cause."""
    card = "---\nlicense: MIT License\n---\n# Mine\n"
    sentence = "README.md names mit as the license, but the module is under apache-2.0."

    api = api_of(alice)

    def files(seed):
        tensors = weights_file(adapter_tensors(seed=seed))
        return {"config_file": config_file(), "weights_file": tensors, "card_file": card_file(card)}

    about = {"name": "french", "sentence": "Says it in French.", "licence": "apache-2.0"}
    said = api.post("/api/v1/modules", {**about, **files(1)}, format="multipart").json()["current"]["repairs"]
    assert [repair["code"] for repair in said] == ["card_license", "card_license_differs"]
    assert said[1]["sentence"].startswith(sentence)
    assert sentence in client.get("/alice/french").content.decode()

    def change(**changes):
        answer = api.patch("/api/v1/modules/alice/french", changes, format="json")
        return [repair["code"] for repair in answer.json()["current"]["repairs"]]

    assert change(licence="mit") == ["card_license"]
    assert change(licence="apache-2.0") == ["card_license", "card_license_differs"]
    assert change(sentence="In French.") == ["card_license", "card_license_differs"]
    assert change(card="---\nlicense: apache-2.0\n---\n") == []
    new = api.post("/api/v1/modules/alice/french/versions", files(2), format="multipart").json()
    assert [repair["code"] for repair in new["repairs"]] == ["card_license", "card_license_differs"]

    form = {"sentence": "In French.", "licence": "mit", "card": card, "prompt_template": "", "tags": ""}
    browser_of(alice).post("/alice/french/edit", form)
    assert codes_of() == ["card_license"]
    files_of_form = {**about, **files(3), "name": "spanish", "namespace": "alice", "tags": ""}
    assert browser_of(alice).post("/modules/new/", files_of_form).status_code == 302
    assert codes_of("spanish") == ["card_license", "card_license_differs"]


def test_before_an_upload_the_form_says_that_the_licence_chosen_is_not_the_card_s(alice, browser_of):
    asked = {"licence": "apache-2.0", "card_file": card_file("---\nlicense: GPLv3\n---\n")}
    answer = browser_of(alice).post("/modules/check/", asked).json()
    assert answer["suggestions"]["licence"] == "gpl-3.0"
    assert [words in " ".join(answer["notices"]) for words in ("names gpl-3.0", "under apache-2.0")] == [
        True
    ] * 2


def test_a_card_that_is_being_edited_is_still_held_to_its_form(alice):
    module = make_module(alice)
    with pytest.raises(Refusal) as refusal:
        module_edit(editor=alice, module=module, card="---\na: [b\n---\n")
    assert refusal.value.code == "front_matter_not_yaml"


def test_a_list_in_base_model_names_the_base(base, alice):
    card = card_file("---\nbase_model:\n- tests/tiny\nlicense: [mit]\n---\n# Mine\n")
    assert make_module(alice, card_file=card).current.base == base


def test_a_name_that_was_renamed_away_can_be_used_again_and_the_redirect_ends(alice, client):
    module = make_module(alice, "french")
    repository_move(editor=alice, module=module, namespace=alice.namespace, name="spanish")
    assert module_find("alice", "french") == module
    again = make_module(alice, "french", seed=1)
    assert module_find("alice", "french") == again
    assert module_find("alice", "spanish") == module
    module_delete(editor=alice, module=again)
    repository_move(editor=alice, module=module, namespace=alice.namespace, name="french")
    assert module_find("alice", "french") == module
    assert Module.objects.existing().count() == 1


def test_the_help_shows_every_refusal(client):
    from modules_registry.core.refusal_table import REFUSALS

    page = client.get("/help/hub/").content.decode()
    assert all(f'id="refusal-{code}"' in page for code in REFUSALS)


def test_what_was_repaired_is_in_the_api_and_on_the_page(alice, client):
    module = make_module(alice, config_file=config_file(target_modules="all-linear"))
    page = client.get("/alice/french").content.decode()
    said = client.get("/api/v1/modules/alice/french").json()["current"]
    assert said["repairs"] == module.current.repairs
    assert said["repairs"][0]["sentence"] in page
    assert json.dumps(said["targets"]) == json.dumps(sorted(LAYERS))
