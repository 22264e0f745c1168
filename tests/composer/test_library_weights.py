"""The numeric parts of likeness from Python, on the demo modules' folders."""

import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from django.conf import settings
from safetensors.numpy import load_file, save_file

import composer
from composer.lorahub import lorahub_learning
from tests.modules_registry.importing.source_server import small_hub

MODULES = Path(settings.HUB_DEMO_BUNDLE) / "modules"


def deltas(folder):
    """ΔW of each layer, multiplied out, by the layer's path."""
    tensors = {
        key: value.astype("f8") for key, value in load_file(folder / "adapter_model.safetensors").items()
    }
    paths = sorted(key.removesuffix(".lora_A.weight") for key in tensors if key.endswith("lora_A.weight"))
    return {
        path.removeprefix("base_model.model."): 2.0
        * tensors[f"{path}.lora_B.weight"]
        @ tensors[f"{path}.lora_A.weight"]
        for path in paths
    }


def test_strengths_and_distance_are_those_of_the_deltas():
    first, second = deltas(MODULES / "cloth-star"), deltas(MODULES / "star")
    found = composer.strengths(MODULES / "cloth-star")
    assert [layer.path for layer in found] == list(first)
    assert found[0].norm == pytest.approx(np.linalg.norm(first[found[0].path]))
    apart = composer.distance(MODULES / "cloth-star", MODULES / "star")
    one, other = (np.concatenate([each.ravel() for each in them.values()]) for them in (first, second))
    assert apart.distance == pytest.approx(np.linalg.norm(one - other))
    assert apart.cosine == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_an_adapter_of_another_program_s_names_is_measured_like_the_gate_reads_it(tmp_path):
    source = MODULES / "star"
    tensors = load_file(source / "adapter_model.safetensors")
    save_file(
        {key.replace(".weight", ".default.weight"): value for key, value in tensors.items()},
        tmp_path / "adapter_model.safetensors",
    )
    (tmp_path / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    assert composer.strengths(tmp_path) == composer.strengths(source)


def test_modules_of_a_hub_are_measured_as_their_folders_are(tmp_path, monkeypatch):
    names = {"demo/cloth-star": MODULES / "cloth-star", "demo/star": MODULES / "star"}
    files = {
        name: {path.name: path.read_bytes() for path in folder.iterdir()} for name, folder in names.items()
    }
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with small_hub(files) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert composer.strengths("demo/star") == composer.strengths(MODULES / "star")
        assert composer.distance(*names) == composer.distance(*names.values())
    assert any(path.is_symlink() for path in tmp_path.rglob("adapter_model.safetensors"))


def test_a_module_of_any_base_is_measured(tmp_path):
    """Trained on a folder, which the base's name is then."""
    copytree(MODULES / "star", tmp_path / "star")
    config = tmp_path / "star" / "adapter_config.json"
    named = json.loads(config.read_text()) | {"base_model_name_or_path": "/home/me/my base"}
    config.write_text(json.dumps(named))
    assert composer.strengths(tmp_path / "star") == composer.strengths(MODULES / "star")
    assert composer.distance(tmp_path / "star", MODULES / "star").distance == 0


def module_of(folder, base, layers, d_in=4):
    """An adapter of a base of this name, with layers of 3 outputs."""
    folder.mkdir()
    named = [f"base_model.model.{layer}.lora_" for layer in layers]
    tensors = {f"{name}A.weight": np.ones((2, d_in), np.float32) for name in named}
    tensors |= {f"{name}B.weight": np.ones((3, 2), np.float32) for name in named}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 2, "lora_alpha": 2}
    config |= {"target_modules": [layer.rpartition(".")[2] for layer in layers]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_modules_of_two_bases_have_no_distance(tmp_path):
    small = module_of(tmp_path / "small", "a/small", ["block.0.q"])
    wide = module_of(tmp_path / "wide", "a/wide", ["block.0.q"], d_in=8)
    with pytest.raises(composer.ComposeError) as refusal:
        composer.distance(small, wide)
    assert "two bases, a/small and a/wide" in str(refusal.value)
    assert "block.0.q is 3 × 4 in the first and 3 × 8 in the second" in str(refusal.value)
    other = module_of(tmp_path / "other", "b/other", ["layers.0.q_proj"])
    with pytest.raises(composer.ComposeError, match=r"two bases, a/small and b/other.*no layer of the same"):
        composer.distance(small, other)


def test_modules_of_one_base_that_change_different_layers_are_compared(tmp_path):
    first = module_of(tmp_path / "first", "a/small", ["block.0.q"])
    second = module_of(tmp_path / "second", "a/small", ["block.0.v"])
    found = composer.distance(first, second)
    assert (found.cosine, found.distance) == (0, pytest.approx(np.hypot(found.first_norm, found.second_norm)))
    copy = module_of(tmp_path / "copy", "a/copy-of-small", ["block.0.q", "block.0.v"])
    assert composer.distance(first, copy).cosine == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize("steps", [0, -1, 10_001, 2.5, "40", True, None])
def test_lorahub_names_its_own_parameter_where_no_search_can_have_so_many_steps(steps):
    for more in ({}, {"get_loss": lambda *given: 0.0}):
        with pytest.raises(composer.ComposeError, match=r"^max_inference_step must be a whole number from 1"):
            lorahub_learning([MODULES / "star"], ["cat"], ["dog"], steps, **more)


def test_what_cannot_be_measured_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(composer.ComposeError):
        composer.strengths(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(composer.ComposeError, match="cannot be measured"):
        composer.strengths(tmp_path)
