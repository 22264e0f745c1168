"""The whole of one composition, from a folder to a folder.

    job.json, examples.jsonl, held_out.jsonl (optional), base/, modules/0/, …
        -> out/adapter_config.json, adapter_model.safetensors, README.md, report.json

The command line and the worker's child both call `run`. Importing this module loads
torch, transformers and peft but computes nothing with them: a process that forks after
its first torch computation leaves children that hang in their first backward.
"""

import hashlib
import importlib.metadata
import json
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from composer.core import blend, choices
from composer.core.base_model import ROWS_AT_ONCE, BaseModel
from composer.core.combine import METHODS, Adapters, ExactSum, Method, ProductOfSums, single_modules
from composer.core.errors import InvalidJobError
from composer.core.evaluate import (
    Accuracy,
    Verdict,
    accuracy,
    is_exact_match,
    is_reference_match,
    longest_useful_answer,
    verdict_left_out,
    verdict_on_held_out,
)
from composer.core.examples import Example, read_examples
from composer.core.export import (
    Parent,
    loaded_by_peft,
    require_same_logits,
    searched_logits,
    write_adapter,
    write_card,
)
from composer.core.module_stack import read_module, stack_modules
from composer.core.objective import (
    LORAHUB_PENALTY,
    FewShotScorer,
    lorahub_loss,
    lorahub_objective,
    mean_size,
    token_mean,
)
from composer.core.search import Found, Step, search_greedy, search_nevergrad
from composer.core.select import parse_selectors, select_modules

OnEvent = Callable[[dict[str, Any]], None]

REPORT_SCHEMA = 1
PREDICTIONS_SHOWN = 200


@dataclass(frozen=True)
class ModuleSource:
    """Where one module lies, and what it is called."""

    name: str
    folder: Path
    revision: str
    sha256: str


@dataclass(frozen=True)
class Job:
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


def run(folder: Path, on_event: OnEvent) -> None:
    """Carry out the job in `folder`; the result is `folder`/out, whole or not there at all.

    Args:
        on_event: told of every stage and step; it may raise to end the job.

    Raises:
        ComposeError: the job cannot be done; its message is for the reader of the page.
    """
    torch.manual_seed(0)  # nothing here draws from it; a library that does shall do it the same way each time
    job = read_job(folder)
    composition = Composition(job, on_event)
    composition.load()
    composition.screen()
    composition.search()
    unfinished = folder / "out.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    composition.export(unfinished)
    composition.evaluate(unfinished)
    composition.report(unfinished)
    shutil.rmtree(folder / "out", ignore_errors=True)
    unfinished.rename(folder / "out")
    on_event({"event": "done"})


# --- what was asked -----------------------------------------------------------


def read_job(folder: Path) -> Job:
    """Read and check job.json.

    Raises:
        InvalidJobError: a value is missing, unknown or out of range; the message names it.
    """
    try:
        asked = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidJobError("job.json is missing or not JSON.") from error
    method = one_of(asked, "method", choices.names(choices.METHODS), choices.DEFAULT_METHOD)
    one_of(asked, "objective", choices.names(choices.OBJECTIVES), "loss")
    one_of(asked, "precision", ("auto", *choices.names(choices.PRECISIONS)), "fp32")
    one_of(asked, "device", ("auto", "cpu"), "cpu")
    template = asked.get("template") or choices.DEFAULT_TEMPLATE
    if not isinstance(template, str) or "{input}" not in template:
        raise InvalidJobError("The template must contain {input}, where the example's input goes.")
    select = str(asked.get("select") or "all")
    parse_selectors(select)
    base = asked.get("base") or {}
    return Job(
        folder=folder,
        base_folder=folder / base.get("folder", "base"),
        base_name=str(base.get("name") or "base"),
        base_revision=str(base.get("revision") or ""),
        modules=tuple(module_source(folder, row) for row in asked.get("modules") or ()),
        method=method,
        search=one_of(asked, "search", choices.SEARCHES_OF_METHOD[method], "auto"),
        select=select,
        budget=whole_number(asked, "budget", choices.BUDGET_OF_METHOD[method], choices.BUDGET_LIMIT),
        seed=whole_number(asked, "seed", choices.DEFAULT_SEED, 2**32 - 1, lowest=0),
        template=template,
        max_new_tokens=whole_number(
            asked, "max_new_tokens", choices.DEFAULT_MAX_NEW_TOKENS, choices.MAX_NEW_TOKENS_LIMIT
        ),
        baselines=one_of(asked, "baselines", choices.names(choices.BASELINES), "always"),
    )


def module_source(folder: Path, row: Mapping[str, Any]) -> ModuleSource:
    """One line of job.json's "modules"; `folder` may be relative to the job's."""
    return ModuleSource(
        name=str(row["name"]),
        folder=folder / row["folder"],
        revision=str(row.get("revision") or ""),
        sha256=str(row.get("sha256") or ""),
    )


def one_of(asked: Mapping[str, Any], key: str, allowed: Sequence[str], default: str) -> str:
    """The chosen name, if there is such a choice."""
    value = asked.get(key) or default
    if value not in allowed:
        raise InvalidJobError(f"{key} is {value!r}. Choose one of {', '.join(allowed)}.")
    return str(value)


def whole_number(asked: Mapping[str, Any], key: str, default: int, highest: int, *, lowest: int = 1) -> int:
    """The number, if it is whole and within its bounds; null means the default."""
    value = asked.get(key)
    if value is None:
        return default
    if type(value) is not int or not lowest <= value <= highest:
        raise InvalidJobError(f"{key} must be a whole number from {lowest} to {highest}.")
    return value


# --- how it is done -----------------------------------------------------------


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
            self.method: Method = METHODS[self.job.method](self.stack)

    def search(self) -> None:
        """Find the weights."""
        with self.stage("search", f"Searching the weights of {len(self.stack)} modules"):
            self.found = search_weights(self)
            self.weights = torch.tensor([self.found.weights], dtype=torch.float32)
            self.few_shot = self._few_shot_loss(self.weights)

    def export(self, out: Path) -> None:
        """Write the adapter and its card."""
        with self.stage("export", "Writing the adapter and loading it again"):
            write_adapter(self.method.lora(self.found.weights), self.base, self.job.base_name, out)
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
                f"{self.few_shot:.3f} nats per token "
                f"(the base alone: {self._token_mean(self.base_nats):.3f}).",
            )

    def evaluate(self, out: Path) -> None:
        """Load the written adapter by peft, compare it, and answer the held-out examples."""
        with self.stage("evaluate", f"Checking the adapter on {len(self.held_out)} held-out examples"):
            self.rivals = self._rivals() if self.job.baselines != "none" else []
            self.answers = self._rival_answers() if self.held_out else {}
            expected = searched_logits(self.base, self.scorer.batch, self.method.adapters(self.weights))
            with loaded_by_peft(self.base, out) as wrapped:
                require_same_logits(self.base, wrapped, self.scorer.batch, expected)
                if self.held_out:
                    (self.answers["composed"],) = self.base.answers(
                        self._questions(), self._answer_length(), {}, wrapped=wrapped
                    )
            self.accuracies = {key: accuracy(answers, self.held_out) for key, answers in self.answers.items()}
            self.verdict = self._verdict()

    # --- rivals ---

    def _rivals(self) -> list[tuple[str, str, str, Tensor]]:
        """(key, label, detail, weights (1, N)) of what the composition has to beat."""
        n = len(self.stack)
        best = int(self.alone.argmin())
        single = torch.zeros(1, n)
        single[0, best] = 1.0
        return [
            ("zero_shot", "Base alone", "", torch.zeros(1, n)),
            ("best_single", "Best single module", self.stack.names[best], single),
            ("uniform", "Uniform average", f"every weight 1/{n}", torch.full((1, n), 1 / n)),
        ]

    def _rival_answers(self) -> dict[str, list[str]]:
        """The rivals' answers, all in one batch; at least the base's, which is shown beside ours."""
        keys = [key for key, *_ in self.rivals] or ["zero_shot"]
        weights = [weights for *_, weights in self.rivals] or [torch.zeros_like(self.weights)]
        adapters = self.method.adapters(torch.cat(weights))
        answers = self.base.answers(self._questions(), self._answer_length(), adapters, len(keys))
        return dict(zip(keys, answers, strict=True))

    def _questions(self) -> list[str]:
        return [example.input for example in self.held_out]

    def _answer_length(self) -> int:
        return longest_useful_answer(self.held_out, self.job.max_new_tokens)

    def _few_shot_loss(self, weights: Tensor) -> float:
        return self._token_mean(self.scorer.nats(self.method, weights))

    def _token_mean(self, nats: Tensor) -> float:
        return float(token_mean(nats, self.scorer.label_tokens))

    def _verdict(self) -> Verdict:
        if not self.rivals:
            return Verdict("none", "No baseline was measured, so nothing can be said about a gain.")
        best = int(self.alone.argmin())
        if self.held_out:
            return verdict_on_held_out(self.answers, self.held_out, self.stack.names[best])
        if len(self.shots) < 2 or not isinstance(self.method, ExactSum):
            return Verdict(
                "none",
                "There are no held-out examples, and the examples the weights were fitted on prove nothing. "
                "Add some held-out examples to know whether this adapter helps.",
            )
        tokens = self.scorer.label_tokens
        composed = blend.left_out_losses(self.scorer, self.method)
        return verdict_left_out(
            float(composed.sum() / tokens.sum()),
            float(best_single_left_out(self.nats_alone, tokens).sum() / tokens.sum()),
            self.stack.names[best],
            self._token_mean(self.base_nats),
        )

    # --- the report ---

    def report(self, out: Path) -> None:
        """Write report.json, schema 1; docs/core/report.md describes every field."""
        job = self.job
        report = {
            "schema": REPORT_SCHEMA,
            "method": job.method,
            "search": job.search,
            "optimizer": self.found.optimizer,
            "select": job.select,
            "objective": "loss",
            "budget": job.budget,
            "seed": job.seed,
            "precision": "fp32",
            "template": job.template,
            "n_shots": len(self.shots),
            "n_held_out": len(self.held_out),
            "modules": [
                {
                    "name": source.name,
                    "revision": source.revision,
                    "sha256": source.sha256 or file_sha256(source.folder / "adapter_model.safetensors"),
                    "weight": weight,
                    "alone_loss_nats": number_or_none(alone),
                }
                for source, weight, alone in zip(
                    self.sources, self.found.weights, self.alone.tolist(), strict=True
                )
            ],
            "few_shot_loss_nats": self.few_shot,
            "objective_value": self._objective_value(),
            "baselines": self._baseline_rows(),
            "verdict": {"decision": self.verdict.decision, "text": self.verdict.text},
            "predictions": self._predictions(),
            "steps": [{"step": s.number, "loss": s.loss, "best_loss": s.best_loss} for s in self.found.steps],
            "candidates_scored": self.scorer.candidates_scored,
            "gradient_steps": self.scorer.gradient_steps,
            "seconds": self.seconds,
            "peak_memory_mb": peak_memory_mb(),
            "versions": versions(),
            "inputs_sha256": self._inputs_sha256(),
        }
        text = json.dumps(report, indent=2, allow_nan=False) + "\n"
        (out / "report.json").write_text(text, encoding="utf-8")

    def _objective_value(self) -> float:
        nats = self.scorer.nats(self.method, self.weights)
        lorahub = isinstance(self.method, ProductOfSums)
        loss = (lorahub_loss if lorahub else token_mean)(nats, self.scorer.label_tokens)
        return float(loss + LORAHUB_PENALTY * mean_size(self.weights))

    def _baseline_rows(self) -> list[dict[str, Any]]:
        losses = {key: self._few_shot_loss(weights) for key, _, _, weights in self.rivals}
        rows = [(key, label, detail, losses[key]) for key, label, detail, _ in self.rivals]
        rows.append(("composed", "This composition", "", self.few_shot))
        return [
            {
                "key": key,
                "label": label,
                "few_shot_loss_nats": number_or_none(loss),
                **accuracy_fields(self.accuracies.get(key)),
                "detail": detail,
            }
            for key, label, detail, loss in rows
        ]

    def _predictions(self) -> list[dict[str, Any]]:
        if not self.held_out:
            return []
        rows = zip(self.held_out, self.answers["zero_shot"], self.answers["composed"], strict=True)
        return [
            {
                "input": example.input,
                "expected": example.output,
                "base": base,
                "composed": composed,
                "correct": is_exact_match(composed, example.output),
            }
            for example, base, composed in list(rows)[:PREDICTIONS_SHOWN]
        ]

    def _inputs_sha256(self) -> dict[str, str]:
        job = self.job
        files = [job.folder / "examples.jsonl", job.folder / "held_out.jsonl"]
        found = {path.name: file_sha256(path) for path in files if path.exists()}
        for path in sorted(job.base_folder.glob("*.safetensors")):
            found[f"base/{path.name}"] = file_sha256(path)
        return found


def search_weights(run: Composition) -> Found:
    """The search that was asked for, with its steps told as events."""
    job, scorer, method = run.job, run.scorer, run.method
    planned = planned_steps(job)

    def on_step(step: Step) -> None:
        run.on_event(
            {
                "event": "step",
                "step": step.number,
                "budget": max(planned, step.number),
                "loss": step.loss,
                "best_loss": step.best_loss,
                "weights": list(step.weights),
            }
        )

    if isinstance(method, ExactSum) and job.search == "auto":
        return blend.search_blend(scorer, method, budget=job.budget, on_step=on_step)
    if isinstance(method, ExactSum) and job.search == "adam":
        return blend.search_adam(scorer, method, budget=job.budget, on_step=on_step)
    if job.search == "greedy":
        return search_greedy(
            lambda weights: token_mean(scorer.nats(method, weights), scorer.label_tokens),
            run.alone.tolist(),
            nothing=float(token_mean(run.base_nats, scorer.label_tokens)),
            budget=job.budget,
            on_step=on_step,
        )
    return search_nevergrad(
        lambda weights: nevergrad_score(scorer, method, weights),
        len(run.stack),
        budget=job.budget,
        bound=choices.WEIGHT_BOUND,
        seed=job.seed,
        on_step=on_step,
    )


def nevergrad_score(scorer: FewShotScorer, method: Method, weights: Sequence[float]) -> float:
    """LoraHub's own objective for its own method; the plain cross entropy per token for the exact sum."""
    if isinstance(method, ProductOfSums):
        return lorahub_objective(scorer, method, weights)
    w = torch.tensor([weights], dtype=torch.float32)
    return float(token_mean(scorer.nats(method, w), scorer.label_tokens) + LORAHUB_PENALTY * mean_size(w))


def planned_steps(job: Job) -> int:
    """How many steps the search will tell of, as far as one can know before."""
    if job.method == "exact" and job.search in ("auto", "adam"):
        return blend.steps_within(job.budget)
    return job.budget if job.search != "greedy" else 1


def best_single_left_out(nats: Tensor, label_tokens: Tensor) -> Tensor:
    """(n,) nats: each example under the module that is best alone on the other n - 1."""
    n = nats.shape[1]
    others = 1 - torch.eye(n)
    means = torch.stack([token_mean(nats, label_tokens, others[i]) for i in range(n)])  # (n, N)
    chosen = torch.nan_to_num(means, nan=torch.inf).argmin(-1)
    return nats[chosen, torch.arange(n)]


# --- facts about the run ------------------------------------------------------


def accuracy_fields(found: Accuracy | None) -> dict[str, Any]:
    """Percent and interval for a row of the report; null where nothing was measured."""
    if found is None:
        return {"held_out_exact_match_percent": None, "interval_percent": None}
    return {
        "held_out_exact_match_percent": round(found.percent, 2),
        "interval_percent": [round(bound, 2) for bound in found.interval_percent],
    }


def number_or_none(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return value if torch.isfinite(torch.tensor(value)) else None


def peak_memory_mb() -> int:
    """The most memory this process ever held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)


def versions() -> dict[str, str]:
    """What computed this; the same versions, threads and machine type give the same bytes."""
    packages = ("torch", "transformers", "peft", "safetensors", "nevergrad", "numpy")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- scoring an adapter by itself ---------------------------------------------


def evaluate_adapter(
    *,
    base_folder: Path,
    adapter_folder: Path | None,
    examples_file: Path,
    template: str = choices.DEFAULT_TEMPLATE,
    max_new_tokens: int = choices.DEFAULT_MAX_NEW_TOKENS,
) -> dict[str, float | int]:
    """Figures of a base model on examples, with or without an adapter.

    Returns:
        n, exact_match_percent (strict, greedy), reference_match_percent (as the released
        LoraHub counts) and loss_nats_per_token.
    """
    if "{input}" not in template:
        raise InvalidJobError("The template must contain {input}, where the example's input goes.")
    examples = read_examples(examples_file, choices.HELD_OUT_LIMIT)
    base = BaseModel.load(base_folder, template)
    adapters: Adapters = {}
    if adapter_folder is not None:
        stack = stack_modules([read_module(adapter_folder, adapter_folder.name)])
        base.require_layers(stack.layers)
        base.hook(layer.path for layer in stack.layers)
        adapters = single_modules(stack, [0])
    length = longest_useful_answer(examples, max_new_tokens)
    (answers,) = base.answers([example.input for example in examples], length, adapters)
    nats, tokens = score_examples(base, examples, adapters)
    reference = [is_reference_match(a, e.output) for a, e in zip(answers, examples, strict=True)]
    return {
        "n": len(examples),
        "exact_match_percent": accuracy(answers, examples).percent,
        "reference_match_percent": 100 * sum(reference) / len(examples),
        "loss_nats_per_token": nats / tokens,
    }


@torch.no_grad()
def score_examples(base: BaseModel, examples: Sequence[Example], adapters: Adapters) -> tuple[float, int]:
    """(nats, label tokens) summed over all examples, some at a time."""
    nats, tokens = 0.0, 0
    for start in range(0, len(examples), ROWS_AT_ONCE):
        batch = base.encode(examples[start : start + ROWS_AT_ONCE])
        nats += float(base.token_nats(batch, adapters).sum())
        tokens += int(batch.label_tokens.sum())
    return nats, tokens
