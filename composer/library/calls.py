"""The functions of `import composer`: compose, evaluate and screen."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any

from composer.core.spec import choices
from composer.core.spec.counting import count_noun
from composer.core.spec.errors import InvalidJobError, NoModulesError
from composer.core.spec.example_files import Reading
from composer.core.spec.example_rows import Columns
from composer.core.spec.examples import Example, require_disjoint
from composer.core.spec.job_spec import read_job_spec
from composer.library.composition import Composition
from composer.library.inputs import (
    BaseReference,
    GivenExamples,
    ModuleReference,
    find_base,
    find_module,
    find_modules,
    read_given,
)
from composer.library.job_folder import Options, TaskExamples, compose_into, require_writable, write_job
from composer.library.progress import left_out_text, shown_progress, warn_caller
from composer.library.quiet import quiet_libraries

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def compose(
    *,
    base: BaseReference,
    modules: Iterable[ModuleReference],
    examples: GivenExamples,
    held_out: "GivenExamples | None" = None,
    input_column: str = "",
    output_column: str = "",
    method: str = choices.DEFAULT_METHOD,
    search: str = "auto",
    objective: str = "loss",
    select: str = "all",
    budget: int | None = None,
    batch_size: int | None = None,
    seed: int = choices.DEFAULT_SEED,
    precision: str = "auto",
    rank: int | str = choices.SMALL_RANK,
    template: str = choices.DEFAULT_TEMPLATE,
    max_new_tokens: int = choices.DEFAULT_MAX_NEW_TOKENS,
    baselines: str = "always",
    device: str = "auto",
    task: str = "",
    out: "str | os.PathLike[str] | None" = None,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    progress: bool = True,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> Composition:
    """Compose LoRA modules into one adapter for a task that a few examples define.

    The options without a line here have the names and the meanings of the command line;
    docs/core/composing.md describes them.

    Args:
        base: the base model: a Hub's name with or without @revision, a folder, or a model in memory. A
            Hub is the one in HF_ENDPOINT, or huggingface.co.
        modules: LoRA modules: names of a Hub, folders, or PeftModels in memory, each with one active adapter;
            one that does not fit the base model, or the others, is left out with a warning.
        examples: at most 64 pairs (input, output) or dicts of a known dialect, such as
            {"input": …, "output": …} or {"instruction": …, "output": …}; or the Path of a JSON, JSON Lines,
            CSV or TSV file. What is not used of them is said in a warning and in the report.
        held_out: examples that only the report may see.
        input_column: the key or the column of the input, where its name is not a usual one; several are
            joined by "+".
        output_column: the key or the column of the output.
        out: the folder for the result. The adapter is there before the baselines are measured. None keeps
            the result in a temporary folder, as long as the Composition is kept.
        tokenizer: of a base model in memory; None takes the one of the name that it was loaded from.
        progress: whether to show the progress: one line on a terminal, a bar in a notebook.
        on_event: called with every event of the job; docs/core/report.md lists them. It may raise StopSearch
            to end the search with the best step so far.

    Raises:
        ComposeError: something that was given cannot be used; the message says what.
        KeyboardInterrupt: Ctrl-C; no file of the job stays, except for an adapter that is in `out` already.
    """
    options = Options(
        method=method,
        search=search,
        objective=objective,
        select=select,
        budget=budget,
        batch_size=batch_size,
        seed=seed,
        precision=precision,
        rank=rank,
        template=template,
        max_new_tokens=max_new_tokens,
        baselines=baselines,
        device=device,
        task=task,
    )
    columns = Columns(input_column, output_column)
    shots = read_given(examples, choices.EXAMPLES_LIMIT, columns)
    references = module_list(modules)
    unseen = read_held_out(held_out, shots.examples, columns)
    task_examples = TaskExamples(shots.examples, unseen.examples, (*shots.notes, *unseen.notes))
    warn_caller(*task_examples.notes)
    with folder_unless_error() as folder:
        result = folder / "result" if out is None else Path(out).expanduser()
        require_writable(result)
        with shown_progress(progress) as show, quiet_libraries():

            def tell(event: dict[str, Any]) -> None:
                if event.get("text") not in task_examples.notes:  # which are told already
                    show(event)
                if on_event is not None:
                    on_event(event)

            base_files = compose_into(
                result,
                task_examples,
                options,
                lambda: [
                    find_base(base, folder / "base", show, tokenizer=tokenizer, shows_progress=progress),
                    *find_modules(references, folder / "modules", show),
                ],
                tell,
            )
        made = Composition(result, base_files, folder)
        warn_of_left_out((row["name"], row["reason"]) for row in made.report["modules_left_out"])
        return made


def evaluate(
    *,
    base: BaseReference,
    adapter: "ModuleReference | None" = None,
    examples: GivenExamples,
    input_column: str = "",
    output_column: str = "",
    template: str = choices.DEFAULT_TEMPLATE,
    max_new_tokens: int = choices.DEFAULT_MAX_NEW_TOKENS,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    progress: bool = True,
) -> dict[str, float | int]:
    """Measure a base model on examples, with or without an adapter.

    Args:
        base: as in `compose`.
        adapter: a plain LoRA adapter: a Hub's name, a folder or a PeftModel in memory; None for the base
            model alone.
        examples: at most 2000, as in `compose`.
        input_column: as in `compose`.
        output_column: as in `compose`.
        template: of the prompts; auto takes the adapter's own, or the default of the base model.
        max_new_tokens: the most tokens of one answer.
        tokenizer: as in `compose`.
        progress: as in `compose`.

    Returns:
        n; exact_match_percent and reference_match_percent (as the released LoraHub counts), both of greedy
        answers, 0 to 100; and loss_nats_per_token, in nats per label token.

    Raises:
        ComposeError: something that was given cannot be used; the message says what.
    """
    asked = read_given(examples, choices.HELD_OUT_LIMIT, Columns(input_column, output_column))
    warn_caller(*asked.notes)
    with temporary_folder() as folder, shown_progress(progress) as show, quiet_libraries():
        base_files = find_base(base, folder / "base", show, tokenizer=tokenizer, shows_progress=progress)
        adapter_files = None if adapter is None else find_module(adapter, folder / "adapter", show)
        show({"event": "stage", "text": f"Answering {count_noun(len(asked.examples), 'example')}"})
        from composer.core.evaluation import scoring

        return scoring.evaluate_adapter(
            base=base_files,
            adapter=adapter_files,
            examples=asked.examples,
            template=template,
            max_new_tokens=max_new_tokens,
            on_event=show,
        )


def screen(
    *,
    base: BaseReference,
    modules: Iterable[ModuleReference],
    examples: GivenExamples,
    input_column: str = "",
    output_column: str = "",
    template: str = choices.DEFAULT_TEMPLATE,
    precision: str = "auto",
    device: str = "auto",
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    progress: bool = True,
) -> dict[str, float]:
    """Measure each module alone, at weight 1, on the examples.

    Args:
        base: as in `compose`, and so are the other arguments.
        modules: as in `compose`; one that does not fit the base model is left out with a warning.
        examples: as in `compose`.
        input_column: as in `compose`.
        output_column: as in `compose`.
        template: as in `compose`.
        precision: as in `compose`.
        device: as in `compose`.
        tokenizer: as in `compose`.
        progress: as in `compose`.

    Returns:
        The loss of each module in nats per label token by the module's name, the lowest first; infinite
        where it is not a number.

    Raises:
        ComposeError: something that was given cannot be used, or no module fits; the message says what.
    """
    shots = read_given(examples, choices.EXAMPLES_LIMIT, Columns(input_column, output_column))
    warn_caller(*shots.notes)
    references = module_list(modules)
    options = Options(template=template, precision=precision, device=device)
    with temporary_folder() as folder, shown_progress(progress) as show, quiet_libraries():
        task = TaskExamples(shots.examples)
        write_job(folder, task, options)
        read_job_spec(folder)  # what is wrong with the options is told before anything is fetched
        base_files = find_base(base, folder / "base", show, tokenizer=tokenizer, shows_progress=progress)
        write_job(folder, task, options, base_files, find_modules(references, folder / "modules", show))
        from composer.core import job

        run = job.CompositionRun(read_job_spec(folder), show)
        run.load()
        with run.base.single_thread_if_small():
            losses = run.losses_alone()
    warn_of_left_out((module.name, module.reason) for module in run.left_out)
    return dict(sorted(losses.items(), key=lambda pair: pair[1]))


def warn_of_left_out(modules: Iterable[tuple[str, str]]) -> None:
    """Warn the caller of each module (name, reason) that takes no part."""
    warn_caller(*(left_out_text(name, reason) for name, reason in modules))


def read_held_out(given: "GivenExamples | None", shots: Sequence[Example], columns: Columns) -> Reading:
    """Return the held-out examples, none if None is given.

    Raises:
        ExamplesError: one of them cannot be used, or has the input of one of the examples.
    """
    if given is None:
        return Reading(())
    unseen = read_given(given, choices.HELD_OUT_LIMIT, columns, "Held-out example {}")
    require_disjoint(unseen.examples, shots)
    return unseen


def module_list(modules: Iterable[ModuleReference]) -> list[ModuleReference]:
    """Return the modules as a list.

    Raises:
        InvalidJobError: it is one module, and no list.
        NoModulesError: there is none.
    """
    if isinstance(modules, str | bytes | os.PathLike | Mapping) or not isinstance(modules, Iterable):
        raise InvalidJobError("The modules must be a list of names, folders or PeftModels.")
    references = list(modules)
    if not references:
        raise NoModulesError
    return references


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that is removed afterwards."""
    with TemporaryDirectory(prefix="composition-") as name:
        yield Path(name)


@contextmanager
def folder_unless_error() -> Iterator[Path]:
    """Yield a new folder; it is removed after an error or Ctrl-C, else the caller has to remove it."""
    folder = Path(mkdtemp(prefix="composition-"))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
