"""What was asked for: job.json, read and checked."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.core.spec import choices
from composer.core.spec.errors import InvalidJobError
from composer.core.spec.selection import parse_selectors
from composer.core.spec.templates import require_template, shared_template

STOP_FILE = "stop"  # in a job's folder: whoever watches wants the best found so far


@dataclass(frozen=True)
class ModuleSource:
    """Where one module lies, and what it is called."""

    name: str
    folder: Path
    revision: str
    sha256: str
    text: str  # what its author says of it, for the choice by text
    template: str | None  # that its prompts were made with, if anybody knows


@dataclass(frozen=True)
class JobSpec:
    """What was asked for, checked."""

    folder: Path
    base_folder: Path
    base_name: str
    base_revision: str
    modules: tuple[ModuleSource, ...]
    method: str
    search: str
    select: str
    budget: int  # scored candidates; a gradient step counts as three
    seed: int
    template: str
    max_new_tokens: int
    baselines: str
    rank: int | None  # to which the result is cut; None keeps it whole
    objective: str = "loss"
    batch_size: int | None = None  # examples in one mean of lorahub's objective; None: all
    precision: str = "fp32"
    device: str = "cpu"
    sentence: str = ""  # what the task is, in words


def read_job_spec(folder: Path) -> JobSpec:
    """Read and check job.json.

    Raises:
        InvalidJobError: a value is missing, unknown or out of range; the message names it.
    """
    try:
        spec = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidJobError("job.json is missing or not JSON.") from error
    method = read_choice(spec, "method", choices.choice_names(choices.METHODS), choices.DEFAULT_METHOD)
    select = str(read_value(spec, "select", "all"))
    parse_selectors(select)
    base = spec.get("base") or {}
    search = read_search(spec, method)
    if method == "auto" and search != "auto":
        method = "exact"  # whoever names a search wants that one, on the default's own sum
    modules = tuple(module_source(folder, row) for row in spec.get("modules") or ())
    require_distinct([module.name for module in modules])
    return JobSpec(
        folder=folder,
        base_folder=folder / base.get("folder", "base"),
        base_name=str(base.get("name") or "base"),
        base_revision=str(base.get("revision") or ""),
        modules=modules,
        method=method,
        search=search,
        select=select,
        budget=read_integer(spec, "budget", choices.BUDGET_OF_METHOD[method], choices.BUDGET_LIMIT),
        seed=read_integer(spec, "seed", choices.DEFAULT_SEED, 2**32 - 1, lowest=0),
        template=require_template(
            read_value(spec, "template", shared_template(module.template for module in modules))
        ),
        max_new_tokens=read_integer(
            spec, "max_new_tokens", choices.DEFAULT_MAX_NEW_TOKENS, choices.MAX_NEW_TOKENS_LIMIT
        ),
        rank=None if spec.get("rank") is None else read_integer(spec, "rank", 0, choices.RANK_LIMIT),
        baselines=read_choice(spec, "baselines", choices.choice_names(choices.BASELINES), "always"),
        objective=read_objective(spec, method, search),
        batch_size=read_batch_size(spec, method),
        precision=read_choice(spec, "precision", choices.choice_names(choices.PRECISIONS), "fp32"),
        device=read_choice(spec, "device", choices.choice_names(choices.DEVICES), "cpu"),
        sentence=str(spec.get("sentence") or "")[: choices.TEXT_LIMIT],
    )


def module_source(folder: Path, row: Mapping[str, Any]) -> ModuleSource:
    """One line of job.json's "modules"; `folder` may be relative to the job's."""
    template = row.get("template")
    return ModuleSource(
        name=str(row["name"]),
        folder=folder / row["folder"],
        revision=str(row.get("revision") or ""),
        sha256=str(row.get("sha256") or ""),
        text=str(row.get("text") or "")[: choices.TEXT_LIMIT],
        template=None if template is None else require_template(template),
    )


def require_distinct(names: Sequence[str]) -> None:
    """Refuse two modules of one name: nobody could tell whose weight a report means."""
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidJobError(f"{count} modules are called {name}. Give each a name of its own.")


def read_search(spec: Mapping[str, Any], method: str) -> str:
    """One of the method's searches, or `nevergrad:` and a name that only nevergrad can judge."""
    search = spec.get("search")
    if isinstance(search, str) and search.startswith(choices.NEVERGRAD):
        return search
    offered = choices.SEARCHES_OF_METHOD[method]
    return read_choice(spec, "search", offered, "auto", also=choices.ANY_OF_NEVERGRAD.name)


def read_objective(spec: Mapping[str, Any], method: str, search: str) -> str:
    """The objective; the share of right answers has no slope for a gradient to follow."""
    objective = read_choice(spec, "objective", choices.choice_names(choices.OBJECTIVES), "loss")
    really = choices.SEARCH_OF_AUTO.get(method, "ngopt") if search == "auto" else search
    with_gradient = ("blend", *choices.GRADIENT_SEARCHES)
    if objective != "loss" and really in with_gradient:
        without = [
            name
            for name in choices.SEARCHES_OF_METHOD[method]
            if name not in with_gradient and name != "auto"
        ]
        raise InvalidJobError(
            f"The objective {objective} has no gradient, and the search {search} of the method {method} "
            f"follows one. Name a search that needs none: {', '.join(without)} or "
            f"{choices.ANY_OF_NEVERGRAD.name}."
        )
    return objective


def read_batch_size(spec: Mapping[str, Any], method: str) -> int | None:
    """Examples in one mean of the objective; only lorahub's has such means."""
    if spec.get("batch_size") is None:
        return None
    if method != "lorahub":
        raise InvalidJobError(
            f"A batch size changes the objective of the method lorahub alone; leave it out for {method}."
        )
    return read_integer(spec, "batch_size", 1, choices.EXAMPLES_LIMIT)


def read_value(spec: Mapping[str, Any], key: str, default: Any) -> Any:
    """The value as it stands, empty or not; null means the default."""
    value = spec.get(key)
    return default if value is None else value


def read_choice(
    spec: Mapping[str, Any], key: str, allowed: Sequence[str], default: str, *, also: str | None = None
) -> str:
    """The chosen name, if there is such a choice.

    `also`: what else may be written, as the refusal has to say.
    """
    value = read_value(spec, key, default)
    if value not in allowed:
        offered = ", ".join(filter(None, [*allowed, also]))
        raise InvalidJobError(f"{key} is {value!r}. Choose one of {offered}.")
    return str(value)


def read_integer(spec: Mapping[str, Any], key: str, default: int, highest: int, *, lowest: int = 1) -> int:
    """The number, if it is whole and within its bounds; null means the default."""
    value = read_value(spec, key, default)
    if type(value) is not int or not lowest <= value <= highest:
        raise InvalidJobError(f"{key} must be a whole number from {lowest} to {highest}.")
    return value
