"""The numeric parts of likeness from Python, on the demo modules' folders."""

import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from django.conf import settings
from safetensors.numpy import load_file, save_file

import composer
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


def test_what_cannot_be_measured_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(composer.ComposeError):
        composer.strengths(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(composer.ComposeError, match="cannot be measured"):
        composer.strengths(tmp_path)
