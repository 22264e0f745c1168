"""Which files of a folder are a module: three of them. Everything else is left out, and said.

No list of names keeps up with what trainers leave in a folder, so there is none. Refused is only a folder
whose weights would be left out: they lie below the top, or in another format, and none are in their place.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, LEGACY_FILE, WEIGHTS_FILE, FolderRefusal

MODULE_FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)
PICKLED_WEIGHTS = re.compile(r"(?:.+/)?(?P<name>adapter_model\.(?:bin|pt|pth))", re.DOTALL)
FOLDER_OF = re.compile(r"(?P<folder>.+)/(?P<name>[^/]+)", re.DOTALL)
# Of tensors, in the files of kohya's trainer.
KOHYA_SIGNS = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", ".lora_down.", ".lora_up.")
KOHYA_METADATA = '"ss_'  # how keys of its metadata begin, which stand before the tensors' names
LENGTH_BYTES = 8  # of a safetensors file, before its header
NUMBER = re.compile(r"\d+")
SAVE_WITH_PEFT = (
    "Save the adapter with save_pretrained of peft's PeftModel, and upload the folder that it writes."
)
# What is no module but holds one or comes from another program: how its name shows it, and the way out.
OTHER_WEIGHTS = tuple(
    (what, re.compile(pattern, re.DOTALL | re.IGNORECASE), way_out)
    for what, pattern, way_out in (
        ("an MLX adapter", r"(?:.+/)?adapters\.(?:safetensors|npz)",
         "Convert it first: transpose lora_a and lora_b, and name them as peft does."),
        ("a LoRA of diffusers, for image models", r"(?:.+/)?pytorch_lora_weights\.(?:safetensors|bin)",
         "Modules here are for language models."),
        ("a model for llama.cpp", r".+\.gguf", SAVE_WITH_PEFT),
        ("an archive", r"(?:.+/)?adapter[^/]*\.(?:zip|tar|tgz|tar\.\w+|7z|rar|nemo)",
         "Unpack it, and upload the files in it."),
        ("a pickle", r"(?:.+/)?adapter_model\.(?:pkl|pickle|ckpt)", SAVE_WITH_PEFT),
        ("a state that DeepSpeed split", r"(?:.+/)?\w*mp_rank_\d+_\w+\.pt",
         "Join its parts with the zero_to_fp32.py beside it, or train with "
         f"stage3_gather_16bit_weights_on_model_save set to true. {SAVE_WITH_PEFT}"),
        ("a state that FSDP split", r".+\.distcp",
         "Join its parts with accelerate merge-weights, or train with "
         f"fsdp_state_dict_type set to FULL_STATE_DICT. {SAVE_WITH_PEFT}"),
        ("one part of split weights", r"(?:.+/)?adapter[^/]*-\d+-of-\d+\.(?:safetensors|bin)",
         "Save them in one file: save_pretrained with max_shard_size=\"50GB\"."),
        ("a whole model", r"(?:.+/)?(?:model|pytorch_model|consolidated)[^/]*\.(?:safetensors|bin|pth)",
         SAVE_WITH_PEFT),
        ("weights under another name", r".+\.safetensors",
         f"If peft's save_pretrained wrote it, rename it to {WEIGHTS_FILE}."),
    )
)  # fmt: skip
PICKLES = re.compile(r".+\.(?:bin|pt|pth|pkl|pickle|ckpt|joblib)", re.DOTALL | re.IGNORECASE)
EXECUTABLES = re.compile(
    r".+\.(?:py|ipynb|sh|bash|exe|dll|so|js|bat|cmd|ps1|rb|pl|jar)", re.DOTALL | re.IGNORECASE
)
IMPORT_IT, BRING_IT = "Import it instead (see /help/hub/), or", "To bring it in,"
CONVERT = (
    "It is a pickle, which can run code when it is loaded. {way_in} convert it so: "
    "python -c \"import torch; from safetensors.torch import save_file; t = torch.load('{name}', "
    "weights_only=True); save_file({{k: v.contiguous().clone() for k, v in t.items()}}, "
    "'adapter_model.safetensors')\" - then remove {name} and upload again."
)


@dataclass(frozen=True)
class UploadPlan:
    """What becomes of the files that somebody sends."""

    taken: tuple[str, ...]
    left_out: tuple[str, ...]


def know_names_only(path: str) -> bytes:
    """The beginning of a file of which no more than its name is at hand."""
    return b""


def plan_upload(
    paths: Iterable[str],
    there: Collection[str] = (),
    *,
    converts: bool = False,
    beginning_of: Callable[[str], bytes] = know_names_only,
) -> UploadPlan:
    """Which of these files are taken, and which are left out.

    Args:
        there: files that the module has, or that were announced before these.
        converts: whether adapter_model.bin is taken where there are no other weights, to be converted.
        beginning_of: the first bytes of a file, as far as they are at hand.

    Raises:
        FolderRefusal: adapter weights are among those that would be left out, and none are in their place.
    """
    asked = list(dict.fromkeys(paths))
    has_weights = WEIGHTS_FILE in asked or WEIGHTS_FILE in there
    accepted = (*MODULE_FILES, LEGACY_FILE) if converts and not has_weights else MODULE_FILES
    taken = tuple(path for path in asked if path in accepted)
    left_out = tuple(path for path in asked if path not in accepted)
    if not has_weights and LEGACY_FILE not in taken:
        require_no_weights(left_out, converts=converts, beginning_of=beginning_of)
    return UploadPlan(taken, left_out)


def require_no_weights(paths: Sequence[str], *, converts: bool, beginning_of: Callable[[str], bytes]) -> None:
    """Refuse what would lose a person's work by being left out, with the way to bring it in."""
    folders = folders_of(WEIGHTS_FILE, paths) or (folders_of(LEGACY_FILE, paths) if converts else [])
    if folders:
        folder = latest(folders)
        others = f" (of {len(folders)} folders that hold one)" if len(folders) > 1 else ""
        message = (
            f"The adapter's weights lie in the folder {folder[:100]}{others}, and a module has them "
            f"at the top. "
            f'Upload that folder: hf upload OWNER/NAME "{folder[:100]}".'
        )
        raise FolderRefusal("weights_elsewhere", message)
    for path in paths:
        if pickle := PICKLED_WEIGHTS.fullmatch(path):
            way_in = IMPORT_IT if pickle["name"] == LEGACY_FILE and not converts else BRING_IT
            message = f"{path[:100]} is not accepted. {CONVERT.format(name=pickle['name'], way_in=way_in)}"
            raise FolderRefusal("pickle", message)
    require_no_kohya(paths, beginning_of)
    for what, pattern, way_out in OTHER_WEIGHTS:
        for path in paths:
            if pattern.fullmatch(path) and "optimizer" not in path:
                message = f"{path[:100]} is {what}, and there is no {WEIGHTS_FILE}. {way_out}"
                raise FolderRefusal("other_format", message)


def require_no_kohya(paths: Iterable[str], beginning_of: Callable[[str], bytes]) -> None:
    for path in paths:
        if path.endswith(".safetensors") and is_kohya(beginning_of(path)):
            message = f"{path[:100]} is in kohya's format, for image models."
            raise FolderRefusal("kohya_format", f"{message} Modules here are for language models.")


def is_kohya(beginning: bytes) -> bool:
    """Whether the header of a safetensors file, as far as it is there, has names of kohya's trainer."""
    length = int.from_bytes(beginning[:LENGTH_BYTES], "little")
    header = beginning[LENGTH_BYTES : LENGTH_BYTES + length]
    return any(sign.encode() in header for sign in (*KOHYA_SIGNS, KOHYA_METADATA))


def folders_of(name: str, paths: Iterable[str]) -> list[str]:
    """The folders below the top that hold a file of this name."""
    found = (FOLDER_OF.fullmatch(path) for path in paths)
    return [match["folder"] for match in found if match and match["name"] == name]


def latest(folders: Sequence[str]) -> str:
    """The folder with the highest number in its name, as in checkpoint-200; the first without numbers."""
    return max(folders, key=lambda folder: [int(number) for number in NUMBER.findall(folder)[-1:]])


def left_out_text(paths: Sequence[str], length_max: int) -> str:
    """All of the paths in one sentence, those that could run code by their kind.

    Args:
        length_max: characters; what does not fit is counted.
    """
    kinds = (("executable", EXECUTABLES), ("pickled", PICKLES))
    groups: dict[str, list[str]] = {}
    for path in sorted(paths):
        kind = next((kind for kind, pattern in kinds if pattern.fullmatch(path)), "")
        groups.setdefault(kind, []).append(path)
    names = [f"{path} ({kind})" if kind else path for kind, found in sorted(groups.items()) for path in found]
    shown, length = [], 0
    for name in names:
        length += len(name) + 2
        if length > length_max:
            break
        shown.append(name)
    more = (
        f" and {len(names) - len(shown)} more, all of which the module's page lists"
        if len(shown) < len(names)
        else ""
    )
    return f"Not part of a module, so left out ({len(names)}): {', '.join(shown)}{more}"
