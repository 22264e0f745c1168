"""What a person can do about files that were refused: another thing by each way in.

On a page nobody can type a command, and a client has no field to fill in.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

from modules_registry.core.errors import CARD_FILE, LEGACY_FILE, WEIGHTS_FILE


class WayIn(StrEnum):
    """How an adapter comes in. All but the API take a folder with the names of somebody's machine."""

    FORM = "form"  # the upload page
    CLIENT = "client"  # hf upload, a trainer, any client of the Hub protocol
    IMPORT = "import"  # from another Hub; who imports is seldom who wrote it
    COMMAND = "command"  # python -m modules_registry.core.gate
    COMPOSE = "compose"  # python -m composer and the Python API
    API = "api"  # is sent each file as what it is


CONVERTING = (WayIn.FORM, WayIn.IMPORT)  # take adapter_model.bin, and convert it
UPLOAD_PAGE = "/modules/new/"
SAVE_WITH_PEFT = "Save the adapter with save_pretrained of peft's PeftModel"
CONVERT = (
    "python -c \"import torch; from safetensors.torch import save_file; t = torch.load('{name}', "
    "weights_only=True); save_file({{k: v.contiguous().clone() for k, v in t.items()}}, "
    "'adapter_model.safetensors')\""
)
JOIN = (
    'python -c "import glob; from safetensors.torch import load_file, save_file; save_file({{k: v for f in '
    "glob.glob('{parts}') for k, v in load_file(f).items()}}, 'adapter_model.safetensors')\""
)
BY_THE_PAGE = f"Or download it and upload it yourself, under {UPLOAD_PAGE}."

PART = re.compile(r"(?P<before>.*-)\d+(?P<after>-of-\d+\.\w+)", re.DOTALL)

# What is known of it -> way in -> what to do. {path}, {folder} and {name} are the file's; {parts} are all of
# which it is one.
ADVICE: Mapping[str, Mapping[WayIn, str]] = {
    "weights_elsewhere": {
        WayIn.FORM: "Choose the folder {folder} itself, or drop it here.",
        WayIn.CLIENT: 'Upload that folder: hf upload OWNER/NAME "{folder}".',
        WayIn.IMPORT: f"An import takes what lies at the top. Ask its author to put it there. {BY_THE_PAGE}",
        WayIn.COMMAND: "Check that folder, and upload it.",
        WayIn.COMPOSE: "Give that folder; one of a Hub, once it is downloaded.",
    },
    "pickle": {
        WayIn.FORM: f"Rename it to {LEGACY_FILE}, then choose its folder again: that is converted here.",
        WayIn.CLIENT: f"Send it by the page {UPLOAD_PAGE}, where it may be called {LEGACY_FILE} and is "
        f"converted, or convert it so: {CONVERT} - then remove {{name}} and upload again.",
        WayIn.IMPORT: f"Ask its author to save it as safetensors. {BY_THE_PAGE}",
        WayIn.COMMAND: f"Convert it so: {CONVERT} - then remove {{name}} and check again.",
        WayIn.COMPOSE: f"Convert it so: {CONVERT}",
    },
    "other_name": {
        WayIn.FORM: f"Choose it by itself, in the field {WEIGHTS_FILE} below: its name does not count there.",
        WayIn.CLIENT: f'Rename it to {WEIGHTS_FILE}, or: hf upload OWNER/NAME "{{path}}" {WEIGHTS_FILE}.',
        WayIn.IMPORT: f"Ask its author to rename it to {WEIGHTS_FILE}. {BY_THE_PAGE}",
        WayIn.COMMAND: f"Rename it to {WEIGHTS_FILE}.",
        WayIn.COMPOSE: f"Rename it to {WEIGHTS_FILE}.",
    },
    "split": {
        WayIn.FORM: "Join them on your machine, and choose the folder again: save_file of safetensors.torch "
        "writes one file, of the tensors that load_file reads of each part.",
        WayIn.CLIENT: f"Join them so: {JOIN} - then upload again.",
        WayIn.IMPORT: f"Ask its author to save them in one file. {BY_THE_PAGE}",
        WayIn.COMMAND: f"Join them so: {JOIN} - then check again.",
        WayIn.COMPOSE: f"Join them so: {JOIN}",
    },
    "archive": {
        WayIn.FORM: "Unpack it, and choose the folder that it holds.",
        WayIn.CLIENT: "Unpack it, and upload the files in it.",
        WayIn.IMPORT: f"Ask its author to unpack it. {BY_THE_PAGE}",
        WayIn.COMMAND: "Unpack it, and check the files in it.",
        WayIn.COMPOSE: "Unpack it, and give the folder that it holds.",
    },
    "save_with_peft": {
        WayIn.FORM: f"{SAVE_WITH_PEFT}, and choose the folder that it writes.",
        WayIn.CLIENT: f"{SAVE_WITH_PEFT}, and upload the folder that it writes.",
        WayIn.IMPORT: "Ask its author for the adapter, as save_pretrained of peft's PeftModel writes it.",
        WayIn.COMMAND: f"{SAVE_WITH_PEFT}, and check the folder that it writes.",
        WayIn.COMPOSE: f"{SAVE_WITH_PEFT}, and give the folder that it writes.",
    },
    "no_base_name": {
        WayIn.FORM: "Write its name in the field “Base model”, like google/flan-t5-large.",
        WayIn.API: 'Send its name as "base", like google/flan-t5-large.',
        WayIn.CLIENT: "Write its name there, like google/flan-t5-large, or as base_model in the front matter "
        f"of {CARD_FILE}.",
        WayIn.IMPORT: "If you know what it was trained on, import it again and say so: “Base model” on the "
        "page, “base” in the API, --base on the command line.",
        WayIn.COMMAND: "Write its name there, like google/flan-t5-large, or as base_model in the front "
        f"matter of {CARD_FILE}.",
    },
}  # fmt: skip


def advice_on(topic: str, way_in: WayIn, *, path: str = "") -> str:
    """Args: path: of the file, in its folder."""
    folder, _, name = path.rpartition("/")
    parts = PART.sub(r"\g<before>*\g<after>", name)
    return ADVICE[topic][way_in].format(
        path=path[:100], folder=folder[:100], name=name[:100], parts=parts[:100]
    )
