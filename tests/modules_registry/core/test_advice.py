"""What to do about a refused folder is said for each way in, and only what can be done there."""

import shlex
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from modules_registry.core.accepted_paths import plan_upload
from modules_registry.core.adapter_folder import plan_folder
from modules_registry.core.advice import ADVICE, WayIn
from modules_registry.core.errors import FolderRefusal, GateRefusal
from modules_registry.core.tensor_names import RENAME

FOLDERS = {
    "weights_elsewhere": ["style/adapter_model.safetensors"],
    "pickle": ["run/adapter_model.pt"],
    "other_name": ["lora.safetensors"],
    "archive": ["adapter.zip"],
    "save_with_peft": ["model.safetensors"],
    "split": ["adapter_model-00001-of-00002.safetensors"],
}
WAYS = [way_in for way_in in WayIn if way_in is not WayIn.API]  # that know a folder's names
COMMANDS = ("hf upload", "python -c")
# What is said by one way in and makes no sense by another.
NOT_THERE = {
    WayIn.FORM: (*COMMANDS, "its author"),
    WayIn.CLIENT: ("field", "drop it", "its author"),
    WayIn.IMPORT: (*COMMANDS, "field", "drop it"),
    WayIn.COMMAND: ("hf upload", "field", "drop it", "its author"),
    WayIn.COMPOSE: ("hf upload", "upload", "check", "field", "drop it", "its author"),
}


@pytest.mark.parametrize("way_in", WAYS)
@pytest.mark.parametrize("topic", FOLDERS)
def test_a_refusal_of_a_folder_ends_with_what_can_be_done_there(topic, way_in):
    with pytest.raises(FolderRefusal) as refusal:
        plan_upload(FOLDERS[topic], way_in=way_in)
    (path,) = FOLDERS[topic]
    folder, _, name = path.rpartition("/")
    parts = name.replace("-00001-", "-*-")
    advice = ADVICE[topic][way_in].format(path=path, folder=folder, name=name, parts=parts)
    assert refusal.value.message.endswith(advice)
    assert not [word for word in NOT_THERE[way_in] if word in refusal.value.message]


def test_every_topic_has_advice_for_every_way_in():
    of_folders = {topic: set(advice) for topic, advice in ADVICE.items() if topic != "no_base_name"}
    assert of_folders == {topic: set(WAYS) for topic in FOLDERS}
    names_a_base = set(WayIn) - {WayIn.COMPOSE}  # which is given the base beside the modules
    assert set(ADVICE["no_base_name"]) == names_a_base


@pytest.mark.parametrize(
    ("files", "number"),
    [
        (["adapter_model-00002-of-00003.safetensors"], "part 2 of 3"),
        (
            ["adapter_model-00002-of-00002.safetensors", "adapter_model-00001-of-00002.safetensors"],
            "part 1 of 2",
        ),
        (["checkpoint-9/adapter_model-00001-of-00002.bin"], "part 1 of 2"),
    ],
)
def test_an_adapter_in_parts_is_told_as_that_and_not_as_one_under_another_name(files, number):
    data = save({"base_model.model.a.lora_A.weight": np.zeros((2, 3), np.float32)})
    with pytest.raises(FolderRefusal) as refusal:
        plan_upload(files, way_in=WayIn.COMMAND, beginning_of=lambda path: data)
    assert refusal.value.code == "split_weights"
    assert number in refusal.value.message
    assert "Rename" not in refusal.value.message


def test_the_command_that_joins_parts_joins_them(tmp_path):
    parts = {
        f"base_model.model.{path}.lora_A.weight": np.full((2, 3), i, np.float32)
        for i, path in enumerate("ab")
    }
    for number, (name, value) in enumerate(parts.items(), start=1):
        (tmp_path / f"adapter_model-0000{number}-of-00002.safetensors").write_bytes(save({name: value}))
    with pytest.raises(GateRefusal) as refusal:
        plan_folder(tmp_path, WayIn.COMMAND)
    command = refusal.value.message.partition("Join them so: ")[2].partition(" - then")[0]
    run_python(command, tmp_path)
    joined = load_file(tmp_path / "adapter_model.safetensors")
    assert {name: value.tolist() for name, value in joined.items()} == {
        name: value.tolist() for name, value in parts.items()
    }


def test_the_command_that_puts_the_prefix_there_puts_it_there(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(
        save({"a.lora_A.weight": np.ones((2, 3), np.float32)})
    )
    run_python(RENAME, tmp_path)
    assert list(load_file(tmp_path / "adapter_model.safetensors")) == ["base_model.model.a.lora_A.weight"]


def run_python(command, folder):
    name, *words = shlex.split(command)
    assert name == "python"
    subprocess.run([sys.executable, *words], cwd=folder, check=True, timeout=120)
