"""Which files of a folder are a module: three of them. Everything else is left out, and said.

No list of names keeps up with what trainers leave in a folder, so there is none. Refused is only a folder
whose weights would be left out: they lie below the top, or in another format, and none are in their place.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from modules_registry.core.advice import CONVERTING, WayIn, advice_on
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, LEGACY_FILE, WEIGHTS_FILE, FolderRefusal
from modules_registry.core.weight_formats import (
    ADAPTER_OF_PEFT,
    FORMATS,
    SAMPLES_MAX,
    WeightFormat,
    format_at,
)

MODULE_FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)
PICKLED_WEIGHTS = re.compile(r"(?:.+/)?(?P<name>adapter_model\.(?:bin|pt|pth))", re.DOTALL)
PART_OF_WEIGHTS = re.compile(
    r"(?:.+/)?adapter[^/]*-(?P<number>\d{1,9})-of-(?P<count>\d{1,9})\.(?:safetensors|bin)", re.DOTALL
)
FOLDER_OF = re.compile(r"(?P<folder>.+)/(?P<name>[^/]+)", re.DOTALL)
NUMBER = re.compile(r"\d+")
# What to do about other programs' formats, by every way in.
OUT_OF = {
    "kohya_format": "Modules here are for language models.",
    "diffusers_format": "Modules here are for language models.",
    "mlx_format": "Convert it first: transpose lora_a and lora_b, and name them as peft does.",
    "megatron_format": "Export it to peft's format with the trainer.",
}
# What is no module but holds one or comes from another program: how its name shows it, the way out before the
# advice, and the topic of the advice; none where the way out is the same by every way in.
OTHER_WEIGHTS = tuple(
    (what, re.compile(pattern, re.DOTALL | re.IGNORECASE), way_out, topic)
    for what, pattern, way_out, topic in (
        ("an MLX adapter", r"(?:.+/)?adapters\.(?:safetensors|npz)", OUT_OF["mlx_format"], ""),
        ("a LoRA of diffusers, for image models", r"(?:.+/)?pytorch_lora_weights\.(?:safetensors|bin)",
         OUT_OF["diffusers_format"], ""),
        ("a model for llama.cpp", r".+\.gguf", "", "save_with_peft"),
        ("an archive", r"(?:.+/)?adapter[^/]*\.(?:zip|tar|tgz|tar\.\w+|7z|rar|nemo)", "", "archive"),
        ("a pickle", r"(?:.+/)?adapter_model\.(?:pkl|pickle|ckpt)", "", "save_with_peft"),
        ("a state that DeepSpeed split", r"(?:.+/)?\w*mp_rank_\d+_\w+\.pt",
         "Join its parts with the zero_to_fp32.py beside it, or train with "
         "stage3_gather_16bit_weights_on_model_save set to true.", "save_with_peft"),
        ("a state that FSDP split", r".+\.distcp",
         "Join its parts with accelerate merge-weights, or train with "
         "fsdp_state_dict_type set to FULL_STATE_DICT.", "save_with_peft"),
        ("a whole model", r"(?:.+/)?(?:model|pytorch_model|consolidated)[^/]*\.(?:safetensors|bin|pth)",
         "", "save_with_peft"),
        ("weights under another name", r".+\.safetensors", "If peft's save_pretrained wrote it:",
         "other_name"),
    )
)  # fmt: skip
PICKLES = re.compile(r".+\.(?:bin|pt|pth|pkl|pickle|ckpt|joblib)", re.DOTALL | re.IGNORECASE)
EXECUTABLES = re.compile(
    r".+\.(?:py|ipynb|sh|bash|exe|dll|so|js|bat|cmd|ps1|rb|pl|jar)", re.DOTALL | re.IGNORECASE
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
    way_in: WayIn = WayIn.CLIENT,
    beginning_of: Callable[[str], bytes] = know_names_only,
) -> UploadPlan:
    """Which of these files are taken, and which are left out.

    Args:
        there: files that the module has, or that were announced before these.
        way_in: for what a person can do there. Some take adapter_model.bin where there are no other weights,
            to convert it.
        beginning_of: the first bytes of a file, as far as they are at hand.

    Raises:
        FolderRefusal: adapter weights are among those that would be left out, and none are in their place.
    """
    asked = list(dict.fromkeys(paths))
    has_weights = WEIGHTS_FILE in asked or WEIGHTS_FILE in there
    accepted = (*MODULE_FILES, LEGACY_FILE) if way_in in CONVERTING and not has_weights else MODULE_FILES
    taken = tuple(path for path in asked if path in accepted)
    left_out = tuple(path for path in asked if path not in accepted)
    if not has_weights and LEGACY_FILE not in taken:
        require_no_weights(left_out, way_in, beginning_of)
    return UploadPlan(taken, left_out)


def require_no_weights(paths: Sequence[str], way_in: WayIn, beginning_of: Callable[[str], bytes]) -> None:
    """Refuse what would lose a person's work by being left out, with the way to bring it in."""
    name = WEIGHTS_FILE
    folders = folders_of(WEIGHTS_FILE, paths)
    if not folders and way_in in CONVERTING:
        name, folders = LEGACY_FILE, folders_of(LEGACY_FILE, paths)
    if folders:
        folder = latest(folders)
        others = f" (of {len(folders)} folders that hold one)" if len(folders) > 1 else ""
        where = f"The adapter's weights lie in the folder {folder[:100]}{others}, not at the top."
        advice = advice_on("weights_elsewhere", way_in, path=f"{folder}/{name}")
        raise FolderRefusal("weights_elsewhere", f"{where} {advice}")
    for path in paths:
        if PICKLED_WEIGHTS.fullmatch(path):
            what = f"{path[:100]} is not accepted. It is a pickle, which can run code when it is loaded."
            raise FolderRefusal("pickle", f"{what} {advice_on('pickle', way_in, path=path)}")
    require_no_parts(paths, way_in)
    require_no_other_format(paths, way_in, beginning_of)
    for what, pattern, way_out, topic in OTHER_WEIGHTS:
        for path in paths:
            if pattern.fullmatch(path) and "optimizer" not in path:
                advice = advice_on(topic, way_in, path=path) if topic else ""
                raise other_weights("other_format", path, what, f"{way_out} {advice}".strip())


def require_no_parts(paths: Iterable[str], way_in: WayIn) -> None:
    """Refuse an adapter that was saved in several files: none of them is whole."""
    path = min(filter(PART_OF_WEIGHTS.fullmatch, paths), default="")
    if match := PART_OF_WEIGHTS.fullmatch(path):
        what = f"part {int(match['number'])} of {int(match['count'])} of an adapter that was saved in parts"
        topic = "split" if path.endswith(".safetensors") else "save_with_peft"
        raise other_weights("split_weights", path, what, advice_on(topic, way_in, path=path))


def require_no_other_format(
    paths: Iterable[str], way_in: WayIn, beginning_of: Callable[[str], bytes]
) -> None:
    """Refuse what tensors show to be an adapter of peft under another name, or of another program."""
    found: dict[WeightFormat, str] = {}
    weights = [path for path in paths if path.endswith(".safetensors") and "optimizer" not in path]
    for path in sorted(weights, key=lambda path: path.count("/"))[:SAMPLES_MAX]:
        shown = format_at(beginning_of(path))
        if shown is not None:
            found.setdefault(shown, path)
    for each in (ADAPTER_OF_PEFT, *FORMATS):  # the one to bring in counts before all that cannot
        path = found.get(each, "")
        if path and each is ADAPTER_OF_PEFT:
            advice = advice_on("other_name", way_in, path=path)
            raise other_weights("other_format", path, f"{each.what} under another name", advice)
        if path:
            way_out = OUT_OF.get(each.code) or advice_on("save_with_peft", way_in)
            raise other_weights(each.code, path, each.what, way_out)


def other_weights(code: str, path: str, what: str, way_out: str) -> FolderRefusal:
    return FolderRefusal(code, f"{path[:100]} is {what}, and there is no {WEIGHTS_FILE}. {way_out}")


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
