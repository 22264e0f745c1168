"""One composition from beginning to end, from a folder to a folder.

    job.json, examples.jsonl, held_out.jsonl (optional), base/, modules/0/, …
    fitted.json (optional: how much work fits into the time; read after the screening)
    steps.jsonl (optional: the step and state events of an earlier attempt at the same job)
    screened.jsonl (optional: screened events of this or other jobs, whose losses need no scoring)
        -> out/adapter_config.json, adapter_model.safetensors, README.md, report.json

The command line and the worker's child both call `run`. Importing this module loads torch,
transformers and peft but computes nothing with them: if a process forks after its first torch
computation, its children hang in their first backward pass.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from composer.core.evaluation import report
from composer.core.evaluation.ablation import ablation_losses, limit_rank
from composer.core.evaluation.baselines import (
    ANSWERS_SHOWN,
    BaselineComparison,
    BaselineResult,
    Cost,
    HeldOutQuestions,
    left_out_of,
    lora_left_out,
    mean_prompt_tokens,
    unmeasured,
    with_adapter_at,
)
from composer.core.evaluation.cross_validation import CrossValidation, losses_of_parts
from composer.core.evaluation.export import (
    ExportCheck,
    ParentModule,
    cell,
    check_export,
    loaded_by_peft,
    write_adapter,
    write_card,
    write_trained_card,
)
from composer.core.evaluation.licence import AdapterLicense, license_of
from composer.core.evaluation.pruning import PRUNED_METHODS, Pruning, prune
from composer.core.evaluation.quality import quality_left_out, quality_on_held_out
from composer.core.evaluation.scoring import prompt_event, require_prompts_fit
from composer.core.evaluation.small_adapter import AnswersKept, make_small
from composer.core.evaluation.verdict import (
    LeftOutLosses,
    Verdict,
    verdict_cut_short,
    verdict_left_out,
    verdict_on_held_out,
    verdict_without_baselines,
    verdict_without_evidence,
)
from composer.core.methods.base import Method, PlainLora, as_adapters, single_modules
from composer.core.methods.registry import make_method
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.known_answers import answer_known
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import (
    LoraModule,
    ModuleStack,
    base_weights_in,
    read_module,
    repair_texts,
    stack_modules,
)
from composer.core.modules.sources import MODULE_FILES
from composer.core.search.dispatch import WeightSearch
from composer.core.search.journal import Journal, SearchRecord, SearchStep, read_record, state_event
from composer.core.search.nevergrad_search import require_optimizer
from composer.core.selection.compatibility import joined_ranks, select_compatible, select_modules
from composer.core.selection.copies import CopiesOf, CopyGroups
from composer.core.selection.screening import Screening, context_sha256, read_screened
from composer.core.selection.similarity import delta_similarity, task_text, text_similarity
from composer.core.spec import choices, stages
from composer.core.spec.adapter_size import modules_with_weight, unchanged_text, vllm_rank
from composer.core.spec.counting import count_noun
from composer.core.spec.errors import ExportMismatchError, InvalidJobError, ModuleUnfitError, StopSearch
from composer.core.spec.example_files import read_examples
from composer.core.spec.examples import notes_on, require_disjoint, without_repeats
from composer.core.spec.job_spec import (
    FITTED_FILE,
    UNFINISHED_FOLDER,
    FittedWork,
    JobSpec,
    ModuleSource,
    read_job_spec,
)
from composer.core.spec.metrics import longest_useful_answer, warning_of_unwritable
from composer.core.spec.selection import parse_selectors
from composer.core.spec.stages import Stage
from composer.core.spec.templates import (
    CHAT,
    unify_templates,
    warning_of_broken_chat,
    warning_of_missing_chat,
    warning_of_other_templates,
)
from composer.core.spec.training import training_budget
from composer.core.spec.verdict_rule import ADVISABLE, BASELINE_NAMES, TUNED, Quality, question_tokens
from modules_registry.core.base_weights import BaseWeights
from modules_registry.core.sizes import size_in_words

OnEvent = Callable[[dict[str, Any]], None]
MEASURED_CANDIDATES = 8  # enough to tell what one costs in a batch; 2 % of the usual budget
VECTOR_TOLD = 1000  # the most weights that a step event holds as a vector, beside the weights by module


def run(folder: Path, on_event: OnEvent) -> None:
    """Carry out the job in `folder`; write the result to `folder`/out, all of it or nothing.

    Args:
        folder: holds job.json and the files that the head of this module lists.
        on_event: called for every stage and step; docs/core/report.md lists the events. It may raise
            `StopSearch` to end the search with the best step so far, or any other error to end the job.

    Raises:
        ComposeError: the job cannot be done; the message is for the reader of the page.
    """
    composition = CompositionRun(read_job_spec(folder), on_event)
    unfinished = folder / UNFINISHED_FOLDER
    shutil.rmtree(unfinished, ignore_errors=True)
    composition.make(unfinished)
    shutil.rmtree(folder / "out", ignore_errors=True)
    unfinished.rename(folder / "out")
    composition.emit({"event": "done"})


def find_modules(folder: Path, on_event: OnEvent) -> None:
    """Measure each module of the job in `folder` alone on the examples, and ask the best for an answer.

    Args:
        folder: as for `run`; of the options the template, the precision and the device count, and
            max_new_tokens for the answers.
        on_event: called for every event: `base` with loss_nats of the base model alone, `alone` and
            `screened` as in a composition, `answers` with the answers to the first example.

    Raises:
        ComposeError: the job cannot be done; the message is for the reader of the page.
    """
    found = CompositionRun(read_job_spec(folder), on_event)
    found.load()
    with found.base.single_thread_if_small():
        found.score_base()
        losses = found.losses_alone(wanted=choices.ANSWERS_OF_FOUND)
        best = [name for name in sorted(losses, key=losses.__getitem__) if math.isfinite(losses[name])]
        found.tell_answers(best[: choices.ANSWERS_OF_FOUND])


@dataclass
class CompositionRun:
    """One run and its results so far. `make` calls the stages in the order of the methods.

    Attributes:
        job: the request.
        on_event: called for every event.
        seconds: wall-clock time of each finished stage, by the name of the stage.
        stop_reason: of the StopSearch that `on_event` raised; empty while it raised none.
        pending: keys of the baselines that are still to be measured.
        rows: of the baselines and the composition, as in report.json, by key.
        fitted: how much work fits into the time; None where nobody bounds it.
        budget_asked: of the search, before it was lowered to what fits into the time.
    """

    job: JobSpec
    on_event: OnEvent
    seconds: dict[str, float] = field(default_factory=dict)
    stop_reason: str = ""
    pending: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)  # as in report.json, by key
    fitted: FittedWork | None = None
    _groups: dict[tuple[int, ...], CopiesOf] = field(default_factory=dict)  # by the numbers of the examples

    def __post_init__(self) -> None:
        self.budget_asked = self.job.budget

    def make(self, out: Path) -> None:
        """Run all stages and write the result into `out`.

        Raises:
            ComposeError: the job cannot be done.
        """
        self.load()
        with self.base.single_thread_if_small():
            self.screen()
            self.search()
            self.prune()
            self.export(out)
            self.evaluate(out)
            self.report(out)

    @property
    def weights_by_name(self) -> dict[str, float]:
        """Return the weight of each module of the composition by its name, once the search is done."""
        names = [self.sources[position].name for position in self.pruning.kept]
        return dict(zip(names, self.by_module, strict=True))

    def emit(self, event: dict[str, Any]) -> None:
        """Report an event to the caller; remember StopSearch until the search can end."""
        try:
            self.on_event(event)
        except StopSearch as wish:
            self.stop_reason = self.stop_reason or wish.reason

    @contextmanager
    def stage(self, stage: Stage, text: str, **facts: Any) -> Iterator[None]:
        """Report that a stage begins, and measure its seconds. No result depends on the clock."""
        self.emit({"event": "stage", "stage": stage.name, "text": text, **facts})
        started = time.monotonic()
        yield
        self.seconds[stage.name] = round(time.monotonic() - started, 3)

    def load(self) -> None:
        """Read examples, base model and modules into memory; leave out the modules that are not compatible.

        Raises:
            ComposeError: one of them cannot be used, or no module is compatible.
        """
        job = self.job
        if job.search.startswith(choices.NEVERGRAD):
            require_optimizer(job.search.removeprefix(choices.NEVERGRAD))
        text = stages.LOAD.text(base=job.base_name, modules=count_noun(len(job.modules), "module"))
        for note in job.notes:
            self.emit({"event": "warning", "text": note})
        with self.stage(stages.LOAD, text):
            examples = read_examples(job.folder / "examples.jsonl", choices.EXAMPLES_LIMIT)
            file = job.folder / "held_out.jsonl"
            held_out = read_examples(file, choices.HELD_OUT_LIMIT) if file.exists() else ()
            require_disjoint(held_out, examples)
            self.examples, self.held_out = tuple(without_repeats(examples)), tuple(without_repeats(held_out))
            base_weights = base_weights_in(job.base_folder)
            modules = [read_if_fit(source, base_weights) for source in job.modules]
            self.base = FrozenBaseModel.load(
                job.base_folder, precision=job.precision, device=job.device, name=job.base_name
            )
            fitting, self.left_out = select_compatible(
                modules,
                self.base.linear_layers(),
                equal_shapes=job.method not in choices.TAKES_ANY_SHAPE,
                equal_scalings=job.method == "lorahub",
            )
            read = {i: module for i in fitting if isinstance(module := modules[i], LoraModule)}
            self.choose_template([report.with_sha256(job.modules[i]) for i in fitting])
            require_prompts_fit(self.base, self.held_out, "Held-out example")
            own_templates = [source.template for source in self.fitting]
            self.everything = stack_modules(
                [replace(read[i], template=own) for i, own in zip(fitting, own_templates, strict=True)]
            ).to(self.base.device)
            self.base.hook(layer.path for layer in self.everything.layers)
            self.scorer = FewShotScorer(self.base, self.base.encode(self.examples))
            self.base_files = report.base_sha256(job.base_folder)
            self.shown = self.base.describe_prompt(self.scorer.batch)
        self.emit(prompt_event(self.template, self.shown))
        found = [*notes_on(examples, held_out), *repair_texts(read.values()), *self._warnings()]
        for text in found:
            self.emit({"event": "warning", "text": text})
        self.warnings = [*job.notes, *found]

    def choose_template(self, fitting: Sequence[ModuleSource]) -> None:
        """Decide the template of the composition by the request, the compatible modules and the base model.

        A module cannot have been trained with the chat template of a base model that has none, so its
        template counts as unknown.
        """
        has_chat = self.base.has_chat
        self.without_chat = [] if has_chat else [own.name for own in fitting if own.template == CHAT]
        self.fitting = [
            replace(own, template=None) if own.name in self.without_chat else own for own in fitting
        ]
        stated = {own.name: own.template for own in self.fitting}
        self.template = self.base.choose_template(self.job.template, stated)
        unified = unify_templates(
            self.template.template, stated, is_encoder_decoder=self.base.is_encoder_decoder
        )
        self.fitting = [replace(own, template=unified[own.name]) for own in self.fitting]
        self.base.template = self.template.template
        self.job = replace(self.job, template=self.template.template)

    def screen(self) -> None:
        """Score the base model alone and, as far as needed, each module alone; then choose the modules."""
        job, everything = self.job, self.everything
        with self.stage(stages.SCREEN, stages.SCREEN.text(modules=count_noun(len(everything), "module"))):
            self.screened = Cost()
            with self.screened.counted(self.scorer):
                self.score_base()
                self.screening = self._screening()
                if job.method not in choices.TAKES_COPIES:
                    self.copy_groups = CopyGroups(self.scorer, everything, self._identities())
                self.copies = self._chosen_groups(range(len(self.examples)))
                self.kept = tuple(sorted(self.copies))
                self.alone = torch.tensor(self.screening.losses(self.kept))
            self.sources = [self.fitting[i] for i in self.kept]
            self.stack = everything.subset(self.kept)
            self.method: Method = make_method(job.method, self.stack, seed=job.seed)
            self.fit_to_time()
            self.cross_validation = CrossValidation(
                self.job, self.scorer, everything, self.screening, self._chosen_by
            )

    def score_base(self) -> None:
        """Score the base model alone on the examples, and report its loss."""
        self.base_nats = self.scorer.nats_of_base()
        loss = self._token_mean(self.base_nats)
        self.emit({"event": "base", "loss_nats": loss if math.isfinite(loss) else None})

    def fit_to_time(self) -> None:
        """Lower the budget of the search to what fits into the time, if the caller of the job bounds that.

        The caller is told what some candidates cost, unless it knows already, and answers by FITTED_FILE.
        The answer is a number of candidates, so that no result depends on the clock.

        Raises:
            InvalidJobError: FITTED_FILE is not valid.
        """
        folder, asked = self.job.folder, self.job.budget
        if self.job.fits_time and not (folder / FITTED_FILE).exists():
            with (cost := Cost()).counted(self.scorer):
                weights = torch.full((MEASURED_CANDIDATES, self.method.n_weights), 1 / len(self.stack))
                self.scorer.nats(self.method, weights)
            measured = {"candidates": cost.candidates, "seconds": cost.seconds}
            self.emit({"event": "measured", "precision": self.base.precision, **measured})
        self.fitted = FittedWork.read(folder)
        if self.fitted and self.fitted.budget < asked:
            self.job = replace(self.job, budget=self.fitted.budget)
            text = self.fitted.warning_of_little_time(
                asked, method=self.job.method, modules=len(self.stack), examples=len(self.examples)
            )
            self.emit({"event": "warning", "text": text})
            self.warnings.append(text)

    def losses_alone(self, wanted: int | None = None) -> dict[str, float]:
        """Return the few-shot loss of every module alone by its name, copies too, without choosing any.

        Args:
            wanted: how many of the best the caller will look at; None for all. Of many modules the others
                may have infinity: they were scored on one example only.
        """
        everything = self.everything
        with self.stage(stages.SCREEN, stages.SCREEN.text(modules=count_noun(len(everything), "module"))):
            losses = self._screening().losses(range(len(everything)), wanted)
        return dict(zip(everything.names, losses, strict=True))

    def tell_answers(self, names: Sequence[str]) -> None:
        """Report what the base model alone and each of these modules answers to the first example."""
        prompt = self.base.prompt(self.examples[0].input, self.job.template)
        positions = [self.everything.names.index(name) for name in names]
        ((of_base,),) = self.base.answers([prompt], self.job.max_new_tokens, {})
        answers = (
            self.base.answers(
                [prompt], self.job.max_new_tokens, single_modules(self.everything, positions), len(positions)
            )
            if positions
            else []
        )
        texts = {name: text for name, (text,) in zip(names, answers, strict=True)}
        self.emit({"event": "answers", "base": of_base, "modules": texts})

    def search(self) -> None:
        """Find the weights."""
        text = stages.SEARCH.text(modules=count_noun(len(self.stack), "module"))
        with self.stage(stages.SEARCH, text, modules=list(self.stack.names)):
            self.spent = Cost(self.screened.candidates, 0, self.screened.seconds)
            with self.spent.counted(self.scorer):
                self.weight_search = WeightSearch(
                    self.job,
                    self.scorer,
                    self.method,
                    self.examples,
                    losses_of_parts(self.scorer, self.stack, self.job.template, self.alone.tolist()),
                    self._token_mean(self.base_nats),
                )
                self.planned = self.weight_search.planned_steps()
                self.found = self.weight_search.find(
                    Journal(
                        self._on_step,
                        on_state=lambda state: self.emit(state_event(state)),
                        record=read_search_record(self.job.folder),
                    )
                )

    def prune(self) -> None:
        """Remove what the composition does not need, if that is asked for; make the adapter and score it."""
        is_small = self.job.rank == choices.SMALL_RANK
        stage = self.stage(stages.PRUNE, stages.PRUNE.text()) if is_small else nullcontext()
        with stage, self.spent.counted(self.scorer):
            self.pruning = self._pruning()
            self.composed_method = self._made_of(self.stack.subset(self.pruning.kept))
            self.by_module = self.composed_method.by_module(self.pruning.weights)
            final = replace(self.weight_search, method=self.composed_method)
            self.objective_value = float(final.values(torch.tensor([self.pruning.weights])))
            self.lora = self._lora()
            self.final_nats = self.scorer.nats_of(self.adapters)

    def export(self, out: Path) -> None:
        """Write the adapter and its card, and refuse it if under peft it is not what was found.

        From then on the caller may use the adapter, though the evaluation is still to come.

        Raises:
            ExportMismatchError: it differs in fp32 too, after a second composition from the weights.
        """
        with self.stage(stages.EXPORT, stages.EXPORT.text()):
            write_adapter(self.lora, self.base, self.job.base_name, out)
            self._write_card(out, title="A composed adapter", text=self._card_text(out))
            self.checked = check_export(self.base, out, self.scorer.batch, self.adapters)
            self.is_recomputed = not self.checked.is_same
            if self.is_recomputed:
                self.checked = self._compose_again(out)
            self.emit({"event": "adapter", "folder": out.name})

    def evaluate(self, out: Path) -> None:
        """Answer the held-out examples by the written adapter, measure each baseline, find the verdict."""
        n = len(self.held_out)
        on = f"on {count_noun(n, 'held-out example')}" if n else "without held-out examples"
        with self.stage(stages.EVALUATE, stages.EVALUATE.text(examples=on)):
            questions, answers = self._held_out_questions(), None
            if questions is not None:
                with loaded_by_peft(self.base, out) as wrapped:
                    answers = answer_known(
                        questions.known(),
                        questions.max_new_tokens,
                        {},
                        n_shown=ANSWERS_SHOWN,
                        wrapped=wrapped,
                    )
            composed_left_out, single_left_out = self._left_out()
            self.composed = BaselineResult(
                "composed",
                "This composition",
                "",
                self._token_mean(self.final_nats),
                answers,
                self.spent,
                composed_left_out,
                mean_prompt_tokens(self.base, questions, self.examples),
            )
            self.emit({"event": "baseline", **self._add_row(self.composed)})
            self.ablation = ablation_losses(
                self.scorer,
                self.composed_method,
                self.pruning.weights,
                rank_max=self.lora.rank if self.lora.energy_kept < 1 else None,
                composed_loss=self._token_mean(self.final_nats),
            )
            self.baselines: list[BaselineResult] = []
            if self.job.baselines == "none":
                self.verdict = self._verdict()
            else:
                self._compare(self._comparison(questions, single_left_out), out)

    def _compare(self, comparison: BaselineComparison, out: Path) -> None:
        """Measure one baseline after the other; write what is known before it is told, as the job may end."""
        measures = comparison.measurements()
        self.pending = list(measures)
        self._report_so_far(out)
        for measure in measures.values():
            baseline = self._written(measure(), out)
            self.baselines.append(baseline)
            self.pending.remove(baseline.key)
            row = self._add_row(baseline)
            self._report_so_far(out)
            self.emit({"event": "baseline", **row})

    def _report_so_far(self, out: Path) -> None:
        self.verdict = self._verdict()
        self.report(out)

    def report(self, out: Path) -> None:
        """Write report.json, as a whole or not at all."""
        job, scorer = self.job, self.scorer
        content = {
            "schema": report.SCHEMA,
            "method": job.method,
            "search": job.search,
            "optimizer": self.found.optimizer,
            "stopped": self.found.stopped,
            "stop_reason": self.stop_reason if self.found.stopped else "",
            "select": job.select,
            "objective": job.objective,
            "batch_size": job.batch_size,
            "budget": self.budget_asked,
            "budget_fitted": job.budget if job.budget < self.budget_asked else None,
            "seed": job.seed,
            "precision": self.base.precision,
            "device": self.base.device.type,
            "rank_asked": job.rank,
            "rank": self.lora.rank,
            "size_bytes": adapter_bytes(out),
            "is_zero": self.lora.is_zero,
            "vllm_max_lora_rank": self._vllm_rank(),
            "layers": {"adapted": len(self.lora.factors), "of": len(self.stack.layers)},
            "energy_kept": self.lora.energy_kept,
            "export": report.export_row(self.checked, is_recomputed=self.is_recomputed),
            "base": {"name": job.base_name, "revision": job.base_revision},
            "template": job.template,
            "template_reason": self.template.reason,
            "prompt_shown": self.shown,
            "examples_in_prompt": self._recipe(),
            "warnings": self.warnings,
            "n_shots": len(self.examples),
            "n_held_out": len(self.held_out),
            "modules": self._module_rows(),
            "licence": asdict(self.licence),
            "modules_pruned": self._pruned_rows(),
            "modules_left_out": [{"name": out.name, "reason": out.reason} for out in self.left_out],
            "weights_by_layer": self._layer_rows(),
            "few_shot_loss_nats": self.composed.few_shot_loss_nats,
            "objective_value": self.objective_value,
            "baselines": [
                *(self.rows[baseline.key] for baseline in self.baselines),
                *(report.baseline_row(unmeasured(key), self.held_out) for key in self.pending),
                self.rows[self.composed.key],
            ],
            "verdict": self._verdict_row(),
            "predictions": self._predictions(),
            "steps": [{"step": s.number, "loss": s.loss, "best_loss": s.best_loss} for s in self.found.steps],
            "candidates_scored": scorer.candidates_scored,
            "gradient_steps": scorer.gradient_steps,
            "seconds": self.seconds,
            "peak_memory_mb": report.peak_memory_mb(),
            "versions": report.versions(),
            "inputs_sha256": self._inputs_sha256,
        }
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        unfinished = out / "report.unfinished"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(out / "report.json")

    @cached_property
    def _inputs_sha256(self) -> dict[str, str]:
        """Return the hash of every file that was read."""
        files = report.examples_sha256(self.job.folder) | self.base_files
        return files | report.modules_sha256(self.job.modules)

    # --- parts of the stages --------------------------------------------------

    def _warnings(self) -> list[str]:
        """Return what may spoil the result though the job can be done."""
        stated = {source.name: source.template for source in self.fitting}
        is_trained_so = set(stated.values()) == {self.job.template}
        found = [
            warning_of_broken_chat(self.job.template, self.base.chat_fault),
            warning_of_missing_chat(self.without_chat),
            warning_of_other_templates(self.job.template, stated),
            "" if is_trained_so else self.base.template_warning(),
            warning_of_unwritable([*self.examples, *self.held_out], self.base.round_trip),
        ]
        return [text for text in found if text]

    def _screening(self) -> Screening:
        """Return the screening, with the losses that earlier runs found."""
        stack = self.everything
        facts = {"base": self.base_files, "precision": self.base.precision, "device": self.base.device.type}
        if not self.base.is_encoder_decoder:
            facts["answer_begins"] = "split_prompt"  # losses by an earlier rule do not hold
        templates = [own or self.job.template for own in stack.templates]
        return Screening(
            self.scorer,
            stack,
            contexts=[
                context_sha256(**facts, template=template, scaling=scaling)
                for template, scaling in zip(templates, stack.scalings.tolist(), strict=True)
            ],
            modules=[source.sha256 for source in self.fitting],
            examples=self.examples,
            known=read_screened(lines_of(self.job.folder / "screened.jsonl")),
            tell=self.emit,
        )

    def _identities(self) -> list[tuple[str, ...]]:
        """Return for each module what makes it equal to another: its tensors, scaling and template."""
        shas = [source.sha256 for source in self.fitting]
        return list(zip(self.screening.contexts, shas, strict=True))

    def _chosen_by(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """Return the indices of the modules that the examples with these numbers choose, without copies."""
        return tuple(sorted(self._chosen_groups(numbers)))

    def _chosen_groups(self, numbers: Sequence[int]) -> CopiesOf:
        """Return the modules that these examples choose, each for its group, and their copies."""
        key = tuple(numbers)
        if key not in self._groups:
            self._groups[key] = self._choose_groups(key)
        return self._groups[key]

    def _choose_groups(self, numbers: Sequence[int]) -> CopiesOf:
        selectors = parse_selectors(self.job.select)
        losses = partial(self.screening.losses, numbers=numbers)
        near = partial(self._near, numbers=numbers)
        select = partial(select_modules, selectors, seed=self.job.seed, alone=losses, near=near)
        if self.job.method in choices.TAKES_COPIES:
            return dict.fromkeys(select(range(len(self.everything))), ())
        refill = all(selector.name != "random" for selector in selectors)
        return self.copy_groups.represent(select, losses, numbers, refill=refill)

    def _near(self, indices: Sequence[int], numbers: Sequence[int]) -> list[float]:
        """Return the similarity of these modules to the task of the examples with these numbers.

        It joins the similarity by text and that to the delta of the best module screened so far.

        Raises:
            InvalidJobError: no module has a text, and no module is screened.
        """
        columns = []
        texts = [self.fitting[i].text for i in indices]
        if any(text.strip() for text in texts):
            task = task_text([self.examples[i] for i in numbers], self.job.sentence)
            columns.append(text_similarity(self.base, task, texts))
        best = self.screening.best_known(numbers)
        if best is not None:
            similarity = delta_similarity(self.everything, best)
            columns.append([similarity[i] for i in indices])
        if not columns:
            raise InvalidJobError(
                "near:K needs the text of some module, its README.md, or screen:K before it."
            )
        return joined_ranks(columns)

    def _on_step(self, step: SearchStep) -> None:
        by_module = self.method.by_module(step.weights)
        event = {
            "event": "step",
            "step": step.number,
            "budget": max(self.planned, step.number),
            "loss": step.loss,
            "best_loss": step.best_loss,
            "weights": list(by_module),
        }
        if by_module != step.weights and len(step.weights) <= VECTOR_TOLD:
            event["vector"] = list(step.weights)
        self.emit(event)
        if self.stop_reason:
            raise StopSearch(self.stop_reason)

    def _vllm_rank(self) -> int | None:
        return vllm_rank(self.lora.rank, is_encoder_decoder=self.base.is_encoder_decoder)

    def _made_of(self, stack: ModuleStack) -> Method:
        """Return the method of the job on these modules."""
        return make_method(self.job.method, stack, seed=self.job.seed)

    def _pruning(self) -> Pruning:
        """Return the composition without the modules that it does not need, or with all of them."""
        if self.job.rank == choices.SMALL_RANK and self.job.method in PRUNED_METHODS:
            return prune(self.scorer, self.method, self.found, self._made_of, budget=self.job.budget)
        return Pruning(tuple(range(len(self.stack))), self.found.weights, self.found.left_out, {})

    def _lora(self) -> PlainLora:
        """Return the composed adapter, made small or cut to the rank of the job."""
        job, lora = self.job, self.composed_method.lora(self.pruning.weights)
        if job.rank == choices.SMALL_RANK:
            lora = make_small(lora, AnswersKept(self.scorer, self.examples, job.max_new_tokens, lora))
        elif job.rank != choices.FULL_RANK:
            lora = limit_rank(lora, int(job.rank))
        # A cut adapter differs from the searched one, so it is scored as it is written. Any other is scored
        # as it was searched, so that the export can compare the two.
        if lora.energy_kept < 1:
            self.adapters = as_adapters(lora)
        else:
            self.adapters = self.composed_method.adapters(torch.tensor([self.pruning.weights]))
        return lora

    def _compose_again(self, out: Path) -> ExportCheck:
        """Compose again from the weights found, write the adapter, and compare it in fp32.

        In bf16 a rounded base alone can move a loss further than the tolerance, and a finished search is
        worth the time of loading the base once more.

        Raises:
            ExportMismatchError: it differs in fp32 too.
        """
        self.lora = self._lora()
        write_adapter(self.lora, self.base, self.job.base_name, out)
        base = self.base
        if base.precision != "fp32":
            base = FrozenBaseModel.load(
                self.job.base_folder, self.job.template, device=base.device.type, packs=False
            )
            base.hook(layer.path for layer in self.stack.layers)
        checked = check_export(base, out, self.scorer.batch, self.adapters)
        if not checked.is_same:
            raise ExportMismatchError(checked.searched_loss_nats, checked.loss_nats)
        return checked

    def _held_out_questions(self) -> HeldOutQuestions | None:
        if not self.held_out:
            return None
        length = longest_useful_answer(self.held_out, self.job.max_new_tokens)
        return HeldOutQuestions(self.base, tuple(self.held_out), length)

    def _comparison(
        self, questions: HeldOutQuestions | None, single_left_out: LeftOutLosses | None
    ) -> BaselineComparison:
        return BaselineComparison(
            job=self.job,
            scorer=self.scorer,
            method=self.method,
            stack=self.stack,
            examples=self.examples,
            questions=questions,
            best=int(self.alone.argmin()),
            screened=self.screened,
            best_left_out=single_left_out,
            lora=self.lora,
            training_budget=0 if self.found.stopped else self._training_budget(),
            fold_loras=lambda: map(self.method.lora, self.found.fold_weights),
            folds_choose_alike=lambda: self.cross_validation.chooses_alike(self.kept),
            composed=self.adapters,
        )

    def _training_budget(self) -> int:
        """Return the work that bounds the trainings, in scored candidates."""
        usual = training_budget(self.budget_asked, self.job.method)
        return min(usual, self.fitted.training) if self.fitted else usual

    def _written(self, baseline: BaselineResult, out: Path) -> BaselineResult:
        """Write the adapter of a baseline that has one into a folder of its own within `out`."""
        if baseline.lora is None:
            return baseline
        folder = f"{choices.ADAPTERS_FOLDER}/{baseline.key}"
        write_adapter(baseline.lora, self.base, self.job.base_name, out / folder)
        n = count_noun(len(self.examples), "example")
        if baseline.key == TUNED:
            text = f"Then tuned on {n}, as a whole: {baseline.detail}."
            self._write_card(out / folder, title="A composed and tuned adapter", text=text)
        else:
            write_trained_card(
                out / folder,
                title="A trained adapter",
                base_name=self.job.base_name,
                text=f"Trained on {n}: {baseline.detail}.",
                template=self.job.template,
            )
        return with_adapter_at(baseline, folder)

    @property
    def _adapter_facts(self) -> dict[str, Any]:
        """Return what the sentences on the adapter read of a report, before there is one."""
        weights = zip(self.pruning.kept, self.by_module, strict=True)
        return {
            "modules": [{"position": position, "weight": weight} for position, weight in weights],
            "weights_by_layer": self._layer_rows(),
            "is_zero": self.lora.is_zero,
        }

    def _parents(self) -> list[ParentModule]:
        """Return the modules that the composition has a weight for, the heaviest first."""
        parents = [
            ParentModule(
                self.sources[row["position"]].name,
                self.sources[row["position"]].revision,
                row["weight"],
                tuple(copy["name"] for copy in self._copies_of(row["position"])),
            )
            for row in modules_with_weight(self._adapter_facts)
        ]
        return sorted(parents, key=lambda parent: -abs(parent.weight))

    @cached_property
    def licence(self) -> AdapterLicense:
        """Return the license that follows from those of the modules and of the copies they stand for.

        A copy's terms count too: who copied whom is not known.
        """
        stated = {module.name: module.licence for module in self.job.modules}
        names = [name for parent in self._parents() for name in (parent.name, *parent.copies)]
        return license_of({cell(name): stated[name] for name in names})

    def _write_card(self, folder: Path, *, title: str, text: str) -> None:
        """Write the card of an adapter that is made of the modules of the composition."""
        write_card(
            folder,
            title=title,
            base_name=self.job.base_name,
            method=self.job.method,
            parents=self._parents(),
            text=text,
            template=self.job.template,
            licence=self.licence,
        )

    def _card_text(self, out: Path) -> str:
        """Return what was measured and made, in sentences."""
        unchanged = unchanged_text(self._adapter_facts)
        fitted = (
            f"Weights fitted on {count_noun(len(self.examples), 'example')}, where the loss is "
            f"{self._token_mean(self.final_nats):.3f} nats per token "
            f"(the base alone: {self._token_mean(self.base_nats):.3f}). "
            f"Rank {self.lora.rank}, {size_in_words(adapter_bytes(out))}."
        )
        return f"{unchanged} {fitted}".lstrip()

    def _add_row(self, baseline: BaselineResult) -> dict[str, Any]:
        self.rows[baseline.key] = report.baseline_row(baseline, self.held_out)
        return self.rows[baseline.key]

    def _left_out(self) -> tuple[LeftOutLosses | None, LeftOutLosses | None]:
        """Return the left-out losses of the composition and of the best single module; None where unknown."""
        if len(self.examples) < 2:
            return None, None
        by_the_way = (
            self.found.left_out is not None
            and not any(it.depends_on_examples for it in parse_selectors(self.job.select))
            and self.cross_validation.chooses_alike(self.kept)
        )
        is_needed = not (self.held_out or self.job.baselines == "none" or self.found.stopped)
        if not by_the_way and not is_needed:  # then left-out losses are not worth a search for each fold
            return None, None
        return self._judged_without_each()

    def _judged_without_each(self) -> tuple[LeftOutLosses | None, LeftOutLosses | None]:
        """Return the same as `_left_out`, whatever it costs."""
        with self.spent.counted(self.scorer):
            composed = self.cross_validation.composition_nats(self.found.left_out, self.kept)
        tokens = self.scorer.label_tokens
        return left_out_of(composed, tokens), left_out_of(self.cross_validation.single_module_nats(), tokens)

    def _verdict(self) -> Verdict:
        measured = (*self.baselines, self.composed)
        answers = {row.key: row.answers for row in measured if row.answers is not None}
        # without held-out examples each verdict may repeat searches, so there is one when all is known
        needed = ADVISABLE if self.held_out else BASELINE_NAMES
        if missing := [key for key in self.pending if key in needed]:
            return verdict_cut_short(answers, self.held_out, missing)
        if not self.baselines and self.composed.answers is not None:
            return verdict_without_baselines(self.composed.answers, self.held_out)
        if not self.baselines:
            return verdict_without_evidence("No baseline was measured.")
        if self.composed.answers is None:
            return self.verdict_from_shots()
        return verdict_on_held_out(answers, self.held_out, self._best_name())

    def _verdict_row(self) -> dict[str, Any]:
        """Return the verdict as in report.json, with the quality of what it advises and the tokens."""
        tokens = {key: row["prompt_tokens"] for key, row in self.rows.items()}
        quality, cost = self._quality(), question_tokens(tokens, self.verdict.advised)
        return {
            **asdict(self.verdict),
            "quality": quality and asdict(quality),
            "tokens": cost and asdict(cost),
        }

    def _quality(self) -> Quality | None:
        """Return how good the advised row is by itself, or else the composition; None if nothing tells."""
        key = self.verdict.advised or "composed"
        judged = next(row for row in (*self.baselines, self.composed) if row.key == key)
        names = {**BASELINE_NAMES, "composed": "the composition", "best_single": self._best_name()}
        if judged.answers is not None:
            return quality_on_held_out(key, names[key], judged.answers, self.held_out)
        if judged.left_out is not None and len(self.examples) > 1:
            return quality_left_out(key, names[key], judged.left_out)
        return None

    def verdict_from_shots(self) -> Verdict:
        """Return the verdict by the left-out losses of the examples alone."""
        if self.composed.left_out is None:
            return verdict_without_evidence("There are no held-out examples.")
        return verdict_left_out(self.left_out_by_key(), self._best_name())

    def left_out_by_key(self) -> dict[str, LeftOutLosses]:
        """Return the left-out losses of composition and baselines, by key; compute those still missing."""
        known = {r.key: r.left_out for r in (*self.baselines, self.composed)}
        if known["composed"] is None:
            known["composed"], known["best_single"] = self._judged_without_each()
        if known.get("lora_on_shots") is None:
            trained = lora_left_out(self.scorer, self.stack, seed=self.job.seed)
            known["lora_on_shots"] = left_out_of(trained, self.scorer.label_tokens)
        return {key: left_out for key, left_out in known.items() if left_out is not None}

    def _recipe(self) -> dict[str, Any] | None:
        """Return how the prompts of the composition with the examples in its prompt are made, if measured."""
        row = next((row for row in self.baselines if row.key == "composed_in_context"), None)
        return None if row is None or row.recipe is None else dict(row.recipe)

    def _best_name(self) -> str:
        return self.stack.names[int(self.alone.argmin())]

    def _token_mean(self, nats: Tensor) -> float:
        return float(token_mean(nats, self.scorer.label_tokens))

    def _module_rows(self) -> list[dict[str, Any]]:
        """Return the modules of the composition."""
        rows = zip(self.pruning.kept, self.by_module, self.ablation, strict=True)
        return [
            {
                **self._module_facts(position),
                "weight": weight,
                "without_loss_nats": without,
                "copies": self._copies_of(position),
            }
            for position, weight, without in rows
        ]

    def _pruned_rows(self) -> list[dict[str, Any]]:
        """Return the modules that took part in the search and are not in the composition."""
        searched = self.method.by_module(self.found.weights)
        return [
            {
                **self._module_facts(position),
                "weight": weight,
                "loss_change_nats": self.pruning.rises.get(position, 0.0),
                "copies": self._copies_of(position),
            }
            for position, weight in enumerate(searched)
            if position not in self.pruning.kept
        ]

    def _module_facts(self, position: int) -> dict[str, Any]:
        source, alone = self.sources[position], float(self.alone[position])
        return {
            **report.module_name(source),
            "template": source.template,
            "alone_loss_nats": alone if math.isfinite(alone) else None,
        }

    def _copies_of(self, position: int) -> list[dict[str, Any]]:
        """Return the copies of the module at this position of the stack, the most similar first."""
        copies = sorted(
            self.copies[self.kept[position]], key=lambda copy: (-abs(copy.similarity), copy.index)
        )
        return [
            {
                **report.module_name(self.fitting[copy.index]),
                "reason": copy.reason,
                "similarity": round(copy.similarity, 4),
            }
            for copy in copies
        ]

    def _layer_rows(self) -> dict[str, list[float]] | None:
        """Return N coefficients for each layer, by path, or None where all layers share them."""
        by_layer = self.composed_method.by_layer(self.pruning.weights)
        if by_layer is None:
            return None
        return {layer.path: row for layer, row in zip(self.stack.layers, by_layer.tolist(), strict=True)}

    def _predictions(self) -> list[dict[str, Any]]:
        """Return rows with the answers of base model and composition; none if one was not measured."""
        before = next((baseline.answers for baseline in self.baselines if baseline.key == "zero_shot"), None)
        if before is None or self.composed.answers is None:
            return []
        return report.prediction_rows(self.held_out, before, self.composed.answers)


def read_if_fit(source: ModuleSource, base_weights: BaseWeights | None) -> LoraModule | ModuleUnfitError:
    """Return one module of the job, or why it cannot be read or composed."""
    try:
        return read_module(source.folder, source.name, source.template, base_weights=base_weights)
    except ModuleUnfitError as refusal:
        return refusal


def read_search_record(folder: Path) -> SearchRecord:
    """Return the steps and states of an earlier attempt at this job; an empty record if there was none."""
    return read_record(lines_of(folder / "steps.jsonl"))


def adapter_bytes(out: Path) -> int:
    """Return the size of the weights file of the adapter in `out`."""
    return (out / MODULE_FILES[1]).stat().st_size


def lines_of(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file; none if there is no such file."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
