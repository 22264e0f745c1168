"""Copies of the base's own weights, which peft saves beside a LoRA on the head: the gate's rule, here too."""

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

import composer
from composer.__main__ import main
from composer.core.modules.module_stack import base_weights_in, read_module
from composer.core.spec.errors import ModuleUnreadableError
from modules_registry.core.gate.__main__ import check_folder
from tests.composer.core.tiny import EXAMPLES, make_base, make_module, write_examples

HEAD = "base_model.model.lm_head.base_layer.weight"
EMBEDDING = "base_model.model.model.embed_tokens.weight"
TARGETS = ("q_proj", "lm_head")


@pytest.fixture
def base(tmp_path):
    return make_base(tmp_path / "base", "llama")


@pytest.fixture
def with_copies(base, tmp_path):
    """Make a module with the base's head and embedding in its file, changed by a function."""

    def make(change=lambda tensor: tensor, prefix=""):
        folder = make_module(tmp_path / "m", base, seed=1, targets=TARGETS)
        own = load_file(base / "model.safetensors")
        embedding = own["model.embed_tokens.weight"]
        copies = {HEAD: own.get("lm_head.weight", embedding), EMBEDDING: embedding}
        tensors = load_file(folder / "adapter_model.safetensors")
        tensors |= {name: change(copy).contiguous().clone() for name, copy in copies.items()}
        tensors = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "tiny/llama"
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.mark.parametrize(
    ("change", "prefix"),
    [
        (lambda tensor: tensor, ""),
        (torch.Tensor.bfloat16, ""),
        (torch.Tensor.half, "module."),
    ],
    ids=["as they are", "rounded", "under a wrapper's names"],
)
def test_copies_are_left_out_and_said_as_by_the_gate(base, with_copies, tmp_path, change, prefix):
    folder = with_copies(change, prefix)
    plain = read_module(make_module(tmp_path / "plain", base, seed=1, targets=TARGETS), "m")
    module = read_module(folder, "m", base_weights=base_weights_in(base))
    assert set(module.factors) == set(plain.factors)
    gate = check_folder(folder, base)
    assert module.repairs == tuple(repair["sentence"] for repair in gate["repairs"])
    assert any("copies of the base model's own weights" in sentence for sentence in module.repairs)


@pytest.mark.parametrize(
    "change",
    [lambda tensor: tensor + 0.5, lambda tensor: tensor[:-1], lambda tensor: torch.cat([tensor, tensor[:2]])],
    ids=["trained", "fewer tokens", "new tokens"],
)
def test_what_differs_from_the_base_is_refused_as_by_the_gate(base, with_copies, change):
    folder = with_copies(change)
    gate = check_folder(folder, base)
    assert gate["codes"] == ["base_weights_inside", "embeddings_saved"]
    with pytest.raises(ModuleUnreadableError, match="Save again with save_embedding_layers=False") as refusal:
        read_module(folder, "m", base_weights=base_weights_in(base))
    for finding in gate["findings"]:
        assert finding["message"].rstrip(".") in refusal.value.reason


def test_without_the_base_at_hand_copies_are_refused(with_copies):
    with pytest.raises(ModuleUnreadableError, match="only where the base model is at hand"):
        read_module(with_copies(), "m")


def test_a_base_whose_files_are_not_whole_is_told_when_it_loads(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"half")
    assert base_weights_in(tmp_path) is None
    assert base_weights_in(tmp_path / "nothing") is None


def test_a_base_in_the_cache_of_a_hub_s_client_is_read_through_its_links(base, with_copies, tmp_path):
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for file in base.iterdir():
        (snapshot / file.name).symlink_to(file)
    assert check_folder(with_copies(), snapshot)["accepted"]


def test_a_command_and_a_call_say_what_was_left_out_or_refuse_it(base, with_copies, tmp_path, capsys):
    folder = with_copies()
    examples = tmp_path / "examples.jsonl"
    write_examples(examples, EXAMPLES)
    asked = ["evaluate", "--base", str(base), "--adapter", str(folder), "--examples", str(examples)]
    assert main(asked) == 0
    assert "Left copies of the base model's own weights out" in capsys.readouterr().err
    call = {"base": base, "modules": [folder], "examples": EXAMPLES, "progress": False}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(composer.screen(**call)) == 1
    assert any("m: Left copies" in str(warning.message) for warning in caught)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors[HEAD] = tensors[HEAD] + 1
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    asked = ["compose", "--base", str(base), "--modules", str(folder), "--examples", str(examples)]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 2
    assert "Save again with save_embedding_layers=False" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
