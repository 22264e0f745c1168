"""Reading and checking a job: job.json as a `JobSpec`.

`read_job_spec` is called once for each run, with the folder of the job. The meaning of every value is in
composer.core.spec.choices.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from composer.core.spec import choices
from composer.core.spec.errors import InvalidJobError
from composer.core.spec.selection import parse_selectors
from composer.core.spec.templates import require_asked_template, require_template

MODULE_ENTRY = '{"name": "owner/name", "folder": "modules/0"}'
RANK_DIGITS = len(str(choices.RANK_LIMIT))  # of a rank as text
UNFINISHED_FOLDER = "out.unfinished"  # the result until it is whole; its report tells what is known so far
FIND_FILE = "find"  # if this file is in the job's folder, modules are measured alone and nothing is composed
STOP_FILE = "stop"  # if this file is in the job's folder, the search ends with the best of its steps
FITTED_FILE = "fitted.json"  # what fits into the time, where the job's caller bounds that


@dataclass(frozen=True)
class ModuleSource:
    """The files of one module and its name in the job.

    Attributes:
        name: unique within the job.
        folder: holds adapter_config.json and adapter_model.safetensors.
        revision: the commit id that the files come from; empty if unknown.
        sha256: of adapter_model.safetensors, in hexadecimal; empty if the caller does not know it.
        text: the module's README.md, at most TEXT_LIMIT characters, for the similarity by text.
        template: of the prompts that the module was trained with; None if unknown.
        licence: the Hub's identifier of the module's license; empty if it states none.
    """

    name: str
    folder: Path
    revision: str
    sha256: str
    text: str
    template: str | None
    licence: str = ""


@dataclass(frozen=True)
class JobSpec:
    """One checked request.

    Attributes:
        folder: the folder of the job.
        base_folder: the files of the base model.
        base_name: the name of the base model in messages and in the written adapter.
        base_revision: the commit id of the base model; empty if unknown.
        modules: the modules to choose from.
        method: a name in choices.METHODS.
        search: a name in choices.SEARCHES, or "nevergrad:" and the name of an optimizer.
        select: the selectors as text, such as "random:20+screen:8".
        budget: in scored candidates; a gradient step counts as three.
        seed: of everything that is random in the run.
        template: of the prompts; templates.AUTO until the base model is read.
        max_new_tokens: the most tokens of one answer.
        baselines: a name in choices.BASELINES.
        rank: choices.SMALL_RANK, choices.FULL_RANK, or the rank to which the whole composition is cut.
        objective: a name in choices.OBJECTIVES.
        batch_size: examples in one token mean of LoraHub's objective; None for all of them.
        precision: a name in choices.PRECISIONS.
        device: a name in choices.DEVICES.
        sentence: the task in words, at most TEXT_LIMIT characters; empty if there is none.
        notes: sentences on what is not used of the examples that were brought, for the report's warnings.
        fits_time: whether the caller says, by FITTED_FILE, how much work fits into the time it gives.
    """

    folder: Path
    base_folder: Path
    base_name: str
    base_revision: str
    modules: tuple[ModuleSource, ...]
    method: str
    search: str
    select: str
    budget: int
    seed: int
    template: str
    max_new_tokens: int
    baselines: str
    rank: int | str
    objective: str = "loss"
    batch_size: int | None = None
    precision: str = "fp32"
    device: str = "cpu"
    sentence: str = ""
    notes: tuple[str, ...] = ()
    fits_time: bool = False


@dataclass(frozen=True)
class FittedWork:
    """How much work fits into the time that the caller of a job gives, both in scored candidates.

    Attributes:
        budget: of the search.
        training: as `training_budget` returns it; it bounds the trainings.
    """

    budget: int
    training: int

    def warning_of_little_time(self, asked: int, *, method: str, modules: int, examples: int) -> str:
        """Return a warning that fewer candidates fit than were asked for, and what makes more of them fit.

        Args:
            asked: the budget of the request, in scored candidates.
            method: a name in choices.METHODS.
            modules: how many are composed.
            examples: how many a candidate is scored on.
        """
        level = choices.level_of_budget(asked, method)
        longest = max(choices.SHARE_OF_LEVEL, key=choices.SHARE_OF_LEVEL.__getitem__)
        fewer = f"compose fewer modules (here {modules}) or give fewer examples (here {examples})"
        setting = "HUB_COMPOSE_SEARCH_S or HUB_COMPOSE_DEADLINE_S" if level else "HUB_COMPOSE_DEADLINE_S"
        longer = ""
        if level not in (None, longest):
            times = choices.SHARE_OF_LEVEL[longest] / choices.SHARE_OF_LEVEL[level]
            longer = f", choose the search effort {longest}, which has {times:g} times as long as {level}"
        return (
            f"{self.budget} of {asked} candidates fit into the time, so the search had those. For more, "
            f"{fewer}{longer}, or have the site's operator raise {setting}."
        )

    def write(self, folder: Path) -> None:
        """Write it into the folder of a job, as a whole or not at all."""
        unfinished = folder / f"{FITTED_FILE}.unfinished"
        unfinished.write_text(json.dumps(asdict(self)), encoding="utf-8")
        unfinished.replace(folder / FITTED_FILE)

    @classmethod
    def read(cls, folder: Path) -> "FittedWork | None":
        """Read it from the folder of a job; None if it is not there.

        Raises:
            InvalidJobError: a number is missing or not a number above 0.
        """
        path = folder / FITTED_FILE
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            fitted = cls(budget=int(found["budget"]), training=int(found["training"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidJobError(f"{FITTED_FILE} must hold the numbers budget and training.") from error
        if min(fitted.budget, fitted.training) < 1:
            raise InvalidJobError(f"budget and training in {FITTED_FILE} must be 1 or more.")
        return fitted


def read_job_spec(folder: Path) -> JobSpec:
    """Read and check job.json in `folder`.

    Raises:
        InvalidJobError: job.json is missing or not a JSON object, or a value is unknown, missing or out of
            range; the message names the value.
    """
    try:
        spec = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidJobError("job.json is missing or not JSON.") from error
    if not isinstance(spec, dict):
        raise InvalidJobError("job.json must hold one JSON object, with base, modules and options by name.")
    method = read_choice(spec, "method", choices.choice_names(choices.METHODS), choices.DEFAULT_METHOD)
    select = str(read_value(spec, "select", "all"))
    parse_selectors(select)
    base = read_value(spec, "base", {})
    if not isinstance(base, dict) or not isinstance(base.get("folder", "base"), str):
        raise InvalidJobError('base must be an object such as {"name": "owner/name", "folder": "base"}.')
    search = read_search(spec, method)
    if method == "auto" and search != "auto":
        method = "exact"  # auto fixes its own search, so a named search runs on the exact sum
    rows = read_value(spec, "modules", [])
    if not isinstance(rows, list):
        raise InvalidJobError(f"modules must be a list of objects such as {MODULE_ENTRY}.")
    modules = tuple(module_source(folder, row) for row in rows)
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
        template=require_asked_template(spec.get("template")),
        max_new_tokens=read_integer(
            spec, "max_new_tokens", choices.DEFAULT_MAX_NEW_TOKENS, choices.MAX_NEW_TOKENS_LIMIT
        ),
        rank=read_rank(spec),
        baselines=read_choice(spec, "baselines", choices.choice_names(choices.BASELINES), "always"),
        objective=read_objective(spec, method, search),
        batch_size=read_batch_size(spec, method),
        precision=read_choice(spec, "precision", choices.choice_names(choices.PRECISIONS), "fp32"),
        device=read_choice(spec, "device", choices.choice_names(choices.DEVICES), "cpu"),
        sentence=str(spec.get("sentence") or "")[: choices.TEXT_LIMIT],
        notes=tuple(map(str, read_value(spec, "notes", []))),
        fits_time=spec.get("fits_time") is True,
    )


def module_source(folder: Path, row: Any) -> ModuleSource:
    """Return one entry of job.json's "modules".

    Args:
        folder: the folder of the job; a relative "folder" of the entry starts there.
        row: the entry.

    Raises:
        InvalidJobError: the entry is no object, has no "name" or no "folder", or its template is not valid.
    """
    if not isinstance(row, dict):
        raise InvalidJobError(f"Each entry of modules must be an object such as {MODULE_ENTRY}.")
    for key in ("name", "folder"):
        if not isinstance(row.get(key), str) or not row[key]:
            raise InvalidJobError(f"An entry of modules has no {key}. Write it as {MODULE_ENTRY}.")
    template = row.get("template")
    return ModuleSource(
        name=str(row["name"]),
        folder=folder / row["folder"],
        revision=str(row.get("revision") or ""),
        sha256=str(row.get("sha256") or ""),
        text=str(row.get("text") or "")[: choices.TEXT_LIMIT],
        template=None if template in (None, "") else require_template(template),
        licence=str(row.get("licence") or ""),
    )


def require_distinct(names: Sequence[str]) -> None:
    """Refuse two modules with the same name, as a report could not tell their weights apart.

    Raises:
        InvalidJobError: names the first name that occurs more than once.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidJobError(f"{count} modules are called {name}. Give each a name of its own.")


def read_search(spec: Mapping[str, Any], method: str) -> str:
    """Return one of the method's searches, or `nevergrad:` and the name of an optimizer.

    The name behind `nevergrad:` is not checked here: only nevergrad can check it, and this module does
    not import nevergrad.

    Raises:
        InvalidJobError: the method has no such search.
    """
    search = spec.get("search")
    if isinstance(search, str) and search.startswith(choices.NEVERGRAD):
        return search
    offered = choices.SEARCHES_OF_METHOD[method]
    return read_choice(spec, "search", offered, "auto", also=choices.ANY_OF_NEVERGRAD.name)


def read_objective(spec: Mapping[str, Any], method: str, search: str) -> str:
    """Return the objective of the job.

    Raises:
        InvalidJobError: the objective is unknown, or it is not the loss and the search needs a gradient.
            The share of wrong answers has no gradient.
    """
    objective = read_choice(spec, "objective", choices.choice_names(choices.OBJECTIVES), "loss")
    really = choices.search_of(method, search)
    if objective != "loss" and really in choices.LOSS_SEARCHES:
        without = [
            name
            for name in choices.SEARCHES_OF_METHOD[method]
            if name not in choices.LOSS_SEARCHES and name != "auto"
        ]
        raise InvalidJobError(
            f"The objective {objective} has no gradient, and the search {search} of the method {method} "
            f"follows one. Name a search that needs none: {', '.join(without)} or "
            f"{choices.ANY_OF_NEVERGRAD.name}."
        )
    return objective


def read_rank(spec: Mapping[str, Any]) -> int | str:
    """Return choices.SMALL_RANK (also where the key is absent or null), choices.FULL_RANK, or a rank.

    A rank may be written as text, as forms and columns have it.

    Raises:
        InvalidJobError: it is none of these.
    """
    value = read_value(spec, "rank", choices.SMALL_RANK)
    if value in (choices.SMALL_RANK, choices.FULL_RANK):
        return str(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= RANK_DIGITS:
        value = int(value)
    if type(value) is not int or not 1 <= value <= choices.RANK_LIMIT:
        raise InvalidJobError(
            f"rank must be {choices.SMALL_RANK}, {choices.FULL_RANK} or a whole number from 1 to "
            f"{choices.RANK_LIMIT}."
        )
    return value


def read_batch_size(spec: Mapping[str, Any], method: str) -> int | None:
    """Return the number of examples in one token mean of LoraHub's objective, or None for all of them.

    Raises:
        InvalidJobError: the method is not lorahub, or the number is out of range.
    """
    if spec.get("batch_size") is None:
        return None
    if method != "lorahub":
        raise InvalidJobError(
            f"A batch size changes the objective of the method lorahub alone; leave it out for {method}."
        )
    return read_integer(spec, "batch_size", 1, choices.EXAMPLES_LIMIT)


def read_value(spec: Mapping[str, Any], key: str, default: Any) -> Any:
    """Return the value of `key` as it is, or the default where the key is absent or null."""
    value = spec.get(key)
    return default if value is None else value


def read_choice(
    spec: Mapping[str, Any], key: str, allowed: Sequence[str], default: str, *, also: str | None = None
) -> str:
    """Return the chosen name.

    Args:
        spec: the content of job.json.
        key: the key to read.
        allowed: the names that are allowed.
        default: the name where the key is absent or null.
        also: what the error message lists in addition to `allowed`.

    Raises:
        InvalidJobError: the value is not in `allowed`.
    """
    value = read_value(spec, key, default)
    if value not in allowed:
        offered = ", ".join(filter(None, [*allowed, also]))
        raise InvalidJobError(f"{key} is {value!r}. Choose one of {offered}.")
    return str(value)


def read_integer(spec: Mapping[str, Any], key: str, default: int, highest: int, *, lowest: int = 1) -> int:
    """Return the number of `key`, or the default where the key is absent or null.

    Raises:
        InvalidJobError: it is not a whole number from `lowest` to `highest`.
    """
    value = read_value(spec, key, default)
    if type(value) is not int or not lowest <= value <= highest:
        raise InvalidJobError(f"{key} must be a whole number from {lowest} to {highest}.")
    return value
