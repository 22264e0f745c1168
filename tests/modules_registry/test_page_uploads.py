"""What the upload form's script asks and sends: the beginning of files, a folder's paths, a pickle."""

import json
from base64 import b64encode

import pytest
from django.test import Client

from hub_site.common.site_faults import visitor_text
from hub_site.jobs.children import ChildHindered, ChildInterrupted
from modules_registry.files import conversion
from modules_registry.files.conversion import stop_launcher
from modules_registry.models import Module
from tests.factories import (
    OTHER_FORMATS,
    adapter_files,
    adapter_tensors,
    card_file,
    config_file,
    named,
    weights_file,
)
from tests.modules_registry.importing.checkpoints import attacks, lora, saved

pytestmark = pytest.mark.django_db

FOLDER = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "README.md",
    "debug.log",
    "ref/adapter_config.json",
]
CARD = """---
license: mit
tags: [french]
model_name: to-french
base_model: tests/tiny
---
# Card

Translates single English words into French.
"""


def check(client, *, weights=None, beginning_bytes=None, **sent):
    if weights is not None:
        data = weights.read()
        length = 8 + int.from_bytes(data[:8], "little") if beginning_bytes is None else beginning_bytes
        sent |= {"beginning": named(data[:length], "beginning"), "weights_size": len(data)}
    return client.post(
        "/modules/check/", {"namespace": "alice"} | sent, headers={"Accept": "application/json"}
    ).json()


def send(client, **changes):
    form = {"namespace": "alice", "name": "french", "sentence": "Into French", "licence": "mit"}
    answer = client.post(
        "/modules/new/", form | adapter_files() | changes, headers={"Accept": "application/json"}
    )
    return answer.json()


@pytest.fixture
def client(alice, browser_of):
    return browser_of(alice)


@pytest.mark.parametrize("title", OTHER_FORMATS)
def test_weights_of_another_format_in_a_folder_are_told_by_their_tensors(client, title):
    rename, words = OTHER_FORMATS[title]
    weights = weights_file({rename(name): value for name, value in adapter_tensors().items()}).read()
    path = "run/my_lora.safetensors"
    sent = {"paths": json.dumps([path]), "samples": json.dumps({path: b64encode(weights[:16384]).decode()})}
    (message,) = check(client, **sent)["errors"]["weights_file"]
    assert f"{path} {words}" in message


@pytest.mark.parametrize("samples", ["7", "[]", '{"a.safetensors": 7}', '{"a.safetensors": "?"}', "{"])
def test_samples_that_cannot_be_read_are_none(client, samples):
    answer = check(client, paths='["a.safetensors"]', samples=samples)
    assert answer["errors"]


@pytest.mark.parametrize(
    ("paths", "advice"),
    [
        (["checkpoint-200/adapter_model.safetensors"], "Choose the folder checkpoint-200 itself"),
        (["checkpoint-9/adapter_model.bin"], "Choose the folder checkpoint-9 itself"),
        (["adapter_model.pt"], "Rename it to adapter_model.bin"),
        (["style.safetensors"], "Choose it by itself, in the field adapter_model.safetensors"),
        (["adapter.zip"], "Unpack it, and choose the folder"),
        (["model.safetensors"], "choose the folder that it writes"),
    ],
)
def test_the_page_advises_what_can_be_done_on_a_page(client, paths, advice):
    (message,) = check(client, paths=json.dumps(paths))["errors"]["weights_file"]
    assert advice in message
    assert not [word for word in ("hf upload", "python -c", "/help/hub") if word in message]


def test_a_folder_is_sorted_by_the_rule_of_the_hub_protocol(client):
    answer = check(client, paths=json.dumps(FOLDER), folder="to-french")
    assert answer["taken"] == {"config_file": FOLDER[0], "weights_file": FOLDER[1], "card_file": FOLDER[2]}
    assert answer["left_out"] == "Not part of a module, so left out (2): debug.log, ref/adapter_config.json"
    assert answer["errors"] == {}
    assert answer["suggestions"] == {"name": "to-french"}


@pytest.mark.parametrize(
    ("paths", "field", "sentence"),
    [
        (["adapter_config.json", "checkpoint-9/adapter_model.safetensors"], "weights_file", "checkpoint-9"),
        (["adapter_config.json", "adapters.safetensors"], "weights_file", "MLX"),
        (["adapter_model.safetensors"], "config_file", "has no adapter_config.json"),
        (["photo.jpg"], "weights_file", "has no adapter_model.safetensors"),
    ],
)
def test_a_folder_without_an_adapter_says_what_to_choose(client, paths, field, sentence):
    assert sentence in check(client, paths=json.dumps(paths))["errors"][field][0]


def test_adapter_model_bin_is_taken_only_where_there_are_no_other_weights(client):
    both = ["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors"]
    assert check(client, paths=json.dumps(both[:2]))["taken"]["weights_file"] == "adapter_model.bin"
    answer = check(client, paths=json.dumps(both))
    assert (answer["taken"]["weights_file"], "adapter_model.bin" in answer["left_out"]) == (both[2], True)


def test_the_gate_judges_name_config_and_header_before_the_weights_are_sent(client, base, french):
    """The header alone: not one byte of the tensors is there."""
    sound = check(client, config_file=config_file(), weights=weights_file(), name="new")
    assert (sound["errors"], sound["notices"]) == ({}, [])
    for changes, field, sentence in (
        ({"name": "french"}, "name", "exists already"),
        ({"name": "no--good"}, "name", "cannot be the name"),
        ({"weights": weights_file(rank=3)}, "weights_file", "rank"),
        ({"weights": weights_file(width=16)}, "weights_file", "in the base model"),
        ({"weights": weights_file(), "beginning_bytes": 20}, "weights_file", "header"),
        ({"config_file": config_file(peft_type="LOHA")}, "config_file", "LOHA"),
        ({"config_file": named(b"[]", "adapter_config.json")}, "config_file", ""),
    ):
        sent = {"config_file": config_file(), "weights": weights_file(), "name": "new"} | changes
        assert sentence in " ".join(check(client, **sent)["errors"][field])


def test_a_file_without_its_config_is_judged_as_far_as_it_can_be(client):
    assert check(client, weights=weights_file())["errors"] == {}
    tensors = {name.replace("lora_A", "lora_C"): value for name, value in adapter_tensors().items()}
    assert check(client, weights=weights_file(tensors))["errors"]["weights_file"]


def test_what_would_be_repaired_is_said_before_it_is_sent(client, base):
    config = config_file(target_modules=["q", "v", "gate_proj"])
    assert "gate_proj" in check(client, config_file=config, weights=weights_file())["notices"][0]


def test_card_and_config_fill_what_is_empty(client, base):
    config = config_file(base_model_name_or_path="/home/me/base", prompt_template="Say: {input}")
    answer = check(client, config_file=config, weights=weights_file(), card_file=card_file(CARD))
    assert answer["errors"] == {}
    assert answer["suggestions"] == {
        "name": "to-french",
        "base": "tests/tiny",
        "licence": "mit",
        "tags": "french",
        "sentence": "Translates single English words into French.",
        "prompt_template": "Say: {input}",
    }


@pytest.mark.parametrize(
    ("changes", "suggested", "words"),
    [
        ({"base_model_name_or_path": "far/decoder", "task_type": "CAUSAL_LM"}, "chat", "chat_template.jinja"),
        ({"base_model_name_or_path": "far/t5", "task_type": "SEQ_2_SEQ_LM"}, "", ""),
        ({"task_type": None}, "", ""),  # on the library's T5
        ({"prompt_template": "chat"}, "chat", "stated in adapter_config.json"),
    ],
)
def test_a_template_is_suggested_with_what_it_was_read_from(client, base, changes, suggested, words):
    paths = json.dumps(["adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"])
    answer = check(client, config_file=config_file(**changes), weights=weights_file(), paths=paths)
    assert answer["suggestions"].get("prompt_template", "") == suggested
    said = [notice for notice in answer["notices"] if notice.startswith("Prompt template")]
    assert len(said) == bool(suggested)
    assert all(words in notice for notice in said)


def test_the_page_advises_its_own_field_for_a_base_without_a_name(client):
    config = config_file(base_model_name_or_path="/home/me/base")
    (message,) = check(client, config_file=config)["errors"]["config_file"]
    assert "field “Base model”" in message
    assert "API" not in message
    config.seek(0)
    (message,) = send(client, config_file=config)["errors"]["config_file"]
    assert "field “Base model”" in message


def test_a_name_that_trainers_give_to_folders_is_not_suggested(client):
    for folder in ("checkpoint-200", "my run", ""):
        assert "name" not in check(client, paths=json.dumps(FOLDER), folder=folder)["suggestions"]


def test_a_visitor_checks_nothing(db):
    assert Client().post("/modules/check/", {}).status_code == 302


def test_the_script_gets_the_address_or_the_errors_of_the_fields(client, base):
    refused = send(client, name="no--good", weights_file=named(b"PK\x03\x04", "adapter_model.safetensors"))
    assert "cannot be the name" in refused["errors"]["name"][0]
    assert "ZIP archive" in refused["errors"]["weights_file"][0]
    assert send(client, paths=json.dumps(FOLDER)) == {"address": "/alice/french"}
    assert Module.objects.get().left_out == ["debug.log", "ref/adapter_config.json"]


def test_everybody_sees_how_much_was_left_out_and_its_owner_sees_the_names(client, french):
    french.left_out = [
        "debug.log",
        "run/train.PY",
        "a.sh",
        "ref/adapter_model.safetensors",
        "optimizer.pt",
        "",
    ]
    french.save()
    counts = [("program", 2), ("pickle", 1), ("other weights", 1), ("other file", 2)]
    for reader, sees_names in ((client, True), (Client(), False)):
        told = reader.get("/api/v1/modules/alice/french").json()["left_out"]
        assert [(group["kind"], group["count"]) for group in told] == counts
        assert told[0]["paths"] == (["run/train.PY", "a.sh"] if sees_names else None)
        page = reader.get("/alice/french").content.decode()
        assert all(
            words in " ".join(page.split()) for words in ("2 programs", "1 pickle", "1 with other weights")
        )
        assert ("debug.log" in page, "Only you can see their names" in page) == (sees_names, sees_names)


def test_a_new_version_is_sent_by_the_script_too(client, french):
    def send_version(**files):
        return client.post("/alice/french/upload", files, headers={"Accept": "application/json"}).json()

    refused = send_version(config_file=config_file())
    assert "Choose the adapter_model.safetensors" in refused["errors"]["weights_file"][0]
    assert send_version(paths=json.dumps(FOLDER), **adapter_files(seed=1)) == {"address": "/alice/french"}
    french.refresh_from_db()
    assert (french.current.number, french.left_out) == (2, ["debug.log", "ref/adapter_config.json"])


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ChildInterrupted(None), "machine_fault"),
        (ChildHindered("machine_fault", "[Errno 30] Read-only file system: '/srv/hub/x'"), "machine_fault"),
        (ChildHindered("disk_full", "[Errno 28] No space left on device: '/srv/hub/x'"), "disk_full"),
    ],
)
def test_a_fault_of_the_site_in_a_conversion_is_told_as_one(client, base, monkeypatch, caplog, fault, code):
    def hindered(_):
        raise fault

    monkeypatch.setattr(conversion, "convert_checkpoint", hindered)
    told = send(client, weights_file=named(saved(lora()), "adapter_model.bin"))
    assert told["error"]["code"] == code
    assert told["error"]["message"] == visitor_text(code)
    assert f"{code}: {fault}" in caplog.text


def test_a_checkpoint_of_torch_is_converted_and_said(client, base):
    try:
        weights = named(saved(lora()), "adapter_model.bin")
        notice = check(client, config_file=config_file(), weights=weights, beginning_bytes=128)
        assert (notice["errors"], "is converted" in notice["notices"][0]) == ({}, True)
        harmful = send(client, weights_file=named(attacks()["code in a zip"][0], "adapter_model.bin"))
        assert "asks to import" in harmful["errors"]["weights_file"][0]
        weights.seek(0)
        assert send(client, weights_file=weights) == {"address": "/alice/french"}
    finally:
        stop_launcher()
    client.get("/alice/french")  # shows the message of the upload, once
    page = client.get("/alice/french").content.decode()
    assert "Converted adapter_model.bin to adapter_model.safetensors" in page
    files = {file.path for file in Module.objects.get().current.files.all()}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
