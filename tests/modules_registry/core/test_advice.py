"""What to do about a refused folder is said for each way in, and only what can be done there."""

import pytest

from modules_registry.core.accepted_paths import plan_upload
from modules_registry.core.advice import ADVICE, WayIn
from modules_registry.core.errors import FolderRefusal

FOLDERS = {
    "weights_elsewhere": ["style/adapter_model.safetensors"],
    "pickle": ["run/adapter_model.pt"],
    "other_name": ["lora.safetensors"],
    "archive": ["adapter.zip"],
    "save_with_peft": ["model.safetensors"],
}
COMMANDS = ("hf upload", "python -c")
# What is said by one way in and makes no sense by another.
NOT_THERE = {
    WayIn.FORM: (*COMMANDS, "its author"),
    WayIn.CLIENT: ("field", "drop it", "its author"),
    WayIn.IMPORT: (*COMMANDS, "field", "drop it"),
    WayIn.COMMAND: ("hf upload", "field", "drop it", "its author"),
}


@pytest.mark.parametrize("way_in", WayIn)
@pytest.mark.parametrize("topic", FOLDERS)
def test_a_refusal_of_a_folder_ends_with_what_can_be_done_there(topic, way_in):
    with pytest.raises(FolderRefusal) as refusal:
        plan_upload(FOLDERS[topic], way_in=way_in)
    (path,) = FOLDERS[topic]
    folder, _, name = path.rpartition("/")
    assert refusal.value.message.endswith(ADVICE[topic][way_in].format(path=path, folder=folder, name=name))
    assert not [word for word in NOT_THERE[way_in] if word in refusal.value.message]


def test_every_topic_has_advice_for_every_way_in():
    of_folders = {topic: set(advice) for topic, advice in ADVICE.items() if topic != "no_base_name"}
    assert of_folders == {topic: set(WayIn) for topic in FOLDERS}
