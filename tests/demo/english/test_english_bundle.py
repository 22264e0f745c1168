"""What is committed of the English library is what the code makes, and it is as good as it says."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from demo.bundle_parts import write_json
from demo.english import BASE_NAME, BUNDLE
from demo.english import build as english_build
from demo.english.base import PACKAGE_SHA256
from demo.english.build import REQUIRED_PERCENT, QualityError, build
from demo.english.bundle_files import describe_bundle, save_tasks
from demo.english.cards import module_card
from demo.english.catalog import MODULES, TASKS

BUNDLE_LIMIT_BYTES = 25_000_000
LAYERS = 30


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_bundle_is_small_and_whole():
    files = files_of(BUNDLE)
    assert sum(map(len, files.values())) <= BUNDLE_LIMIT_BYTES
    assert {path.split("/")[0] for path in files} == {"bundle.json", "modules", "tasks"}
    assert {path.split("/")[1] for path in files if path.startswith("modules")} == {m.name for m in MODULES}
    assert {path.split("/")[1] for path in files if path.startswith("tasks")} == {
        task.combination.name for task in TASKS
    }


def test_the_tasks_are_byte_for_byte_what_the_code_makes(tmp_path):
    save_tasks(tmp_path / "tasks")
    assert files_of(tmp_path / "tasks") == files_of(BUNDLE / "tasks")


def test_the_cards_are_what_the_code_makes_and_say_how_the_module_was_prompted():
    for module in MODULES:
        card = (BUNDLE / "modules" / module.name / "README.md").read_text(encoding="utf-8")
        assert card == module_card(module)
        front_matter = yaml.safe_load(card.split("---")[1])
        assert front_matter["base_model"] == BASE_NAME
        assert front_matter["prompt_template"] == "chat"


def test_the_description_is_what_the_code_says_and_every_file_it_names_is_there():
    description = json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8"))
    assert description == describe_bundle(description["quality"]["modules"])
    assert description["base_revision"] == PACKAGE_SHA256[:40]
    for task in description["tasks"]:
        for path in (*task["shots"].values(), task["held_out"]):
            assert (BUNDLE / path).is_file()


def test_the_recorded_quality_keeps_the_promise():
    quality = json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8"))["quality"]["modules"]
    assert set(quality) == {module.name for module in MODULES}
    assert min(quality.values()) >= REQUIRED_PERCENT


def test_every_module_is_a_plain_peft_adapter_of_16_bit():
    for module in MODULES:
        folder = BUNDLE / "modules" / module.name
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        expected = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": BASE_NAME,
            "r": 8,
            "lora_alpha": 16,
            "target_modules": ["q_proj", "v_proj"],
        }
        assert {key: config[key] for key in expected} == expected
        tensors = load_file(folder / "adapter_model.safetensors")
        assert len(tensors) == 2 * 2 * LAYERS
        assert all(tensor.dtype == torch.float16 and tensor.isfinite().all() for tensor in tensors.values())


# --- a build that goes on -------------------------------------------------------


@pytest.fixture
def trained(tmp_path):
    """A build that has trained every module, and has not written the bundle."""
    unfinished = tmp_path / "bundle.unfinished"
    shutil.copytree(BUNDLE / "modules", unfinished / "modules")
    (unfinished / "quality").mkdir()
    quality = json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8"))["quality"]["modules"]
    for name, percent in quality.items():
        write_json(unfinished / "quality" / f"{name}.json", {"percent": percent})
    return unfinished


ALL = [module.name for module in MODULES]


def test_a_build_that_was_ended_at_its_end_trains_nothing_again(trained, tmp_path):
    build(tmp_path / "bundle", tmp_path / "no base is needed", ALL)
    assert files_of(tmp_path / "bundle") == files_of(BUNDLE)
    assert not trained.exists()


def test_a_build_trains_what_is_missing_and_no_more(trained, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(english_build.ChatModel, "load", lambda folder: folder)
    monkeypatch.setattr(english_build, "train_module", lambda base, one, folder: asked.append(one.name))
    for name in ALL[:2]:
        (trained / "quality" / f"{name}.json").unlink()
    build(tmp_path / "bundle", tmp_path, ALL[1:])
    assert asked == [ALL[1]]
    assert not (tmp_path / "bundle").exists()


def test_a_module_below_the_promise_ends_the_build_by_name(trained, tmp_path):
    write_json(trained / "quality" / f"{ALL[0]}.json", {"percent": REQUIRED_PERCENT - 0.1})
    with pytest.raises(QualityError, match=ALL[0]):
        build(tmp_path / "bundle", tmp_path, ALL)
    assert not (tmp_path / "bundle").exists()
