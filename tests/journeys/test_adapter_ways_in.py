"""What people bring, through every way in: the same is mended and said, and the same refused by its cause."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pytest
from safetensors.numpy import save

from modules_registry.core.gate.__main__ import main
from modules_registry.importing import runner
from modules_registry.importing.services import import_request
from modules_registry.selectors import module_find
from tests.factories import OTHER_FORMATS, adapter_config, adapter_tensors, named
from tests.modules_registry.hub_api.test_refusals import Uploader, file_line, warnings_of
from tests.modules_registry.importing.conftest import hub

__all__ = ["hub"]

pytestmark = pytest.mark.django_db
CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
FIELDS = {CONFIG: "config_file", WEIGHTS: "weights_file", CARD: "card_file"}
Files = dict[str, bytes]


def adapter(rename: Callable[[str], str] = str, *, card: str = "", **config: object) -> Files:
    """The folder that peft writes, with its tensors under other names."""
    tensors = {rename(name): value for name, value in adapter_tensors().items()}
    files = {CONFIG: json.dumps(adapter_config(**config)).encode(), WEIGHTS: save(tensors)}
    return files | ({CARD: card.encode()} if card else {})


def inside(wrapper: str) -> Callable[[str], str]:
    return lambda name: name.replace("base_model.model.", f"base_model.model.{wrapper}.")


def in_memory(adapter_name: str) -> Callable[[str], str]:
    return lambda name: name.replace(".weight", f".{adapter_name}.weight")


def with_tensors(*changes: Callable[[str], str]) -> Files:
    """An adapter whose file has all tensors once under each of the names."""
    tensors = {change(name): value for change in changes for name, value in adapter_tensors().items()}
    return adapter() | {WEIGHTS: save(tensors)}


def of_another_format(title: str) -> Files:
    """Its weights under a name of their own, and no config."""
    return {"style.safetensors": adapter(OTHER_FORMATS[title][0])[WEIGHTS]}


def whole_state() -> Files:
    """What torch.save keeps of model.state_dict(): the base's layers beside the factors."""
    own = {
        f"{name.partition('.lora_')[0]}.base_layer.weight": np.zeros((8, 8), "f4")
        for name in adapter_tensors()
    }
    tensors = {in_memory("default")(name): value for name, value in adapter_tensors().items()}
    return adapter() | {WEIGHTS: save(tensors | own)}


def card(licence: str) -> str:
    return f"---\nlicense: {licence}\n---\n# Mine\n"


UNKNOWN = {"base_model_name_or_path": "some/unknown"}
# What comes in: the codes of what is said of it.
MENDED = {
    "compiled": (adapter(inside("_orig_mod"), **UNKNOWN), {"wrapper_names"}),
    "DDP inside": (adapter(inside("module"), **UNKNOWN), {"module_names"}),
    "DDP inside compile": (adapter(inside("_orig_mod.module"), **UNKNOWN), {"wrapper_names", "module_names"}),
    "DDP deep": (
        adapter(lambda name: name.replace(".block.", ".module.block."), **UNKNOWN),
        {"module_names"},
    ),
    "doubled prefix": (adapter(lambda name: f"base_model.model.{name}", **UNKNOWN), {"doubled_prefix"}),
    "one adapter in memory": (adapter(in_memory("style"), **UNKNOWN), {"adapter_name"}),
    "all-linear": (adapter(target_modules="all-linear"), {"target_modules"}),
    "a spelling": (adapter(card=card("Apache 2.0")), {"card_license"}),
    "a list": (adapter(card=card("[MIT License, gpl-3.0]")), {"card_license"}),
    "no identifier": (adapter(card=card("my-own")), {"card_license"}),
    "bad YAML": (adapter(card="---\na: [b\n---\n# Mine\n"), {"front_matter_not_yaml"}),
    "a template with a colon": (
        adapter(card="---\nprompt_template: Q: {input}\n---\n# Mine\n"),
        {"front_matter_not_yaml"},
    ),
    "a head without an end": (adapter(card="---\n# Mine\nlicense: mit\n"), {"front_matter_not_closed"}),
    "a template without an input": (
        adapter(card="---\nprompt_template: Say it\n---\n# Mine\n"),
        {"card_prompt_template"},
    ),
    "Latin-1": (adapter() | {CARD: "# Résumé".encode("latin-1")}, {"card_not_utf8"}),
    "another base in the card": (adapter(card="---\nbase_model: a/b\n---\n# Mine\n"), {"card_base"}),
}
# What is refused: a part of what is said.
REFUSED = {
    "two adapters": (with_tensors(in_memory("default"), in_memory("style")), "It holds 2 adapters"),
    "two models": (with_tensors(str, lambda name: f"ref.{name}"), "It holds 2 adapters"),
    "a whole state": (whole_state(), "state of the whole model"),
    "PiSSA": (adapter(init_lora_weights="pissa"), "rewrites the base model"),
    "biases": (adapter(bias="all"), "biases of the base were trained"),
    "whole layers": (adapter(modules_to_save=["lm_head"]), "whole layers were trained"),
    "MLX in peft's place": (adapter(OTHER_FORMATS["MLX"][0]), "are in MLX's format"),
    "kohya in peft's place": (adapter(OTHER_FORMATS["kohya"][0]), "are in kohya's format"),
}  # fmt: skip
# What is refused by the names of a folder: the API knows no folders.
FOLDERS = {
    **{title: (of_another_format(title), words) for title, (_, words) in OTHER_FORMATS.items()},
    "a folder below": ({f"run/{path}": data for path, data in adapter().items()}, "in the folder run"),
    "an archive": ({"adapter.zip": b"PK\x03\x04"}, "is an archive"),
}


@dataclass(frozen=True)
class Answer:
    """What one way in makes of a folder: the codes of its notes, or the text of its refusal."""

    codes: set[str]
    refusal: str = ""


def published() -> Answer:
    module = module_find("alice", "french")
    return Answer({repair["code"] for repair in module.current.repairs} - {"card_license_differs"})


def text_of(errors: dict[str, list[str]]) -> str:
    return " ".join(message for messages in errors.values() for message in messages)


def by_form(files, alice, browser_of, **_) -> Answer:
    """As the page's script does: the folder's names first, then the beginnings, then the files."""
    browser, answers = browser_of(alice), {"headers": {"Accept": "application/json"}}
    samples = {path: base64.b64encode(data[:16384]).decode() for path, data in files.items()}
    asked = {"paths": json.dumps(list(files)), "samples": json.dumps(samples), "namespace": "alice"}
    told = browser.post("/modules/check/", asked, **answers).json()
    if told["errors"]:
        return Answer(set(), text_of(told["errors"]))
    form = {"namespace": "alice", "name": "french", "sentence": "Into French", "licence": "mit"}
    chosen = {FIELDS[path]: named(files[path], path) for path in files if path in FIELDS}
    sent = browser.post("/modules/new/", form | chosen, **answers).json()
    return Answer(set(), text_of(sent["errors"])) if "errors" in sent else published()


def by_api(files, alice, api_of, **_) -> Answer:
    asked = {"name": "french", "sentence": "Into French", "licence": "mit"}
    asked |= {FIELDS[path]: named(data, path) for path, data in files.items()}
    sent = api_of(alice).post("/api/v1/modules", asked, format="multipart")
    return published() if sent.status_code == 201 else Answer(set(), sent.json()["error"]["message"])


def by_client(files, alice, **_) -> Answer:
    uploader = Uploader(alice)
    uploader.create()
    asked = [
        {"path": path, "size": len(data), "sample": base64.b64encode(data[:512]).decode()}
        for path, data in files.items()
    ]
    answer = uploader.send("POST", "/api/models/alice/french/preupload/main", {"files": asked})
    if answer.status_code == 200:
        answer = uploader.commit(*[file_line(path, data) for path, data in files.items()])
    if answer.status_code != 200:
        return Answer(set(), answer.json()["error"])
    assert len(warnings_of(answer)) == len(module_find("alice", "french").current.repairs)
    return published()


def by_import(files, alice, hub, **_) -> Answer:
    hub["far/french"] = files
    asked = {"owner": alice, "namespace": alice.namespace, "sources": ["far/french"]}
    job = import_request(**asked, enqueue=False)
    runner.import_run(job.pk)
    item = job.items.get()
    return published() if item.version else Answer(set(), item.message)


def by_command(files, tmp_path, capsys, **_) -> Answer:
    for path, data in files.items():
        (tmp_path / PurePosixPath(path).parent).mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    main([str(tmp_path)])
    said = json.loads(capsys.readouterr().out)
    if said["accepted"]:
        return Answer({repair["code"] for repair in said["repairs"]})
    return Answer(set(), " ".join(finding["message"] for finding in said["findings"]))


WAYS_IN = {each.__name__: each for each in (by_form, by_api, by_client, by_import, by_command)}


@pytest.fixture(params=WAYS_IN)
def answer_to(request, alice, browser_of, api_of, hub, tmp_path, capsys):
    """Bring a folder by one way in."""
    fixtures = {
        "alice": alice,
        "browser_of": browser_of,
        "api_of": api_of,
        "hub": hub,
        "tmp_path": tmp_path,
        "capsys": capsys,
    }
    return lambda files: WAYS_IN[request.param](files, **fixtures)


@pytest.mark.parametrize("title", MENDED)
def test_the_same_is_mended_and_said_by_every_way_in(answer_to, title):
    files, codes = MENDED[title]
    answer = answer_to(files)
    assert (answer.codes, answer.refusal) == (codes, "")


@pytest.mark.parametrize("title", REFUSED)
def test_the_same_is_refused_for_its_own_cause_by_every_way_in(answer_to, title):
    files, words = REFUSED[title]
    assert words in answer_to(files).refusal
    assert module_find("alice", "french") is None


@pytest.mark.parametrize("answer_to", [name for name in WAYS_IN if name != "by_api"], indirect=True)
@pytest.mark.parametrize("title", FOLDERS)
def test_the_same_folder_is_refused_for_its_own_cause_by_every_way_that_takes_one(answer_to, title):
    files, words = FOLDERS[title]
    assert words in answer_to(files).refusal
    assert module_find("alice", "french") is None
