"""What adapter_config.json may say. Allowed keys and allowed values, nothing else.

peft compiles six of its fields as regular expressions, loads other models by name for some peft_types and
rewrites the base model for some initializations. So a value is neutral, or a number, name or list read here,
or it is refused. Patterns that only choose layers are not read at all: the weights say which layers they are.
What is kept is written anew: `AdapterConfig.plain` is the least peft needs.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from modules_registry.core.adapter_file import WeightsSource, open_weights
from modules_registry.core.errors import ConfigRefusal, Findings, Repair
from modules_registry.core.prompt_template import KEY as PROMPT_TEMPLATE
from modules_registry.core.prompt_template import LENGTH_MAX as PROMPT_TEMPLATE_LENGTH_MAX
from modules_registry.core.prompt_template import is_prompt_template
from modules_registry.core.strict_json import BYTE_ORDER_MARKS, JsonRefusal, parse_object, quote_value

CONFIG_BYTES_MAX = 1024**2  # one that names 5,000 layers has 0.4 MB
CONFIG_DEPTH_MAX = 8
RANK_MAX = 1024
ALPHA_MAX = 65_536
TARGETS_MAX = 5_000  # layers that a file of weights can hold
TASK_TYPES = (None, "SEQ_2_SEQ_LM", "CAUSAL_LM")
CLASSIFIERS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
# What peft writes in capitals, and what is meant by other letters, or by an enumeration's name in front.
TYPES = {"peft_type": ("LORA",), "task_type": (*filter(None, TASK_TYPES), *CLASSIFIERS)}
ENUMERATION = re.compile(r"\A(?:peft_?type|task_?type)\.", re.IGNORECASE)
BASE_KEY = "base_model_name_or_path"
ANY_BASE = "any/base"  # stands in for the base that a config names where that does not matter
REQUIRED = (BASE_KEY, "r", "lora_alpha")
# What chooses layers beside target_modules; the weights show the result.
CHOOSES_LAYERS = ("exclude_modules", "layers_to_transform", "layers_pattern")

HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
MODULE_PATH = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
MODULE_PATH_LENGTH_MAX = 200
PATTERN_KEY = re.compile(rf"\^?{MODULE_PATH.pattern}")  # of rank_pattern and alpha_pattern
PEFT_VERSION = re.compile(r"[A-Za-z0-9.+@_-]{1,64}")
LIBRARY = re.compile(r"transformers(\.[A-Za-z0-9_]+)*")

JSON_BEGINNINGS = (b"{", b"[", *BYTE_ORDER_MARKS)
SWAPPED = "did you swap the two files?"
NAME_ATTENTION = 'Name the attention layers: target_modules=["q_proj", "k_proj", "v_proj", "o_proj"].'
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
    use_dora: bool = False
    names_all_layers: bool = True  # the targets are the whole choice: no pattern, nothing left out
    rank_pattern: Mapping[str, int] = field(default_factory=dict)  # a layer's name -> its own rank
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    has_rank_expressions: bool = False  # rank_pattern had keys that are not names: only the weights know
    repairs: tuple[Repair, ...] = ()  # what was written otherwise in the file

    @property
    def scaling(self) -> float:
        """What multiplies B @ A in a layer without a rank or an alpha of its own."""
        return self.scaling_of(self.rank, self.alpha)

    def scaling_of(self, rank: int, alpha: float) -> float:
        """Return alpha / r, or alpha / √r for rank-stabilized LoRA (arXiv:2312.03732)."""
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def rank_of(self, path: str) -> int:
        return find_in_pattern(self.rank_pattern, path, self.rank)

    def alpha_of(self, path: str) -> float:
        return find_in_pattern(self.alpha_pattern, path, self.alpha)

    @property
    def plain(self) -> dict[str, Any]:
        """The same adapter, as any version of peft reads it.

        Without weights, as in a draft, it leaves open which layers and ranks a pattern chose.
        """
        ranks = {".*": self.rank} if self.has_rank_expressions else dict(self.rank_pattern)
        own = {"rank_pattern": ranks, "alpha_pattern": dict(self.alpha_pattern)}
        return (
            {key: value for key, value in own.items() if value}
            | {
                BASE_KEY: self.base,
                "bias": "none",
                "fan_in_fan_out": self.fan_in_fan_out,
                "inference_mode": True,
                "init_lora_weights": True,
                "lora_alpha": self.alpha,
                "lora_dropout": 0.0,
                "peft_type": "LORA",
                "r": self.rank,
                "revision": self.revision,
                "target_modules": list(self.targets) if self.names_all_layers else None,
                "task_type": self.task_type,
                "use_rslora": self.use_rslora,
            }
            | ({"use_dora": True} if self.use_dora else {})
        )


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
    config = parse_config(source)
    if base is not None:
        config |= {BASE_KEY: base, "revision": None}
    return check_config(config)


def parse_config(source: WeightsSource) -> dict[str, Any]:
    """The keys and values of the file, before they are held against the allow-list."""
    with open_weights(source, ConfigRefusal) as file:
        file.seek(0)
        data = file.read(CONFIG_BYTES_MAX + 1)
    if len(data) > CONFIG_BYTES_MAX:
        raise ConfigRefusal("config_too_large", f"It is larger than {CONFIG_BYTES_MAX // 1024} KB; {SWAPPED}")
    return _parse(data)


def check_config(config: Mapping[str, Any]) -> AdapterConfig:
    """Hold every key and value against the allow-list, and say all findings at once."""
    _require_adapter(config)
    config, repairs = repair_types(config)
    _require_lora(config)
    findings, read = Findings(), {}
    for key in REQUIRED:
        if key not in config:
            findings.add(
                ConfigRefusal(
                    "config_key_missing", f"The key {key} is missing. Save the adapter again with peft."
                )
            )
    for key, value in config.items():
        with findings.collect():
            _check_key(key, value)
    for name, key, reader in READERS:
        with findings.collect():
            if key in config or key not in REQUIRED:
                read[name] = reader(config.get(key))
    findings.raise_all()
    pattern, has_expressions = read.pop("rank_pattern")
    targets = read.pop("targets")
    return AdapterConfig(
        **read,
        targets=targets or (),
        names_all_layers=targets is not None and not any(config.get(key) for key in CHOOSES_LAYERS),
        rank_pattern=pattern,
        has_rank_expressions=has_expressions,
        repairs=tuple(repairs),
    )


def repair_types(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[Repair]]:
    """Write peft_type and task_type as peft does. Who says no peft_type can only mean a LoRA."""
    repaired, repairs = dict(config), []
    for key, known in TYPES.items():
        given = config.get(key)
        wanted = ENUMERATION.sub("", given.strip()).upper() if isinstance(given, str) else given
        if key == "peft_type" and given is None:
            wanted = "LORA"
        if wanted in known and wanted != given:
            repaired[key] = wanted
            was = "was missing" if given is None else f"was {quote_value(given)}"
            repairs.append(Repair(key, f"Set {key} to {wanted}; it {was}."))
    return repaired, repairs


def _parse(data: bytes) -> dict[str, Any]:
    try:
        return parse_object(data, depth_max=CONFIG_DEPTH_MAX)
    except JsonRefusal as refusal:
        begins_like_json = data.lstrip().startswith(JSON_BEGINNINGS)
        message = refusal.message if begins_like_json else f"This is not JSON; {SWAPPED}"
        raise ConfigRefusal(f"config_{refusal.problem}", message) from refusal


def _require_adapter(config: Mapping[str, Any]) -> None:
    """First of all, because no other sentence would make sense to someone with another kind of file."""
    if "peft_type" not in config and {"fine_tune_type", "lora_parameters"} & set(config):
        raise ConfigRefusal(
            "mlx_format",
            "This is the configuration of an MLX adapter. Convert it to peft's format: transpose "
            "each lora_a to "
            "lora_A.weight and each lora_b to lora_B.weight, and write r, lora_alpha and target_modules.",
        )
    if "peft_type" not in config and {"architectures", "model_type"} & set(config):
        raise ConfigRefusal(
            "config_of_a_model",
            "This is the config.json of a whole model. Upload the adapter_config.json that peft wrote.",
        )


def _require_lora(config: Mapping[str, Any]) -> None:
    if config["peft_type"] != "LORA":
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
            "Write its name on the Hub, like google/flan-t5-large.",
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
    if task_type in CLASSIFIERS:
        raise ConfigRefusal(
            "classifier_head",
            f"task_type is {quote_value(task_type)}, whose head for classes belongs to the adapter. "
            f"Only adapters "
            "of text-generating models can be used here: train with task_type CAUSAL_LM or SEQ_2_SEQ_LM.",
        )
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


def _switch(key: str) -> Callable[[object], bool]:
    def read(value: object) -> bool:
        if value is not None and not isinstance(value, bool):
            raise ConfigRefusal("not_true_or_false", f"{key} is {quote_value(value)}. Write true or false.")
        return bool(value)

    return read


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


def _targets(targets: object) -> tuple[str, ...] | None:
    """The layers' names; None where only the weights say which they are: for a pattern, or without any."""
    if targets is None or isinstance(targets, str):
        return None
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


def _rank_pattern(pattern: object) -> tuple[dict[str, int], bool]:
    """Ranks by layer's name, and whether there were other keys, which the weights make up for."""
    named, others = _split_pattern("rank_pattern", pattern)
    return {key: _rank(value) for key, value in named.items()}, bool(others)


def _alpha_pattern(pattern: object) -> dict[str, float]:
    named, others = _split_pattern("alpha_pattern", pattern)
    if others:
        raise ConfigRefusal(
            "pattern_not_literal",
            f"alpha_pattern has the key {quote_value(others[0])}, a regular expression, which is not "
            f"run here. "
            "Write the layers' names in its place.",
        )
    return {key: _alpha(value) for key, value in named.items()}


def _split_pattern(name: str, pattern: object) -> tuple[dict[str, Any], list[str]]:
    """Split into the keys that are names, with their values, and those that are regular expressions."""
    if pattern in (None, []):
        return {}, []
    if not isinstance(pattern, dict):
        raise ConfigRefusal(
            "pattern_not_a_mapping",
            f"{name} must map layers' names to numbers. Save the adapter again with peft.",
        )
    named = {key: value for key, value in pattern.items() if PATTERN_KEY.fullmatch(key)}
    return named, [key for key in pattern if key not in named]


Value = TypeVar("Value")


def find_in_pattern(pattern: Mapping[str, Value], path: str, default: Value) -> Value:
    """The first value whose key names this layer, as peft looks it up in rank_pattern and alpha_pattern.

    A key is a path, the end of one after a dot, or, with ^ in front, a whole path.
    """
    for key, value in pattern.items():
        whole = key.removeprefix("^")
        if path == whole or (key == whole and path.endswith(f".{key}")):
            return value
    return default


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


def _is_settings(value: object) -> bool:
    """Settings of a way to begin the factors.

    peft ignores them unless init_lora_weights names that way, and its conversion to a plain LoRA leaves
    them in the config; so init_lora_weights alone decides.
    """
    return isinstance(value, dict | None)


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


def _plain_value(allows: Callable[[object], bool], expected: str) -> Neutral:
    return Neutral(allows, "config_value_not_allowed", f"{{key}} is {{value}}. Write {expected}.")


# Field of AdapterConfig, key of the file, and what reads the key's value.
READERS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("base", BASE_KEY, _base),
    ("revision", "revision", _revision),
    ("task_type", "task_type", _task_type),
    ("rank", "r", _rank),
    ("alpha", "lora_alpha", _alpha),
    ("use_rslora", "use_rslora", _switch("use_rslora")),
    ("use_dora", "use_dora", _switch("use_dora")),
    ("targets", "target_modules", _targets),
    ("rank_pattern", "rank_pattern", _rank_pattern),
    ("alpha_pattern", "alpha_pattern", _alpha_pattern),
    ("fan_in_fan_out", "fan_in_fan_out", _switch("fan_in_fan_out")),
    ("prompt_template", PROMPT_TEMPLATE, _prompt_template),
)
READ_KEYS = frozenset(key for _, key, _ in READERS) | {"peft_type", *CHOOSES_LAYERS}

# A key that a newer peft has and we do not know is harmless while it is switched off.
UNKNOWN_KEY = Neutral(
    _one_of(None, False),
    "config_key_unknown",
    "{key} is not a setting this site knows. Remove it, or set it to null if it is not in use.",
)

CHANGES_THE_BASE = "Loading them changes the base model, so they are not accepted."
NEUTRAL_KEYS: Mapping[str, Neutral] = {
    "bias": Neutral(
        _one_of("none"),
        "bias_not_supported",
        f'bias is {{value}}: biases of the base were trained too. {CHANGES_THE_BASE} Train with bias="none".',
    ),
    "lora_bias": Neutral(
        _one_of(None, False),
        "bias_not_supported",
        "lora_bias is set: the LoRA has biases of its own, which are not supported yet. Train with "
        "lora_bias=False.",
    ),
    "modules_to_save": Neutral(
        _one_of(None, []),
        "modules_to_save_not_supported",
        f"modules_to_save is {{value}}: whole layers were trained beside the LoRA. {CHANGES_THE_BASE} Train "
        "without it; a LoRA on lm_head is possible with target_modules.",
    ),
    "init_lora_weights": Neutral(
        _one_of(None, True, False, "gaussian", "eva", "orthogonal"),
        "init_not_supported",
        "init_lora_weights is {value}, which rewrites the base model: this adapter alone does not "
        "fit the plain one. Convert it, with path_initial_model_for_weight_conversion in save_pretrained; "
        "what began with LoftQ cannot be converted: train again with init_lora_weights=True.",
    ),
    "target_parameters": Neutral(
        _one_of(None, []),
        "target_parameters_not_supported",
        "target_parameters is {value}: LoRA on parameters that are no linear layers is not supported yet. "
        f'peft makes it of "all-linear" where experts are fused. {NAME_ATTENTION}',
    ),
    "trainable_token_indices": Neutral(
        _one_of(None, False, [], {}),
        "trained_tokens",
        f"trainable_token_indices is {{value}}: embeddings of tokens were trained. {CHANGES_THE_BASE} Train "
        "without new or changed tokens.",
    ),
    **dict.fromkeys(
        ("corda_config", "eva_config", "loftq_config", "lora_ga_config"),
        _plain_value(_is_settings, "an object, or null"),
    ),
    "alora_invocation_tokens": _variant("Activated LoRA"),
    "arrow_config": _variant("Arrow routing"),
    "enable_lora": _variant("a merged layer of the first versions of peft"),
    "kasa_config": _variant("KaSA"),
    "layer_replication": _variant("repeating layers"),
    "megatron_config": _variant("Megatron"),
    "monteclora_config": _variant("MonteCLoRA"),
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
