"""What adapter_config.json may say. Allowed keys and allowed values, nothing else.

peft compiles six of its fields as regular expressions, loads other models by name for some peft_types and
rewrites the base model for some initialisations. So a value is neutral, or a number, name or list read here,
or it is refused. What is kept is written anew: `AdapterConfig.plain` is the least peft needs.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modules_registry.core.adapter_file import WeightsSource, open_weights
from modules_registry.core.errors import ConfigRefusal
from modules_registry.core.prompt_template import KEY as PROMPT_TEMPLATE
from modules_registry.core.prompt_template import LENGTH_MAX as PROMPT_TEMPLATE_LENGTH_MAX
from modules_registry.core.prompt_template import is_prompt_template
from modules_registry.core.strict_json import BYTE_ORDER_MARKS, JsonRefusal, parse_object, quote_value

CONFIG_BYTES_MAX = 256 * 1024
CONFIG_DEPTH_MAX = 8
RANK_MAX = 1024
ALPHA_MAX = 65_536
TARGETS_MAX = 2_000
TASK_TYPES = (None, "SEQ_2_SEQ_LM", "CAUSAL_LM")
REQUIRED = ("peft_type", "base_model_name_or_path", "r", "lora_alpha", "target_modules")

HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
MODULE_PATH = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
MODULE_PATH_LENGTH_MAX = 200
PEFT_VERSION = re.compile(r"[A-Za-z0-9.+@_-]{1,64}")
LIBRARY = re.compile(r"transformers(\.[A-Za-z0-9_]+)*")

JSON_BEGINNINGS = (b"{", b"[", *BYTE_ORDER_MARKS)
SWAPPED = "did you swap the two files?"
TRAIN_AGAIN = "Train a plain LoRA instead."


@dataclass(frozen=True)
class AdapterConfig:
    """The part of adapter_config.json that has a meaning here."""

    base: str
    revision: str | None
    task_type: str | None
    rank: int
    alpha: float
    use_rslora: bool
    targets: tuple[str, ...]  # sorted; a layer is adapted when its path equals one or ends in ".one"
    fan_in_fan_out: bool
    prompt_template: str = ""  # that it was trained with, if it says so; peft knows no such key

    @property
    def scaling(self) -> float:
        """What multiplies B @ A: alpha / r, or alpha / √r for rank-stabilised LoRA (arXiv:2312.03732)."""
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)

    @property
    def plain(self) -> dict[str, Any]:
        """The same adapter, as any version of peft reads it."""
        return {
            "base_model_name_or_path": self.base,
            "bias": "none",
            "fan_in_fan_out": self.fan_in_fan_out,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": self.rank,
            "revision": self.revision,
            "target_modules": list(self.targets),
            "task_type": self.task_type,
            "use_rslora": self.use_rslora,
        }


@dataclass(frozen=True)
class Neutral:
    """A key whose value may not change what the weights mean."""

    allows: Callable[[object], bool]
    code: str
    message: str


def read_config(source: WeightsSource, base: str | None = None) -> AdapterConfig:
    """Read and check adapter_config.json.

    A base given here stands in for the one that the file names, such as a folder of the uploader's machine;
    so the file's revision, which was that of the other, goes too.
    """
    with open_weights(source, ConfigRefusal) as file:
        file.seek(0)
        data = file.read(CONFIG_BYTES_MAX + 1)
    if len(data) > CONFIG_BYTES_MAX:
        raise ConfigRefusal("config_too_large", f"It is larger than {CONFIG_BYTES_MAX // 1024} KB; {SWAPPED}")
    config = _parse(data)
    if base is not None:
        config |= {"base_model_name_or_path": base, "revision": None}
    return check_config(config)


def check_config(config: Mapping[str, Any]) -> AdapterConfig:
    """Hold every key and value against the allow-list; what passes is a plain LoRA."""
    _check_peft_type(config)
    for key in REQUIRED:
        if key not in config:
            raise ConfigRefusal(
                "config_key_missing", f"The key {key} is missing. Save the adapter again with peft."
            )
    for key, value in config.items():
        _check_key(key, value)
    return AdapterConfig(
        base=_base(config["base_model_name_or_path"]),
        revision=_revision(config.get("revision")),
        task_type=_task_type(config.get("task_type")),
        rank=_rank(config["r"]),
        alpha=_alpha(config["lora_alpha"]),
        use_rslora=_switch(config, "use_rslora"),
        targets=_targets(config["target_modules"]),
        fan_in_fan_out=_switch(config, "fan_in_fan_out"),
        prompt_template=_prompt_template(config.get(PROMPT_TEMPLATE)),
    )


def _parse(data: bytes) -> dict[str, Any]:
    try:
        return parse_object(data, depth_max=CONFIG_DEPTH_MAX)
    except JsonRefusal as refusal:
        begins_like_json = data.lstrip().startswith(JSON_BEGINNINGS)
        message = refusal.message if begins_like_json else f"This is not JSON; {SWAPPED}"
        raise ConfigRefusal(f"config_{refusal.problem}", message) from refusal


def _check_peft_type(config: Mapping[str, Any]) -> None:
    """First of all, because no other sentence would make sense to someone with another kind of adapter."""
    if "peft_type" in config and config["peft_type"] != "LORA":
        raise ConfigRefusal(
            "peft_type_not_supported",
            f'peft_type is {quote_value(config["peft_type"])}; only "LORA" is accepted here. {TRAIN_AGAIN}',
        )


def _check_key(key: str, value: object) -> None:
    if key in READ_KEYS:
        return
    rule = NEUTRAL_KEYS.get(key, UNKNOWN_KEY)
    if not rule.allows(value):
        raise ConfigRefusal(rule.code, rule.message.format(key=quote_value(key), value=quote_value(value)))


def _base(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ConfigRefusal(
            "base_missing",
            "base_model_name_or_path is empty. Name the base model, like google/flan-t5-large.",
        )
    if not is_base_name(name):
        raise ConfigRefusal(
            "base_not_a_name",
            f"base_model_name_or_path is {quote_value(name)}, which names nothing on the Hub. "
            "Choose the base model below, or write its name on the Hub.",
        )
    return name


def is_base_name(name: str) -> bool:
    """Whether a model on the Hub can have this name: no path, no address."""
    return HUB_NAME.fullmatch(name) is not None and ".." not in name and "--" not in name


def _revision(revision: object) -> str | None:
    if revision is None:
        return None
    if not isinstance(revision, str) or not REVISION.fullmatch(revision) or ".." in revision:
        raise ConfigRefusal(
            "revision_not_a_name",
            f"revision is {quote_value(revision)}. Write a branch, a tag, a commit id or null.",
        )
    return revision


def _task_type(task_type: Any) -> str | None:
    if task_type not in TASK_TYPES:
        raise ConfigRefusal(
            "task_type_not_supported",
            f"task_type {quote_value(task_type)} is not supported yet. "
            "Accepted are SEQ_2_SEQ_LM, CAUSAL_LM and null.",
        )
    accepted: str | None = task_type
    return accepted


def _rank(rank: object) -> int:
    if type(rank) is not int or not 1 <= rank <= RANK_MAX:
        raise ConfigRefusal(
            "rank_out_of_range", f"r is {quote_value(rank)}. It must be a whole number from 1 to {RANK_MAX}."
        )
    return rank


def _alpha(alpha: object) -> float:
    if type(alpha) not in (int, float) or not 0 < alpha <= ALPHA_MAX:  # type: ignore[operator]
        raise ConfigRefusal(
            "alpha_out_of_range",
            f"lora_alpha is {quote_value(alpha)}. It must be above 0 and at most {ALPHA_MAX}.",
        )
    return alpha  # type: ignore[return-value]


def _switch(config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise ConfigRefusal("not_true_or_false", f"{key} is {quote_value(value)}. Write true or false.")
    return bool(value)


def _prompt_template(template: Any) -> str:
    if template in (None, ""):
        return ""
    if not is_prompt_template(template):
        raise ConfigRefusal(
            "prompt_template_not_a_template",
            f"{PROMPT_TEMPLATE} is {quote_value(template)}. Write text with {{input}} in it, at most "
            f"{PROMPT_TEMPLATE_LENGTH_MAX:,} characters, or the word chat.",
        )
    return str(template)


def _targets(targets: object) -> tuple[str, ...]:
    if isinstance(targets, str):
        raise ConfigRefusal(
            "targets_pattern_not_supported",
            'target_modules is a pattern. Write the names of the layers as a list instead, like ["q", "v"].',
        )
    if not isinstance(targets, list) or not 1 <= len(targets) <= TARGETS_MAX:
        raise ConfigRefusal(
            "targets_not_a_list",
            f'target_modules must be a list of 1 to {TARGETS_MAX} layers\' names, like ["q", "v"].',
        )
    for target in targets:
        if not is_module_path(target):
            raise ConfigRefusal(
                "target_not_a_name",
                f"target_modules holds {quote_value(target)}. "
                "Write layers' names: letters, digits, _ and dots.",
            )
    return tuple(sorted(set(targets)))


def matches(path: str, targets: frozenset[str]) -> bool:
    """Whether peft would adapt this layer: a target is its path, or the end of it after a dot."""
    return not targets.isdisjoint(endings(path))


def endings(path: str) -> list[str]:
    """The targets that would select this layer: "a.b.q" -> "a.b.q", "b.q", "q"."""
    parts = path.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def is_module_path(value: object) -> bool:
    """Whether this can be the path of a layer: "encoder.block.0.layer.0.SelfAttention.q"."""
    return (
        isinstance(value, str)
        and len(value) <= MODULE_PATH_LENGTH_MAX
        and MODULE_PATH.fullmatch(value) is not None
    )


def _one_of(*values: object) -> Callable[[object], bool]:
    """Equal in JSON's eyes: in Python's, 0 == False and 1 == True."""
    accepted = {json.dumps(value) for value in values}
    return lambda value: json.dumps(value, sort_keys=True) in accepted


def _is_switch(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _is_dropout(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]


def _is_peft_version(value: object) -> bool:
    return isinstance(value, str | None) and (value is None or PEFT_VERSION.fullmatch(value) is not None)


def _is_group_size(value: object) -> bool:
    return type(value) is int and 1 <= value <= 65_536


def _is_auto_mapping(value: object) -> bool:
    """peft notes the class of a base without a task type; AutoPeftModel imports the library it names."""
    if value is None:
        return True
    if not isinstance(value, dict) or not set(value) <= {
        "base_model_class",
        "parent_library",
        "unsloth_fixed",
    }:
        return False
    return (
        str(value.get("base_model_class")).isidentifier()
        and LIBRARY.fullmatch(str(value.get("parent_library", "transformers"))) is not None
        and _is_switch(value.get("unsloth_fixed"))
    )


def _variant(name: str) -> Neutral:
    """A key that is empty unless the adapter is another kind of LoRA."""
    return Neutral(
        _one_of(None, False, [], {}),
        "variant_not_supported",
        f"{{key}} is set: {name} is not supported yet. {TRAIN_AGAIN}",
    )


def _pattern(what: str) -> Neutral:
    return Neutral(
        _one_of(None, [], {}),
        "pattern_not_supported",
        f"{{key}} is {{value}}: {what} is not supported yet. Train with it empty.",
    )


def _plain_value(allows: Callable[[object], bool], expected: str) -> Neutral:
    return Neutral(allows, "config_value_not_allowed", f"{{key}} is {{value}}. Write {expected}.")


READ_KEYS = frozenset(REQUIRED) | {"revision", "task_type", "use_rslora", "fan_in_fan_out", PROMPT_TEMPLATE}

# A key that a newer peft has and we do not know is harmless while it is switched off.
UNKNOWN_KEY = Neutral(
    _one_of(None, False),
    "config_key_unknown",
    "{key} is not a setting this site knows. Remove it, or set it to null if it is not in use.",
)

NEUTRAL_KEYS: Mapping[str, Neutral] = {
    "bias": Neutral(
        _one_of("none"),
        "bias_not_supported",
        'bias is {value}: trained biases are not supported yet. Train with bias="none".',
    ),
    "lora_bias": Neutral(
        _one_of(None, False),
        "bias_not_supported",
        "lora_bias is set: trained biases are not supported yet. Train with lora_bias=False.",
    ),
    "use_dora": Neutral(
        _one_of(None, False),
        "dora_not_supported",
        "This is DoRA, which is not supported yet. Train with use_dora=False.",
    ),
    "modules_to_save": Neutral(
        _one_of(None, []),
        "modules_to_save_not_supported",
        "modules_to_save is {value}: whole layers beside the LoRA are not supported yet. Train without it.",
    ),
    "init_lora_weights": Neutral(
        _one_of(None, True, False, "gaussian"),
        "init_not_supported",
        "init_lora_weights is {value}, which may rewrite the base model. Convert the adapter with peft's "
        "path_initial_model_for_weight_conversion, or set it to true if the base was left alone.",
    ),
    "rank_pattern": _pattern("a rank of its own per layer"),
    "alpha_pattern": _pattern("an alpha of its own per layer"),
    "layers_to_transform": _pattern("a choice of layers"),
    "layers_pattern": _pattern("a choice of layers"),
    "exclude_modules": _pattern("leaving layers out"),
    "target_parameters": _pattern("LoRA on single parameters"),
    "alora_invocation_tokens": _variant("Activated LoRA"),
    "arrow_config": _variant("Arrow routing"),
    "corda_config": _variant("CorDA"),
    "enable_lora": _variant("a merged layer of the first versions of peft"),
    "eva_config": _variant("EVA"),
    "kasa_config": _variant("KaSA"),
    "layer_replication": _variant("repeating layers"),
    "loftq_config": _variant("LoftQ"),
    "lora_ga_config": _variant("LoRA-GA"),
    "megatron_config": _variant("Megatron"),
    "monteclora_config": _variant("MonteCLoRA"),
    "trainable_token_indices": _variant("training single tokens"),
    "use_bdlora": _variant("BD-LoRA"),
    "use_qalora": _variant("QALoRA"),
    "velora_config": _variant("VeLoRA"),
    "auto_mapping": _plain_value(_is_auto_mapping, "null, and set task_type"),
    "ensure_weight_tying": _plain_value(_is_switch, "true or false"),
    "inference_mode": _plain_value(_is_switch, "true or false"),
    "lora_dropout": _plain_value(_is_dropout, "a number from 0 to 1"),
    "megatron_core": _plain_value(_one_of(None, "megatron.core"), '"megatron.core", peft\'s default'),
    "merge_weights": _plain_value(_is_switch, "true or false"),
    "peft_version": _plain_value(_is_peft_version, "the version of peft, like 0.21.2"),
    "qalora_group_size": _plain_value(_is_group_size, "16, peft's default"),
    "runtime_config": _plain_value(_one_of(None, {}, {"ephemeral_gpu_offload": False}), "null"),
}
