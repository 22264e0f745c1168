"""How good the base model and the modules are, on dev examples, and what is good enough.

Held-out examples are never read here: they are for whoever composes.
"""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch.nn import Module
from transformers import PreTrainedTokenizerFast

from demo.catalog import NEW_KNOWLEDGE_MODULE, PURE_MODULES, TASKS
from demo.grammar import (
    CHANGES,
    FORMS,
    SELECTORS,
    Combination,
    DemoExample,
    hub_examples,
    instructed_examples,
)
from demo.train import exact_match_percent

REQUIRED_PERCENT = 95.0  # exact match of every skill of the base and of every module
DEV_EXAMPLES = 200


class QualityError(RuntimeError):
    """Something trained is worse than the demo promises."""


def measure(model: Module, tokenizer: PreTrainedTokenizerFast, examples: Iterable[DemoExample]) -> float:
    return exact_match_percent(model, tokenizer, islice(examples, DEV_EXAMPLES))


def measure_skills(base: Module, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Every single skill of the base, when asked for in words."""
    return {
        skill: measure(base, tokenizer, instructed_examples(Combination.of(skill), "dev"))
        for skill in (*SELECTORS, *CHANGES, *FORMS)
    }


def measure_unseen(base: Module, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """The unseen combinations, when asked for in words: can the base do them at all?"""
    return {
        task.combination.name: measure(base, tokenizer, instructed_examples(task.combination, "dev"))
        for task in TASKS
        if task.kind == "composable"
    }


def measure_sums(base: Module, tokenizer: PreTrainedTokenizerFast, modules: Path) -> dict[str, float]:
    """The unseen tasks, with the single-skill modules they name added up at weight 1.

    Nothing is required here: it tells how far plain addition gets when somebody knows the skills.
    """
    model = load_modules(base, modules, [module.name for module in (*PURE_MODULES, NEW_KNOWLEDGE_MODULE)])
    tuner: Any = model.base_model  # peft's LoraModel: it takes several adapters at once
    quality = {}
    for task in TASKS:
        if task.kind != "negative":
            tuner.set_adapter(list(task.combination.skills))
            quality[task.combination.name] = measure(model, tokenizer, hub_examples(task.combination, "dev"))
    return quality


def load_modules(base: Module, folder: Path, names: list[str]) -> PeftModel:
    """The base with several modules beside each other, none of them merged."""
    first, *others = names
    model = PeftModel.from_pretrained(base, folder / first, adapter_name=first)
    for name in others:
        model.load_adapter(folder / name, adapter_name=name)
    return model


def require_quality(what: str, quality: dict[str, float]) -> None:
    weak = below_required(quality)
    if weak:
        raise QualityError(f"{what} is below {REQUIRED_PERCENT} % on dev: {weak}")


def below_required(quality: dict[str, float]) -> dict[str, float]:
    return {name: percent for name, percent in quality.items() if percent < REQUIRED_PERCENT}
