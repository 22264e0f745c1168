"""What is committed is what the code makes, and it is as good as it says."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from demo import BUNDLE
from demo.bundle_files import describe_bundle, save_tasks
from demo.cards import module_card
from demo.catalog import MODULES, TASKS
from demo.grammar import Combination, hub_examples
from demo.quality import REQUIRED_PERCENT
from demo.tokenizer import make_tokenizer
from demo.train import exact_match_percent

BUNDLE_LIMIT_BYTES = 12_000_000


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BUNDLE / "base")


@pytest.fixture
def base():
    return AutoModelForSeq2SeqLM.from_pretrained(BUNDLE / "base").eval()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def weights_of(module: Combination) -> dict[str, torch.Tensor]:
    return load_file(BUNDLE / "modules" / module.name / "adapter_model.safetensors")


def test_the_bundle_is_small_and_whole():
    files = files_of(BUNDLE)
    assert sum(map(len, files.values())) <= BUNDLE_LIMIT_BYTES
    assert {path.split("/")[0] for path in files} == {"bundle.json", "base", "modules", "tasks"}
    assert {path.split("/")[1] for path in files if path.startswith("modules")} == {m.name for m in MODULES}


def test_the_tasks_are_byte_for_byte_what_the_code_makes(tmp_path):
    save_tasks(tmp_path / "tasks")
    assert files_of(tmp_path / "tasks") == files_of(BUNDLE / "tasks")


def test_the_tokenizer_is_byte_for_byte_what_the_code_makes(tmp_path):
    make_tokenizer().save_pretrained(tmp_path)
    committed = files_of(BUNDLE / "base")
    assert files_of(tmp_path) == {name: committed[name] for name in files_of(tmp_path)}


def test_the_cards_are_what_the_code_makes_and_name_their_base():
    for module in MODULES:
        card = (BUNDLE / "modules" / module.name / "README.md").read_text()
        assert card == module_card(module)
        front_matter = yaml.safe_load(card.split("---")[1])
        assert front_matter["base_model"] == "demo/tiny-t5"
        assert front_matter["library_name"] == "peft"
        assert all(isinstance(tag, str) for tag in front_matter["tags"])


def test_the_description_is_what_the_code_says_and_every_file_it_names_is_there():
    description = json.loads((BUNDLE / "bundle.json").read_text())
    assert description == describe_bundle(description["quality"])
    for task in description["tasks"]:
        for path in (*task["shots"].values(), task["held_out"]):
            assert (BUNDLE / path).is_file()


def test_the_recorded_quality_keeps_the_promise():
    quality = json.loads((BUNDLE / "bundle.json").read_text())["quality"]
    assert set(quality["modules"]) == {module.name for module in MODULES}
    assert min(quality["modules"].values()) >= REQUIRED_PERCENT
    assert min(quality["skills_instructed"].values()) >= REQUIRED_PERCENT


def test_the_base_is_a_t5_of_about_a_million_parameters(base):
    assert base.config.model_type == "t5"
    assert 900_000 < base.num_parameters() < 1_300_000


def test_every_module_is_a_plain_peft_adapter():
    for module in MODULES:
        config = json.loads((BUNDLE / "modules" / module.name / "adapter_config.json").read_text())
        expected = {
            "peft_type": "LORA",
            "task_type": "SEQ_2_SEQ_LM",
            "base_model_name_or_path": "demo/tiny-t5",
            "r": 8,
            "lora_alpha": 16,
            "target_modules": ["q", "v"],
            "use_rslora": False,
            "use_dora": False,
            "bias": "none",
        }
        assert {key: config[key] for key in expected} == expected
        tensors = weights_of(module)
        assert len(tensors) == 24
        assert all(tensor.dtype == torch.float32 for tensor in tensors.values())


def test_no_two_modules_share_an_a():
    key = "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight"
    rows = torch.stack([weights_of(module)[key].flatten() for module in MODULES])
    likeness = torch.corrcoef(rows) - torch.eye(len(MODULES))
    assert likeness.abs().max() < 0.5


@pytest.mark.parametrize("name", ["fruit", "french", "upper", "partner", "place-french"])
def test_a_module_loads_with_peft_and_is_right_on_dev(name, base, tokenizer):
    examples = list(islice(hub_examples(Combination.of(name), "dev"), 100))
    assert exact_match_percent(base, tokenizer, examples) < 40  # one word of four is right by chance
    module = PeftModel.from_pretrained(base, BUNDLE / "modules" / name)
    assert exact_match_percent(module, tokenizer, examples) >= REQUIRED_PERCENT


def test_without_a_module_the_base_cannot_guess_an_unseen_task(base, tokenizer):
    for task in TASKS:
        examples = islice(hub_examples(task.combination, "dev"), 50)
        assert exact_match_percent(base, tokenizer, examples) < 5, task.combination.name


def test_two_modules_added_up_solve_a_task_that_nobody_was_trained_on(base, tokenizer):
    model = PeftModel.from_pretrained(base, BUNDLE / "modules/body", adapter_name="body")
    model.load_adapter(BUNDLE / "modules/answer", adapter_name="answer")
    examples = list(islice(hub_examples(Combination.of("body-answer"), "dev"), 100))
    assert exact_match_percent(model, tokenizer, examples) < 50
    model.base_model.set_adapter(["body", "answer"])
    assert exact_match_percent(model, tokenizer, examples) > 75
