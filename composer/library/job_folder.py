"""The folder of a job: written from a request, run, and its result copied to where it was asked for.

The command line and `composer.compose` both call `compose_into`.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from composer.core.modules.sources import (
    Source,
    as_folder,
    base_source,
    distinct_names,
    module_source,
    module_text,
    repository,
)
from composer.core.spec import choices
from composer.core.spec.errors import ExamplesError, InvalidJobError
from composer.core.spec.example_files import AS_EXPECTED, Reading, read_file
from composer.core.spec.example_rows import Columns
from composer.core.spec.examples import Example, json_lines
from composer.core.spec.job_spec import read_job_spec
from composer.core.spec.templates import AUTO, notes_by_text, notes_of_unread_templates
from modules_registry.core.cards import license_of
from modules_registry.trained_templates import read_card_of, template_of_folder

OnEvent = Callable[[dict[str, Any]], None]
FindSources = Callable[
    [], list[Source]
]  # the base model and then the modules, with their files on this machine


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a composition, by the names of the command line; `read_job_spec` checks them.

    Attributes:
        method: a name in choices.METHODS.
        search: a name in choices.SEARCHES, or "nevergrad:" and the name of an optimizer.
        objective: a name in choices.OBJECTIVES.
        select: the selectors as text, such as "random:20+screen:8".
        budget: in scored candidates; None takes what the method is known to need.
        batch_size: examples in one token mean of LoraHub's objective; None for all of them.
        seed: of everything that is random in the run.
        precision: a name in choices.PRECISIONS.
        rank: "auto" for an adapter as small as the answers allow, "full" for the whole sum of the modules, or
            a number, to which that sum is cut.
        template: of the prompts; auto takes the modules' own, or the default of the base model.
        max_new_tokens: the most tokens of one answer.
        baselines: a name in choices.BASELINES.
        device: a name in choices.DEVICES.
        task: the task in words, for near:K.
    """

    method: str = choices.DEFAULT_METHOD
    search: str = "auto"
    objective: str = "loss"
    select: str = "all"
    budget: int | None = None
    batch_size: int | None = None
    seed: int = choices.DEFAULT_SEED
    precision: str = "auto"
    rank: int | str = choices.SMALL_RANK
    template: str = choices.DEFAULT_TEMPLATE
    max_new_tokens: int = choices.DEFAULT_MAX_NEW_TOKENS
    baselines: str = "always"
    device: str = "auto"
    task: str = ""


@dataclass(frozen=True)
class TaskExamples:
    """The examples of a request, checked already.

    Attributes:
        examples: to compose from.
        held_out: examples that only the report may see; there may be none.
        notes: sentences on what is not used of what was given.
    """

    examples: tuple[Example, ...]
    held_out: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()


def compose_into(
    out: Path, task: TaskExamples, options: Options, find_sources: FindSources, on_event: OnEvent
) -> Source:
    """Carry out one composition and put the adapter, its card and its report into `out`.

    Args:
        out: the folder of the result; made if it does not exist.
        task: the examples.
        options: of the composition.
        find_sources: called once the options are known to be valid.
        on_event: as in `composer.core.job.run`.

    Returns:
        The base model.

    Raises:
        ComposeError: the job cannot be done.
        KeyboardInterrupt: Ctrl-C; its text says whether the adapter is in `out` already.
    """
    with tempfile.TemporaryDirectory(prefix="compose-") as scratch:
        folder = Path(scratch)
        write_job(folder, task, options)
        read_job_spec(folder)  # what is wrong with the options is told before anything is fetched
        base, *modules = find_sources()
        require_apart(out, [base, *modules])
        write_job(folder, task, options, base, modules)
        run_job(folder, out, on_event)
    return base


def run_job(folder: Path, out: Path, on_event: OnEvent) -> None:
    """Carry out the job; the adapter is in `out` while the baselines are still measured."""
    from composer.core import job  # loads torch, which takes seconds; what is wrong is told before

    left = ""

    def tell(event: dict[str, Any]) -> None:
        nonlocal left
        if event["event"] == "adapter":
            hand_out(folder / event["folder"], out)
            left = f"the adapter is in {out}, without a report"
        on_event(event)

    try:
        job.run(folder, tell)
    except KeyboardInterrupt as wish:
        raise KeyboardInterrupt(left) from wish
    hand_out(folder / "out", out)


def examples_in(path: Path, limit: int, columns: Columns = AS_EXPECTED) -> Reading:
    """Return what is read of a file: at least one example, and no more than `limit`.

    Raises:
        ComposeError: there is no such file, or it has no usable examples; the message names the file.
    """
    if not path.is_file():
        raise InvalidJobError(f"There is no file {path}.")
    try:
        reading = read_file(path, columns, limit=limit)
    except ExamplesError as refusal:
        raise ExamplesError(f"In {path}: {refusal}") from refusal
    return replace(reading, notes=tuple(f"In {path}: {note}" for note in reading.notes))


def require_writable(out: Path) -> None:
    """Refuse a folder that the result cannot be put into, before the work and not after it.

    Raises:
        InvalidJobError: nothing can be written there.
    """
    try:
        there = next(path for path in (out, *out.absolute().parents) if path.exists())
        tempfile.TemporaryFile(dir=there).close()  # who may write is a question that only writing answers
    except OSError as error:
        raise InvalidJobError(f"Nothing can be written to {out}.") from error


def fetch_sources(base: str, modules: Sequence[str], on_event: OnEvent) -> list[Source]:
    """Return the base model and the modules, those of a Hub on this machine; each fetch is an event."""
    big = partial(base_source, shows_progress=sys.stderr.isatty())
    return [
        find_source(base, big, on_event),
        *(find_source(module, module_source, on_event) for module in modules),
    ]


def find_source(reference: str, source: Callable[[str], Source], on_event: OnEvent) -> Source:
    """Return what `source` finds for the reference; a stage event says that it is fetched from a Hub."""
    if as_folder(reference) is None:
        name, _ = repository(reference)
        on_event({"event": "stage", "text": f"Fetching {name}"})
    return source(reference)


def require_apart(out: Path, sources: Sequence[Source]) -> None:
    """Refuse to write the result over what it is made from.

    Raises:
        InvalidJobError: `out` is the folder of one of the sources.
    """
    for source in sources:
        if out.resolve() == source.folder:
            raise InvalidJobError(f"{source.name} would be written over. Give --out a folder of its own.")


def hand_out(made: Path, out: Path) -> None:
    """Copy what is made so far into `out`; no report and no baseline's adapter of an earlier result stays."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").unlink(missing_ok=True)
    shutil.rmtree(out / choices.ADAPTERS_FOLDER, ignore_errors=True)
    for file in sorted(path for path in made.rglob("*") if path.is_file()):
        copy = out / file.relative_to(made)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def write_job(
    folder: Path,
    task: TaskExamples,
    options: Options,
    base: Source | None = None,
    modules: Sequence[Source] = (),
) -> None:
    """Write the job folder that `composer.core.job.run` reads; before the base is known, its options alone.

    Raises:
        InvalidJobError: the value of an option is no value of JSON.
    """
    asked = asdict(options)
    found = [template_of_folder(module.folder) for module in modules]
    cards = [read_card_of(module.folder) for module in modules]
    names = distinct_names(modules)
    is_open = options.template in (None, "", AUTO)
    unread = {name: own.unread for name, own in zip(names, found, strict=True) if is_open and own.unread}
    job = {
        "schema": 1,
        "sentence": asked.pop("task"),
        **asked,
        "notes": [
            *task.notes,
            *notes_by_text({name: read.head_fault for name, read in zip(names, cards, strict=True)}),
            *notes_of_unread_templates(unread),
        ],
        "base": base and {"name": base.name, "folder": str(base.folder), "revision": base.revision},
        "modules": [
            {
                "name": name,
                "folder": str(module.folder),
                "revision": module.revision,
                "text": module_text(module.folder, choices.TEXT_LIMIT),
                "template": template.template or None,
                "licence": license_of(read.card),
            }
            for name, module, template, read in zip(names, modules, found, cards, strict=True)
        ],
    }
    (folder / "job.json").write_text(json.dumps(job, default=as_number), encoding="utf-8")
    (folder / "examples.jsonl").write_text(json_lines(task.examples), encoding="utf-8")
    if task.held_out:
        (folder / "held_out.jsonl").write_text(json_lines(task.held_out), encoding="utf-8")


def as_number(value: Any) -> int:
    """Return the whole number of a type of another package, such as numpy's.

    Raises:
        InvalidJobError: the value is not a whole number.
    """
    try:
        return int(value.__index__())
    except (AttributeError, TypeError) as error:
        raise InvalidJobError(f"{value!r} is neither text nor a number.") from error
