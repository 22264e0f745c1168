"""The whole of one composition, from a folder to a folder.

    job.json, examples.jsonl, held_out.jsonl (optional), base/, modules/0/, …
    steps.jsonl (optional: the step events of the same job, cut short before)
        -> out/adapter_config.json, adapter_model.safetensors, README.md, report.json

The command line and the worker's child both call `run`. Importing this module loads
torch, transformers and peft but computes nothing with them: a process that forks after
its first torch computation leaves children that hang in their first backward.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from composer.core import blend, choices, report
from composer.core.base_model import BaseModel
from composer.core.baselines import Exam, Rival, in_context, lora_on_shots, weighted_rivals
from composer.core.combine import ExactSum, Method, PlainLora, ProductOfSums, as_adapters
from composer.core.evaluate import (
    Verdict,
    longest_useful_answer,
    verdict_left_out,
    verdict_on_held_out,
    verdict_without_evidence,
)
from composer.core.examples import read_examples
from composer.core.export import (
    Parent,
    loaded_by_peft,
    require_same_logits,
    searched_logits,
    write_adapter,
    write_card,
)
from composer.core.methods import make_method
from composer.core.module_stack import read_module, stack_modules
from composer.core.objective import (
    LORAHUB_PENALTY,
    FewShotScorer,
    lorahub_objective,
    mean_size,
    token_mean,
)
from composer.core.request import Job, read_job
from composer.core.search import Found, Step, search_greedy, search_nevergrad
from composer.core.select import parse_selectors, select_modules
from composer.core.svd import truncated

OnEvent = Callable[[dict[str, Any]], None]


def run(folder: Path, on_event: OnEvent) -> None:
    """Carry out the job in `folder`; the result is `folder`/out, whole or not there at all.

    Args:
        on_event: told of every stage and step; it may raise to end the job.

    Raises:
        ComposeError: the job cannot be done; its message is for the reader of the page.
    """
    composition = Composition(read_job(folder), on_event)
    composition.load()
    unfinished = folder / "out.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    with composition.base.threads_that_pay():
        composition.screen()
        composition.search()
        composition.export(unfinished)
        composition.evaluate(unfinished)
        composition.report(unfinished)
    shutil.rmtree(folder / "out", ignore_errors=True)
    unfinished.rename(folder / "out")
    on_event({"event": "done"})


@dataclass
class Composition:
    """One run and what it has found so far. The stages are called in the order they stand."""

    job: Job
    on_event: OnEvent
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[None]:
        """Tell that a stage begins, and note how long it took. Nothing is decided by the clock."""
        self.on_event({"event": "stage", "stage": name, "text": text})
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 3)

    def load(self) -> None:
        """Examples, base and modules into memory."""
        job = self.job
        with self.stage("load", f"Loading {job.base_name} and {len(job.modules)} modules"):
            self.shots = read_examples(job.folder / "examples.jsonl", choices.SHOTS_LIMIT)
            held_out = job.folder / "held_out.jsonl"
            self.held_out = read_examples(held_out, choices.HELD_OUT_LIMIT) if held_out.exists() else ()
            self.stack = stack_modules([read_module(source.folder, source.name) for source in job.modules])
            self.base = BaseModel.load(job.base_folder, job.template)
            self.base.require_layers(self.stack.layers)
            self.base.hook(layer.path for layer in self.stack.layers)
            self.scorer = FewShotScorer(self.base, self.base.encode(self.shots))

    def screen(self) -> None:
        """The base alone and every module alone on the shots; then the choice of modules."""
        with self.stage("screen", f"Trying {len(self.stack)} modules one by one"):
            everything = self.stack
            self.base_nats = self.scorer.nats_of_base()
            nats = self.scorer.nats_of_singles(everything)
            alone = torch.nan_to_num(token_mean(nats, self.scorer.label_tokens), nan=torch.inf)
            kept = select_modules(
                parse_selectors(self.job.select), len(everything), seed=self.job.seed, alone=alone.tolist
            )
            self.sources = [self.job.modules[i] for i in kept]
            self.stack = everything.subset(kept)
            self.nats_alone = nats[list(kept)]
            self.alone = alone[list(kept)]
            self.method: Method = make_method(self.job.method, self.stack, seed=self.job.seed)

    def search(self) -> None:
        """Find the weights."""
        with self.stage("search", f"Searching the weights of {len(self.stack)} modules"):
            self.planned = planned_steps(self.job, len(self.shots), len(self.stack))
            self.found = self._found()
            self.weights = torch.tensor([self.found.weights], dtype=torch.float32)
            self.lora = self._lora()
            self.final_nats = self.scorer.nats_of(self.adapters)

    def export(self, out: Path) -> None:
        """Write the adapter and its card."""
        with self.stage("export", "Writing the adapter and loading it again"):
            write_adapter(self.lora, self.base, self.job.base_name, out)
            parents = [
                Parent(source.name, source.revision, weight)
                for source, weight in zip(self.sources, self.found.weights, strict=True)
                if weight != 0
            ]
            write_card(
                out,
                title="A composed adapter",
                base_name=self.job.base_name,
                method=self.job.method,
                parents=sorted(parents, key=lambda parent: -abs(parent.weight)),
                text=f"Weights fitted on {len(self.shots)} examples, where the loss is "
                f"{self._token_mean(self.final_nats):.3f} nats per token "
                f"(the base alone: {self._token_mean(self.base_nats):.3f}).",
            )

    def evaluate(self, out: Path) -> None:
        """Load the written adapter by peft, compare it, and answer the held-out examples."""
        with self.stage("evaluate", f"Checking the adapter on {len(self.held_out)} held-out examples"):
            exam = self._exam()
            self.rivals = self._rivals(exam) if self.job.baselines != "none" else []
            expected = searched_logits(self.base, self.scorer.batch, self.adapters)
            answers = None
            with loaded_by_peft(self.base, out) as wrapped:
                require_same_logits(self.base, wrapped, self.scorer.batch, expected)
                if exam is not None:
                    (answers,) = self.base.answers(exam.prompts, exam.max_new_tokens, {}, wrapped=wrapped)
            loss = self._token_mean(self.final_nats)
            self.composed = Rival("composed", "This composition", "", loss, answers)
            self.verdict = self._verdict()

    def report(self, out: Path) -> None:
        """Write report.json."""
        job, scorer = self.job, self.scorer
        content = {
            "schema": report.SCHEMA,
            "method": job.method,
            "search": job.search,
            "optimizer": self.found.optimizer,
            "select": job.select,
            "objective": "loss",
            "budget": job.budget,
            "seed": job.seed,
            "precision": "fp32",
            "rank": self.lora.rank,
            "energy_kept": self.lora.energy_kept,
            "template": job.template,
            "n_shots": len(self.shots),
            "n_held_out": len(self.held_out),
            "modules": self._module_rows(),
            "few_shot_loss_nats": self.composed.few_shot_loss_nats,
            "objective_value": self._objective_value(),
            "baselines": [report.baseline_row(row, self.held_out) for row in (*self.rivals, self.composed)],
            "verdict": {"decision": self.verdict.decision, "text": self.verdict.text},
            "predictions": self._predictions(),
            "steps": [{"step": s.number, "loss": s.loss, "best_loss": s.best_loss} for s in self.found.steps],
            "candidates_scored": scorer.candidates_scored,
            "gradient_steps": scorer.gradient_steps,
            "seconds": self.seconds,
            "peak_memory_mb": report.peak_memory_mb(),
            "versions": report.versions(),
            "inputs_sha256": report.inputs_sha256(job.folder, job.base_folder),
        }
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        (out / "report.json").write_text(text, encoding="utf-8")

    # --- parts of the stages --------------------------------------------------

    def _found(self) -> Found:
        """The result of the search that was asked for, its steps told as events."""
        job, scorer, method = self.job, self.scorer, self.method
        if isinstance(method, ExactSum) and job.search == "auto":
            return blend.search_blend(
                scorer,
                method,
                alone=self.alone.tolist(),
                nothing=self._token_mean(self.base_nats),
                budget=job.budget,
                on_step=self._on_step,
            )
        if isinstance(method, ExactSum) and job.search == "adam":
            return blend.search_adam(scorer, method, budget=job.budget, on_step=self._on_step)
        if job.search == "greedy":
            return search_greedy(
                lambda weights: token_mean(scorer.nats(method, weights), scorer.label_tokens),
                self.alone.tolist(),
                nothing=self._token_mean(self.base_nats),
                budget=job.budget,
                on_step=self._on_step,
            )
        return search_nevergrad(
            lambda weights: objective_value(scorer, method, weights),
            len(self.stack),
            optimizer=optimizer_name(job.search),
            budget=job.budget,
            bound=choices.WEIGHT_BOUND,
            seed=job.seed,
            recorded=recorded_steps(job.folder),
            on_step=self._on_step,
        )

    def _on_step(self, step: Step) -> None:
        self.on_event(
            {
                "event": "step",
                "step": step.number,
                "budget": max(self.planned, step.number),
                "loss": step.loss,
                "best_loss": step.best_loss,
                "weights": list(step.weights),
            }
        )

    def _lora(self) -> PlainLora:
        """The composed adapter, cut to the rank that was asked for."""
        lora, rank = self.method.lora(self.found.weights), self.job.rank
        if rank is not None and rank < lora.rank:
            lora = truncated(lora, rank)
        # What was cut is scored as it is written; the rest as it was searched, so that they are compared.
        self.adapters = as_adapters(lora) if lora.energy_kept < 1 else self.method.adapters(self.weights)
        return lora

    def _exam(self) -> Exam | None:
        if not self.held_out:
            return None
        prompts = tuple(self.base.prompt(example.input) for example in self.held_out)
        return Exam(prompts, longest_useful_answer(self.held_out, self.job.max_new_tokens))

    def _rivals(self, exam: Exam | None) -> list[Rival]:
        base, batch = self.base, self.scorer.batch
        best = int(self.alone.argmin())
        return [
            *weighted_rivals(base, batch, self.method, self.stack.names, best, exam),
            in_context(base, self.shots, exam),
            lora_on_shots(
                base, batch, self.stack.layers, rank=max(self.stack.ranks), seed=self.job.seed, exam=exam
            ),
        ]

    def _verdict(self) -> Verdict:
        best_name = self.stack.names[int(self.alone.argmin())]
        if not self.rivals:
            return verdict_without_evidence("No baseline was measured.")
        if self.composed.answers is not None:
            answers = {r.key: r.answers for r in (*self.rivals, self.composed) if r.answers is not None}
            return verdict_on_held_out(answers, self.held_out, best_name)
        if len(self.shots) < 2 or not isinstance(self.method, ExactSum):
            return verdict_without_evidence("There are no held-out examples.")
        tokens = self.scorer.label_tokens
        composed = blend.left_out_losses(self.scorer, self.method)
        single = best_single_left_out(self.nats_alone, tokens)
        return verdict_left_out(
            float(composed.sum() / tokens.sum()),
            float(single.sum() / tokens.sum()),
            best_name,
            self._token_mean(self.base_nats),
        )

    def _token_mean(self, nats: Tensor) -> float:
        return float(token_mean(nats, self.scorer.label_tokens))

    def _objective_value(self) -> float:
        return objective_value(self.scorer, self.method, self.found.weights)

    def _module_rows(self) -> list[dict[str, Any]]:
        rows = zip(self.sources, self.found.weights, self.alone.tolist(), strict=True)
        return [
            {
                "name": source.name,
                "revision": source.revision,
                "sha256": source.sha256 or report.file_sha256(source.folder / "adapter_model.safetensors"),
                "weight": weight,
                "alone_loss_nats": alone if math.isfinite(alone) else None,
            }
            for source, weight, alone in rows
        ]

    def _predictions(self) -> list[dict[str, Any]]:
        """Side by side with the base alone, where that was measured."""
        before = next((rival.answers for rival in self.rivals if rival.key == "zero_shot"), None)
        if before is None or self.composed.answers is None:
            return []
        return report.prediction_rows(self.held_out, before, self.composed.answers)


def objective_value(scorer: FewShotScorer, method: Method, weights: Sequence[float]) -> float:
    """What the search lowers: LoraHub's own objective for its own method, else cross entropy plus a pull."""
    if isinstance(method, ProductOfSums):
        return lorahub_objective(scorer, method, weights)
    w = torch.tensor([weights], dtype=torch.float32)
    return float(token_mean(scorer.nats(method, w), scorer.label_tokens) + LORAHUB_PENALTY * mean_size(w))


def recorded_steps(folder: Path) -> list[Step]:
    """The steps that an earlier attempt at this job told of, in order."""
    path = folder / "steps.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    events = [json.loads(line) for line in lines]
    return [Step(e["step"], tuple(e["weights"]), e["loss"], e["best_loss"]) for e in events]


def optimizer_name(search: str) -> str:
    """nevergrad's name for a search without gradients."""
    return choices.OPTIMIZER_OF_SEARCH.get(search) or search.removeprefix(choices.NEVERGRAD)


def planned_steps(job: Job, n_shots: int, n_modules: int) -> int:
    """How many steps the search will tell of, as far as one can know before."""
    if job.method == "exact" and job.search == "auto":
        return blend.planned_steps(job.budget, n_shots, n_modules)
    if job.method == "exact" and job.search == "adam":
        return blend.adam_steps(job.budget)
    return job.budget if job.search != "greedy" else 1


def best_single_left_out(nats: Tensor, label_tokens: Tensor) -> Tensor:
    """(n,) nats: each example under the module that is best alone on the other n - 1."""
    n = nats.shape[1]
    others = 1 - torch.eye(n)
    means = torch.stack([token_mean(nats, label_tokens, others[i]) for i in range(n)])  # (n, N)
    chosen = torch.nan_to_num(means, nan=torch.inf).argmin(-1)
    return nats[chosen, torch.arange(n)]
