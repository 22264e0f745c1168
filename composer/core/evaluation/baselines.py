"""The baselines that a composition is compared with, and what each of them costs.

They are measured one after the other, on the same base model, examples and held-out examples.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from composer.core.evaluation.in_context_prompts import PromptForm, encode_shown, prompt_forms
from composer.core.evaluation.trained_loras import (
    Start,
    Trained,
    from_loras,
    left_out_at,
    new_loras,
    train_on_examples,
)
from composer.core.evaluation.verdict import LeftOutLosses
from composer.core.methods.base import Adapters, Method, PlainLora, as_adapters, single_modules
from composer.core.methods.registry import make_method
from composer.core.methods.svd import truncate_rank
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.known_answers import KnownQuestions, answer_known
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import ModuleStack
from composer.core.search.dispatch import WeightSearch
from composer.core.search.folds import fold_masks
from composer.core.search.journal import Journal
from composer.core.spec.choices import (
    LABEL_OF_BASELINE,
    LORA_ALPHA_OVER_RANK,
    PUBLISHED_BUDGET,
)
from composer.core.spec.counting import count_noun
from composer.core.spec.errors import ComposeError, ExampleTooLongError
from composer.core.spec.examples import Example
from composer.core.spec.job_spec import JobSpec
from composer.core.spec.training import (
    FIXED_STEPS,
    LORA_RATES,
    TUNED_RANK_MAX,
    TrainingPlan,
    plan_lora,
    plan_tuning,
    steps_on_all,
    words_of_steps,
)

ANSWERS_SHOWN = 200  # of the base alone and of the composition, side by side

Starts = Callable[[bool], Start]  # for the folds, or for all examples

# Nats per label token with examples in the prompt; at 3 the right token has a probability of 5 %. The demo
# world's base never saw such prompts: it stays above 3.7 on every task, though examples often lower its loss
# from 7 or 10.
LONGEST_TRIED = 8  # questions, to see how many examples fit in front of them
LOST_NATS = 3.0
# The mean probability of a whole output with examples in the prompt. A base above it, and above its own
# without them, uses examples, whatever a few outputs do to the mean loss. The demo world's stays below 0.07.
LOST_CHANCE = 0.1


@dataclass
class Cost:
    """What it took to find one baseline or the composition, without answering held-out examples.

    Attributes:
        candidates: scored candidates.
        gradient_steps: gradient steps, one per candidate and step.
        seconds: wall-clock time, rounded to milliseconds.
    """

    candidates: int = 0
    gradient_steps: int = 0
    seconds: float = 0.0

    @contextmanager
    def counted(self, scorer: FewShotScorer | None = None) -> Iterator[None]:
        """Add the seconds inside the context, and the scorer's candidates and gradient steps."""
        started = time.monotonic()
        before = (scorer.candidates_scored, scorer.gradient_steps) if scorer else (0, 0)
        yield
        self.seconds = round(self.seconds + time.monotonic() - started, 3)
        if scorer is not None:
            self.candidates += scorer.candidates_scored - before[0]
            self.gradient_steps += scorer.gradient_steps - before[1]


@dataclass(frozen=True)
class BaselineResult:
    """One baseline, or the composition, and its figures.

    Attributes:
        key: the stable name.
        label: the name in a table.
        detail: one more fact for the reader; may be empty.
        few_shot_loss_nats: in nats per label token; None if not measured or not finite.
        answers: to the held-out examples; None if there are none or nothing was measured. A wrong one that is
            not shown may be only its beginning.
        cost: of finding it.
        left_out: its losses on examples that it was not made from, each left out once; None if unknown.
        prompt_tokens: the mean length of a prompt in tokens; None if unknown.
        recipe: how its prompts are made, for a row with examples in the prompt; see `PromptForm.recipe`.
        lora: the adapter, where it can be downloaded, until it is written.
        adapter: the folder of its files within the result; None if it has none.
    """

    key: str
    label: str
    detail: str
    few_shot_loss_nats: float | None
    answers: Sequence[str] | None
    cost: Cost = field(default_factory=Cost)
    left_out: LeftOutLosses | None = None
    prompt_tokens: float | None = None
    recipe: Mapping[str, Any] | None = None
    lora: PlainLora | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class HeldOutQuestions:
    """The held-out examples as questions.

    Attributes:
        base: the frozen model.
        examples: with their right answers.
        max_new_tokens: the most tokens of one answer.
    """

    base: FrozenBaseModel
    examples: tuple[Example, ...]
    max_new_tokens: int
    _in_template: dict[str, KnownQuestions] = field(default_factory=dict)

    def known(self, template: str | None = None) -> KnownQuestions:
        """Return the questions in a template, that of the composition if None."""
        template = template or self.base.template
        if template not in self._in_template:
            asked = self.base.prompts_and_answers(self.examples, template)
            self._in_template[template] = KnownQuestions(self.base, *asked)
        return self._in_template[template]

    def behind(self, form: PromptForm, shown: Sequence[Example]) -> KnownQuestions:
        """Return the questions behind examples that are shown in this form."""
        return KnownQuestions(
            self.base,
            [form.prompt(shown, example.input) for example in self.examples],
            [replace(own, output=form.answer(own.output, own.input)) for own in self.examples],
            form.end,
            form.after,
        )


@dataclass(frozen=True)
class BaselineComparison:
    """What all baselines are measured on.

    Attributes:
        job: the request.
        scorer: of the n examples.
        method: of the composition; the uniform average uses it too.
        stack: the N chosen modules.
        examples: the n examples as texts.
        questions: the held-out examples; None if there are none.
        best: the index of the module with the lowest few-shot loss alone.
        screened: the cost of the screening, which found that module.
        best_left_out: the losses of the best single module, each on examples left out of its choice.
        lora: the composition as it is exported.
        training_budget: of the search, in scored candidates, by which training is bounded.
        fold_loras: yields the P compositions that the search found without one fold each; none if it made
            none.
        folds_choose_alike: returns whether the other folds choose the same modules for each of these.
        composed: the composition as one candidate.
    """

    job: JobSpec
    scorer: FewShotScorer
    method: Method
    stack: ModuleStack
    examples: Sequence[Example]
    questions: HeldOutQuestions | None
    best: int
    screened: Cost
    best_left_out: LeftOutLosses | None
    lora: PlainLora
    training_budget: int
    fold_loras: Callable[[], Iterator[PlainLora]]
    folds_choose_alike: Callable[[], bool]
    composed: Adapters

    def measurements(self) -> dict[str, Callable[[], BaselineResult]]:
        """Return what measures each baseline, by its key, the cheap ones first."""
        measures: dict[str, Callable[[], BaselineResult]] = {
            "zero_shot": lambda: self.measure_adapters(
                about("zero_shot"), {}, unfitted=True, n_shown=ANSWERS_SHOWN
            ),
            "best_single": self.measure_best_single,
            "uniform": self.measure_uniform,
            "in_context": lambda: in_context(self.scorer, self.examples, self.questions),
        }
        if self.questions is not None:  # without them nothing would tell whether it is the better one
            measures["composed_in_context"] = lambda: in_context(
                self.scorer, self.examples, self.questions, self.composed
            )
        measures |= {"lora_on_shots": self.train_lora, "tuned": self.tune_composition}
        if self.job.baselines == "thorough":
            measures["random_loras"] = self.measure_random_loras
            if self.job.method != "lorahub":
                measures["lorahub"] = self.measure_lorahub
        return measures

    def measure_uniform(self) -> BaselineResult:
        """Measure the average of all modules."""
        adapters = self.method.adapters(uniform_weights(self.method).unsqueeze(0))
        each = f"every weight 1/{len(self.stack)}"
        return self.measure_adapters(about("uniform", each), adapters, unfitted=True)

    def measure_best_single(self) -> BaselineResult:
        """Measure the best module alone at weight 1, with prompts in its own template."""
        alone = self.stack.subset([self.best])
        (name,), (template,) = alone.names, alone.templates
        loss = float(token_mean(self.scorer.nats_of_singles(alone), self.scorer.label_tokens))
        return BaselineResult(
            *about("best_single", name),
            loss if math.isfinite(loss) else None,
            self.answers(single_modules(alone, [0]), template),
            self.screened,
            self.best_left_out,
            self.prompt_tokens(template),
        )

    def measure_adapters(
        self,
        named: tuple[str, str, str],
        adapters: Adapters,
        cost: Cost | None = None,
        *,
        unfitted: bool = False,
        n_shown: int = 0,
    ) -> BaselineResult:
        """Measure a baseline that is one candidate.

        Args:
            named: key, label and detail.
            adapters: the one candidate.
            cost: of finding the candidate; the cost of scoring it once is added.
            unfitted: whether it was made without the examples; then each of them counts as left out.
            n_shown: how many answers shall be whole where they are wrong, from the first.
        """
        cost = cost or Cost()
        with cost.counted(self.scorer):
            nats = self.scorer.nats_of(adapters)[0]
        loss = float(token_mean(nats, self.scorer.label_tokens))
        left_out = left_out_of(nats, self.scorer.label_tokens) if unfitted else None
        return BaselineResult(
            *named,
            loss if math.isfinite(loss) else None,
            self.answers(adapters, n_shown=n_shown),
            cost,
            left_out,
            self.prompt_tokens(),
        )

    def prompt_tokens(self, template: str | None = None) -> float:
        """Return the mean length of a question's prompt in tokens; None is the template of the composition.

        Without held-out examples it is the length of the first example's prompt.
        """
        return mean_prompt_tokens(self.scorer.base, self.questions, self.examples, template)

    def answers(
        self, adapters: Adapters, template: str | None = None, *, n_shown: int = 0
    ) -> Sequence[str] | None:
        """Return the answers of one candidate to the held-out examples; None if there are none.

        Args:
            adapters: the one candidate; {} for the base model alone.
            template: of the prompts; None for that of the composition.
            n_shown: how many answers shall be whole where they are wrong, from the first.
        """
        questions = self.questions
        if questions is None:
            return None
        return answer_known(questions.known(template), questions.max_new_tokens, adapters, n_shown=n_shown)

    def train_lora(self) -> BaselineResult:
        """Train a new LoRA on the examples, for as many steps as left-out examples choose.

        Where the search is too short to pay for that choice, the steps are fixed; then the left-out losses
        are measured only if the verdict needs them, which is without held-out examples.
        """
        scorer, seed, cost = self.scorer, self.job.seed, Cost()
        train_mask = fold_masks(len(self.examples))
        n_fits = len(train_mask)
        plan = plan_lora(self.training_budget, n_fits, scorer.base.n_parameters)
        with cost.counted():
            made = train_on_examples(
                scorer,
                plan,
                train_mask,
                lora_starts(scorer, self.stack, seed=seed, n_fits=n_fits),
                first=1,
                steps_on_all=partial(steps_on_all, n_fits),
            )
            left_out_nats = made.left_out_nats
            if left_out_nats is None and self.questions is None and n_fits > 1:
                left_out_nats = lora_left_out(scorer, self.stack, seed=seed)
                cost.gradient_steps += n_fits * FIXED_STEPS
        left_out = None if left_out_nats is None else left_out_of(left_out_nats, scorer.label_tokens)
        named = about("lora_on_shots", trained_detail(made, plan))
        return self._measure_trained(named, made, cost, left_out)

    def tune_composition(self) -> BaselineResult:
        """Train the composition on, for as many steps as the left-out loss falls; perhaps none.

        It is cut to TUNED_RANK_MAX first. The adapter of each fold starts from the composition that the
        search found without that fold. If the search has none, every fold starts from the composition itself,
        which has seen the left-out example: then too few steps are chosen rather than too many, and
        there is no left-out loss to judge it by.
        """
        scorer, cost = self.scorer, Cost()
        train_mask = fold_masks(len(self.examples))
        n_fits = len(train_mask)
        plan = plan_tuning(self.training_budget, n_fits)
        if not plan.steps:
            return BaselineResult(*about("tuned", f"not tuned: {plan.why}"), None, None, cost)
        rank = min(self.lora.rank, TUNED_RANK_MAX)
        whole = truncate_rank(self.lora, rank)
        folds = [truncate_rank(with_layers_of(whole, lora), rank) for lora in self.fold_loras()]

        def starts(for_folds: bool) -> Start:
            return from_loras((folds or [whole] * n_fits) if for_folds else [whole])

        with cost.counted():
            made = train_on_examples(
                scorer,
                plan,
                train_mask,
                starts,
                first=0,
                steps_on_all=partial(steps_on_all, n_fits),
            )
        if not made.steps:
            detail = f"not tuned: none of {words_of_steps(plan.steps, plan.rates)} lowers the left-out loss"
            spent = replace(cost, gradient_steps=made.gradient_steps, candidates=made.candidates)
            return BaselineResult(*about("tuned", detail), None, None, spent)
        detail = trained_detail(made, plan)
        if whole.energy_kept < self.lora.energy_kept:
            kept = 100 * whole.energy_kept / self.lora.energy_kept
            detail += f", cut from rank {self.lora.rank} ({kept:.1f} % of its energy kept)"
        left_out = None
        is_judged = self.best_left_out is not None  # then the choices without each fold are known already
        if folds and is_judged and made.left_out_nats is not None and self.folds_choose_alike():
            left_out = left_out_of(made.left_out_nats, scorer.label_tokens)
        return self._measure_trained(about("tuned", detail), made, cost, left_out)

    def _measure_trained(
        self, named: tuple[str, str, str], made: Trained, cost: Cost, left_out: LeftOutLosses | None
    ) -> BaselineResult:
        """Measure a trained adapter, which the result then holds."""
        cost.gradient_steps += made.gradient_steps
        cost.candidates += made.candidates
        measured = self.measure_adapters(named, as_adapters(made.lora), cost)
        return replace(measured, left_out=left_out, lora=made.lora)

    def measure_random_loras(self) -> BaselineResult:
        """Run the same search on LoRAs of random numbers, as many and as large as the modules.

        Source: arXiv:2602.12323, where they did about as well as recycled modules.
        """
        stack = random_stack(self.stack, seed=self.job.seed)
        named = about("random_loras", "random numbers of the modules' own sizes")
        return self._measure_searched(named, stack, self.method.name, self.job)

    def measure_lorahub(self) -> BaselineResult:
        """Run LoraHub as published on the same modules, or on the largest group whose factors can be summed.

        If there are several modules and no two agree, the row says why nothing was measured.

        Source: Huang et al., LoraHub, arXiv:2307.13269.
        """
        alike = self.stack.largest_alike()
        stack = self.stack.subset(alike) if len(alike) > 1 else self.stack
        job = replace(self.job, method="lorahub", search="ngopt", objective="loss", budget=PUBLISHED_BUDGET)
        detail = f"product of sums, NGOpt, {PUBLISHED_BUDGET} candidates"
        if len(stack) < len(self.stack):
            detail += f", the {len(stack)} of {len(self.stack)} modules that agree in rank and layers"
        return self._measure_searched(about("lorahub", detail), stack, "lorahub", job)

    def _measure_searched(
        self, named: tuple[str, str, str], stack: ModuleStack, name: str, job: JobSpec
    ) -> BaselineResult:
        cost = Cost()
        scorer = FewShotScorer(self.scorer.base, self.scorer.batch)
        try:
            with cost.counted(scorer):
                method = make_method(name, stack, seed=job.seed)
                needs_alone = job.search in ("auto", "greedy") and name != "lorahub"
                alone = token_mean(scorer.nats_of_parts(stack), scorer.label_tokens) if needs_alone else None
                search = WeightSearch(
                    job,
                    scorer,
                    method,
                    self.examples,
                    [] if alone is None else alone.tolist(),
                    float(token_mean(scorer.nats_of_base(), scorer.label_tokens)),
                )
                found = search.find(Journal(lambda step: None))
                adapters = method.adapters(torch.tensor([found.weights], dtype=torch.float32))
        except ComposeError as reason:
            return BaselineResult(*about(named[0], f"not measured: {reason}"), None, None, cost)
        return self.measure_adapters(named, adapters, cost)


def with_adapter_at(baseline: BaselineResult, folder: str) -> BaselineResult:
    """Return the row once its adapter is written, without the tensors."""
    return replace(baseline, lora=None, adapter=folder)


def mean_prompt_tokens(
    base: FrozenBaseModel,
    questions: HeldOutQuestions | None,
    examples: Sequence[Example],
    template: str | None = None,
) -> float:
    """Return the mean length of a question's prompt in tokens; without questions the first example's.

    Args:
        base: the frozen model.
        questions: the held-out examples; None if there are none.
        examples: at least one.
        template: of the prompts; None for that of the composition.
    """
    if questions is not None:
        return questions.known(template).mean_prompt_tokens
    return mean_length(base, [base.prompt(examples[0].input, template)])


def unmeasured(key: str) -> BaselineResult:
    """Return the row of a baseline for which no time was left."""
    return BaselineResult(*about(key, "not measured: out of time"), None, None)


def about(key: str, detail: str = "") -> tuple[str, str, str]:
    """Return (key, label, detail) of a row."""
    return key, LABEL_OF_BASELINE[key], detail


def with_layers_of(whole: PlainLora, lora: PlainLora) -> PlainLora:
    """Return `lora` on the layers of `whole` only, of which it has all."""
    return replace(lora, factors={path: lora.factors[path] for path in whole.factors})


def trained_detail(made: Trained, plan: TrainingPlan) -> str:
    """Return what the row of a trained adapter says: rank, steps, rate, and how they were chosen."""
    detail = f"rank {made.lora.rank}, {count_noun(made.steps, 'step')} at {made.rate:g}"
    if plan.steps:
        tried = words_of_steps(plan.steps, made.rates_tried)
        detail += (
            f"; without a fold, of at most {tried}, stopping after {made.chosen_step} had the lowest loss on "
            "left-out examples"
        )
        if made.steps != made.chosen_step:
            detail += f", and on all examples {count_noun(made.steps, 'step')} go as far"
    if made.rates_tried and len(made.rates_tried) < len(plan.rates):
        detail += "; only one learning rate tried, for lack of budget"
    return f"{detail}; {plan.why}" if plan.why else detail


def uniform_weights(method: Method) -> Tensor:
    """Return (n_weights,) that give all modules the same coefficient.

    It is 1 / N; for cat it is 1 over the number of modules that change the layer.
    """
    n = len(method.stack)
    if not method.start.any() and method.name == "cat":
        return method.start  # the softmax of zeros
    return torch.full((method.n_weights,), 1 / n)


def random_stack(stack: ModuleStack, *, seed: int) -> ModuleStack:
    """Return a stack of normal random numbers, with the shapes and Frobenius norms of the modules' factors.

    A layer that a module does not change stays zero.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = tuple((like_in_size(A, generator), like_in_size(B_T, generator)) for A, B_T in stack.blocks)
    return replace(stack, names=tuple(f"random {i}" for i in range(len(stack))), blocks=blocks)


def like_in_size(factors: Tensor, generator: torch.Generator) -> Tensor:
    """Return (N, rank, d) random numbers with the zeros and the Frobenius norms of the N `factors`."""
    drawn: Tensor = torch.randn(factors.shape, generator=generator).to(factors.device) * (factors != 0)
    sizes: Tensor = torch.linalg.vector_norm(factors, dim=(1, 2), keepdim=True)
    own_sizes: Tensor = torch.linalg.vector_norm(drawn, dim=(1, 2), keepdim=True)
    return drawn * (sizes / own_sizes.clamp(min=1e-30))


def lora_starts(scorer: FewShotScorer, stack: ModuleStack, *, seed: int, n_fits: int) -> Starts:
    """Return how new LoRAs begin that have the modules' usual rank and their target modules.

    Args:
        scorer: of the examples.
        stack: the modules.
        seed: of the start of A.
        n_fits: how many LoRAs are trained for the folds.
    """

    def starts(for_folds: bool) -> Start:
        return new_loras(
            stack.layers,
            rank=stack.usual_rank,
            scaling=LORA_ALPHA_OVER_RANK,
            seed=seed,
            n_loras=n_fits if for_folds else 1,
            device=scorer.base.device,
        )

    return starts


def lora_left_out(scorer: FewShotScorer, stack: ModuleStack, *, seed: int) -> Tensor:
    """Return (n,) nats of each example, summed over its label tokens, under a LoRA of the other folds."""
    train_mask = fold_masks(len(scorer.batch))
    start = lora_starts(scorer, stack, seed=seed, n_fits=len(train_mask))(True)
    return left_out_at(scorer, start, train_mask, rate=LORA_RATES[-1], steps=FIXED_STEPS)


# --- examples in the prompt ---------------------------------------------------


@dataclass(frozen=True)
class ShownExamples:
    """n examples, each asked behind the others in one form, and without them in the same form.

    Attributes:
        form: how the others are shown.
        n_shown: how many examples fit into a prompt, the first of them; of the others of one as many.
        left_out: the losses of each example behind the others; None for fewer than two examples, a prompt
            beyond the context, or a loss that is not finite.
        bare_nats: (n,) the cross entropy of each example without the others, summed over its label tokens;
            () for a composition, whose row does not tell it.
    """

    form: PromptForm
    n_shown: int
    left_out: LeftOutLosses | None
    bare_nats: tuple[float, ...] = ()

    @property
    def nats(self) -> float:
        """Return the nats of all examples together behind the others; infinity if they are unknown."""
        return math.inf if self.left_out is None else sum(self.left_out.nats)

    @property
    def note(self) -> str:
        """Return what the report says of a base that the others do not help; mostly nothing."""
        if self.left_out is None:
            return ""
        bare = LeftOutLosses(self.bare_nats, self.left_out.label_tokens)
        return in_context_note(
            self.left_out.loss_nats,
            bare.loss_nats,
            chance_of_all(self.left_out.nats),
            chance_of_all(bare.nats),
        )


def in_context(
    scorer: FewShotScorer,
    examples: Sequence[Example],
    questions: HeldOutQuestions | None,
    adapters: Adapters | None = None,
) -> BaselineResult:
    """Measure a model with the examples in front of each question: the base model alone, or a composition.

    Of the forms in which they can be shown, the one is taken with the higher probability of the examples,
    each with the others in its prompt. For the base alone that is its left-out loss; a composition was
    fitted on these examples, so it has none. The detail has the loss of every form.

    Args:
        scorer: of the examples.
        examples: the examples as texts.
        questions: the held-out examples; None if there are none.
        adapters: the one candidate of the composition; None for the base model alone.
    """
    base, cost = scorer.base, Cost()
    key = "in_context" if adapters is None else "composed_in_context"
    with cost.counted():
        forms = prompt_forms(base, examples)
        room = prompt_room(base, examples, questions)
        asked = [example.input for example in (*(questions.examples if questions else ()), *examples)]
        measured = [
            show_others(base, examples, form, adapters or {}, n_that_fit(base, form, examples, asked, room))
            for form in forms
        ]
        chosen = min(measured, key=lambda shown: shown.nats)
        passes = 1 if adapters else 2  # of the base alone each example without the others, too
        cost.candidates = passes * sum(shown.left_out is not None for shown in measured)
    form, shown = chosen.form, examples[: chosen.n_shown]
    if not shown:
        return BaselineResult(
            *about(key, "not even one example fits into the base model's context"), None, None, cost
        )
    known = questions.behind(form, shown) if questions else None
    lengths = known.prompt_lengths if known else [base.prompt_length(form.prompt(shown, examples[0].input))]
    if max(lengths) > room:  # of a question that has more tokens than longer ones
        return BaselineResult(
            *about(key, "the examples do not fit into the base model's context"), None, None, cost
        )
    long = sum(lengths) / len(lengths)
    usual = mean_prompt_tokens(base, questions, examples)
    tokens = f"{count_noun(round(long), 'token')} a question instead of {usual:.0f}"
    answers = answer_known(known, questions.max_new_tokens, adapters or {}) if questions and known else None
    fits = (
        "" if len(shown) == len(examples) else f"{len(shown)} of the {len(examples)} examples, as many as fit"
    )
    detail = "; ".join(part for part in (tokens, fits, forms_note(measured, chosen)) if part)
    recipe = {**form.recipe(shown), "n_shown": len(shown)}
    if adapters is not None:
        return BaselineResult(*about(key, detail), None, answers, cost, None, long, recipe)
    if chosen.note and all(shown.note for shown in measured if shown.left_out is not None):
        detail = f"{detail}; {chosen.note}"
    return BaselineResult(*about(key, detail), None, answers, cost, chosen.left_out, long, recipe)


def forms_note(measured: Sequence[ShownExamples], chosen: ShownExamples) -> str:
    """Return the form that was chosen, and the left-out loss of each form if there are several."""
    if len(measured) == 1 or chosen.left_out is None:
        return chosen.form.about
    losses = [
        f"{shown.form.about} {shown.left_out.loss_nats:.2f}"
        if shown.left_out
        else f"{shown.form.about} unknown"
        for shown in sorted(measured, key=lambda shown: shown is not chosen)
    ]
    return f"{chosen.form.about} (left-out nats per token: {', '.join(losses)})"


def mean_length(base: FrozenBaseModel, prompts: Sequence[str]) -> float:
    """Return the mean length of the prompts in tokens."""
    return sum(map(base.prompt_length, prompts)) / len(prompts)


def prompt_room(
    base: FrozenBaseModel, examples: Sequence[Example], questions: HeldOutQuestions | None
) -> int:
    """Return the most tokens of a prompt that leave room for its answer in the context."""
    of_answers = base.prompt_length(max((example.output for example in examples), key=len))
    return base.context_length() - max(of_answers, questions.max_new_tokens if questions else 0)


def n_that_fit(
    base: FrozenBaseModel, form: PromptForm, examples: Sequence[Example], asked: Sequence[str], room: int
) -> int:
    """Return how many of the examples, from the first on, fit in front of the longest questions.

    Args:
        asked: the inputs of all questions.
        room: in tokens, see `prompt_room`.
    """
    longest = sorted(asked, key=len)[-LONGEST_TRIED:]
    for n in range(len(examples), 0, -1):
        if max(base.prompt_length(form.prompt(examples[:n], text)) for text in longest) <= room:
            return n
    return 0


@torch.no_grad()
def show_others(
    base: FrozenBaseModel,
    examples: Sequence[Example],
    form: PromptForm,
    adapters: Adapters,
    n_shown: int | None = None,
) -> ShownExamples:
    """Score each example behind the others in one form; of the base model alone, without them as well.

    Args:
        base: the base model.
        examples: n examples.
        form: how the others are shown.
        adapters: one candidate; {} for the base model alone.
        n_shown: how many of the examples fit into a prompt; None for all.
    """
    n_shown = len(examples) if n_shown is None else n_shown
    if len(examples) < 2 or not n_shown:
        return ShownExamples(form, n_shown, None)
    losses, bare, tokens = [], [], []
    for i, example in enumerate(examples):
        try:
            batch = encode_shown(base, form, [*examples[:i], *examples[i + 1 :]][:n_shown], example)
        except ExampleTooLongError:
            return ShownExamples(form, n_shown, None)
        losses.append(float(base.token_nats(batch, adapters)))
        if not adapters:
            bare.append(float(base.token_nats(encode_shown(base, form, [], example), {})))
        tokens.append(float(batch.label_tokens.sum()))
    if not math.isfinite(sum(losses)):
        return ShownExamples(form, n_shown, None)
    return ShownExamples(form, n_shown, LeftOutLosses(tuple(losses), tuple(tokens)), tuple(bare))


def chance_of_all(losses: Sequence[float]) -> float:
    """Return the mean probability, 0 to 1, of n whole outputs, from their nats."""
    return sum(math.exp(-nats) for nats in losses) / len(losses)


def in_context_note(shown: float, alone: float, chance: float, chance_alone: float) -> str:
    """Return a sentence if examples in the prompt do not help the base model, else the empty text.

    That it never learned to use examples is said only if they leave it lost: no output is likely, and the
    loss is above LOST_NATS or higher than without them.

    Args:
        shown: the loss with examples in the prompt, in nats per label token.
        alone: the loss without them, in nats per label token.
        chance: the mean probability of a whole output with them, 0 to 1.
        chance_alone: the same without them.
    """
    raised = f"they raise its loss on yours by {shown - alone:.2g} to {shown:.2f} nats per token"
    if chance > LOST_CHANCE:
        is_worse = shown >= alone and chance <= chance_alone
        return f"examples in the prompt do not help this base here: {raised}" if is_worse else ""
    if shown >= alone:
        return f"this base does not learn from examples in the prompt: {raised}"
    if shown <= LOST_NATS:
        return ""
    return (
        "this base does not learn from examples in the prompt: even with some of your examples in its "
        f"prompt, its loss on the others is {shown:.2f} nats per token"
    )


def left_out_of(nats: Tensor, label_tokens: Tensor) -> LeftOutLosses | None:
    """Return the left-out losses of n examples; None if one of them is not finite.

    Args:
        nats: (n,), summed over each example's label tokens.
        label_tokens: (n,).
    """
    if not nats.isfinite().all():
        return None
    return LeftOutLosses(tuple(nats.tolist()), tuple(label_tokens.tolist()))
