"""Adapters trained on the examples: a new LoRA, and the composition tuned further.

Trained on five examples, an adapter overfits them; after how many steps differs from task to task and
from base to base. So the number of steps is read off a path. One adapter for each fold is trained without
that fold, all of them side by side, and in every step the loss of each left-out example is recorded, which
costs nothing, because the same forward pass gives it. The learning rate and the number of steps with the
lowest left-out loss are taken, and one adapter is trained so on all examples.

The lowest of many left-out losses is too low by luck. So the left-out loss that is reported is a nested
one: each example is scored at the rate and the steps that the other folds choose. An example has then no
part in the adapter that it is scored under, and none in the choice, except that it helped to train
the adapters by which the other folds chose. To remove that too would take an adapter for every pair of
folds, three times the work.

Letters of shapes: P adapters, n examples, T steps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.core.methods.base import Adapters, OwnFactors, PlainLora
from composer.core.model.base_model import FrozenBaseModel, TokenBatch
from composer.core.model.gradient import nats_and_gradient
from composer.core.model.scorer import FewShotScorer
from composer.core.modules.module_stack import Layer
from composer.core.spec.training import FALL_OVER, FEWEST_TO_JUDGE, PATIENCE, TrainingPlan

Factors = Mapping[str, tuple[Tensor, Tensor]]  # A (P, r, d_in) and B (P, d_out, r), by the path of the layer
OnStep = Callable[[Tensor], bool]  # nats (P, n) of all examples after each step, before the first too


@dataclass(frozen=True)
class Start:
    """P adapters from which a training starts.

    Attributes:
        factors: A (P, r, d_in) and B (P, d_out, r), by the path of the layer.
        scaling: alpha / r, the same in all.
    """

    factors: Factors
    scaling: float

    def candidates(self, factors: Factors) -> Adapters:
        """Return P candidates of these factors; the scaling goes into B."""
        return {path: OwnFactors(A, self.scaling * B) for path, (A, B) in factors.items()}

    def lora(self, factors: Factors) -> PlainLora:
        """Return the one adapter (P = 1) of these factors."""
        one = {path: (A[0], B[0]) for path, (A, B) in factors.items()}
        rank = next(iter(one.values()))[0].shape[0]
        return PlainLora(one, rank, self.scaling * rank)


def new_loras(
    layers: Sequence[Layer], *, rank: int, scaling: float, seed: int, n_loras: int, device: torch.device
) -> Start:
    """Return P new LoRAs, all equal: A uniform within ±1/√d_in and B zero, as in peft."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for layer in layers:
        A = (2 * torch.rand(rank, layer.d_in, generator=generator) - 1) / math.sqrt(layer.d_in)
        B = torch.zeros(n_loras, layer.d_out, rank)
        factors[layer.path] = (A.to(device).repeat(n_loras, 1, 1), B.to(device))
    return Start(factors, scaling)


def from_loras(loras: Sequence[PlainLora]) -> Start:
    """Return a training's start from P adapters of one rank and one alpha."""
    first = loras[0]
    factors = {
        path: (
            torch.stack([lora.factors[path][0] for lora in loras]),
            torch.stack([lora.factors[path][1] for lora in loras]),
        )
        for path in first.factors
    }
    return Start(factors, first.alpha / first.rank)


def train_adapters(
    base: FrozenBaseModel,
    batch: TokenBatch,
    start: Start,
    *,
    rate: float,
    steps: int,
    train_mask: Tensor,
    on_step: OnStep | None = None,
) -> Factors:
    """Train P adapters side by side, each on the examples that its row of `train_mask` has as 1.

    Adam lowers the token-mean cross entropy at a constant rate, so that the adapter after k steps does not
    depend on how many more are planned. The norm of each adapter's gradient is clipped at 1.

    Args:
        base: the frozen model, with hooks on the adapters' layers.
        batch: n examples.
        start: P adapters; they do not change.
        rate: the learning rate.
        steps: the most steps.
        train_mask: (P, n) train masks.
        on_step: called before the first step and after each with the nats (P, n); False ends the training.

    Returns:
        A (P, r, d_in) and B (P, d_out, r) by the path of the layer.
    """
    factors = {path: (A.clone(), B.clone()) for path, (A, B) in start.factors.items()}
    trained = [factor for pair in factors.values() for factor in pair]

    def candidates(rows: Sequence[Tensor]) -> Adapters:
        return start.candidates(dict(zip(factors, zip(rows[::2], rows[1::2], strict=True), strict=True)))

    adam = torch.optim.Adam(trained, lr=rate)
    for _ in range(steps):
        nats, gradients = nats_and_gradient(base, batch, trained, candidates, train_mask)
        if on_step is not None and not on_step(nats):
            return factors
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)  # (P,)
        for factor, gradient in zip(trained, gradients, strict=True):
            factor.grad = gradient / norms.clamp(min=1.0).view(-1, 1, 1)
        adam.step()
    if on_step is not None:
        on_step(nats_of(base, batch, start.candidates(factors), len(train_mask)))
    return factors


@torch.no_grad()
def nats_of(base: FrozenBaseModel, batch: TokenBatch, adapters: Adapters, n_adapters: int) -> Tensor:
    """Return (P, n) nats of n examples under P adapters, summed over each example's label tokens."""
    return base.token_nats(batch, adapters, n_adapters)


@dataclass(frozen=True)
class Path:
    """The left-out losses along one training.

    Attributes:
        rate: the learning rate.
        nats: (T + 1, n): of each example under the adapter that left it out, after 0 to T steps, summed over
            its label tokens.
        is_complete: whether it went to its last step, so that all P adapters were scored once more there.
    """

    rate: float
    nats: Tensor
    is_complete: bool

    @property
    def steps(self) -> int:
        """Return T."""
        return len(self.nats) - 1


def train_path(
    scorer: FewShotScorer,
    start: Start,
    train_mask: Tensor,
    *,
    rate: float,
    steps: int,
    to_beat: float = math.inf,
) -> Path:
    """Train one adapter for each fold, and record the loss of what each left out.

    The path ends early after PATIENCE steps without a lower left-out loss, or where it cannot come below
    `to_beat` any more.

    Args:
        scorer: of the n examples.
        start: P adapters.
        train_mask: (P, n) train masks; every example is left out once.
        rate: the learning rate.
        steps: the most steps.
        to_beat: the lowest left-out loss of another path, in nats, summed over the examples.
    """
    left_out = 1 - train_mask
    rows: list[Tensor] = []
    losses: list[float] = []

    def record(nats: Tensor) -> bool:
        rows.append(torch.where(left_out.bool(), nats, 0.0).sum(0))
        losses.append(float(torch.nan_to_num(rows[-1].sum(), nan=torch.inf)))
        since_lowest = len(losses) - 1 - losses.index(min(losses))
        return since_lowest < PATIENCE and may_come_below(to_beat, losses, steps - (len(losses) - 1))

    train_adapters(
        scorer.base, scorer.batch, start, rate=rate, steps=steps, train_mask=train_mask, on_step=record
    )
    return Path(rate, torch.stack(rows), len(rows) == steps + 1)


def may_come_below(to_beat: float, losses: Sequence[float], steps_left: int) -> bool:
    """Return whether a path comes below another's lowest loss if it keeps falling as it does now.

    It falls slower from here on, so this favors the path. Nothing is said of a path of fewer than
    FEWEST_TO_JUDGE steps, which may still fall faster.
    """
    if len(losses) <= FEWEST_TO_JUDGE:
        return True
    fall_per_step = (losses[-1 - FALL_OVER] - losses[-1]) / FALL_OVER
    return losses[-1] - steps_left * max(0.0, fall_per_step) < to_beat


@dataclass(frozen=True)
class StepChoice:
    """What the left-out losses of some paths choose.

    Attributes:
        path: the number of the path.
        step: how many of its steps.
        loss: the mean left-out loss there, in nats per label token.
    """

    path: int
    step: int
    loss: float


def choose_steps(paths: Sequence[Path], label_tokens: Tensor, mask: Tensor, first: int) -> StepChoice:
    """Return the path and the step with the lowest left-out loss; of equal ones the earliest.

    Args:
        paths: at least one.
        label_tokens: (n,).
        mask: (n,) of 0 and 1; an example at 0 has no say.
        first: the fewest steps that can be chosen.
    """
    best = StepChoice(0, first, math.inf)
    for number, path in enumerate(paths):
        losses = (path.nats * mask).sum(1) / (label_tokens * mask).sum()
        for step, loss in enumerate(losses.tolist()):
            if step >= first and loss < best.loss:
                best = StepChoice(number, step, loss)
    return best


def nested_nats(paths: Sequence[Path], label_tokens: Tensor, train_mask: Tensor, first: int) -> Tensor:
    """Return (n,) nats of each example at the rate and the steps that the other folds choose."""
    nats = torch.empty(train_mask.shape[1])
    for mask in train_mask:
        chosen = choose_steps(paths, label_tokens, mask, first)
        own = (1 - mask).bool()
        nats[own] = paths[chosen.path].nats[chosen.step, own]
    return nats


@dataclass(frozen=True)
class Trained:
    """One adapter that was trained on all examples.

    Attributes:
        lora: the adapter.
        rate: the learning rate.
        rates_tried: those of the paths.
        steps: on all examples.
        chosen_step: of the path; 0 if there was none, or if no step lowers the left-out loss.
        left_out_nats: (n,) nested left-out losses; None if there was no path.
        gradient_steps: of all adapters together.
        candidates: adapters that were scored without a gradient.
    """

    lora: PlainLora
    rate: float
    rates_tried: tuple[float, ...]
    steps: int
    chosen_step: int
    left_out_nats: Tensor | None
    gradient_steps: int
    candidates: int


def left_out_at(
    scorer: FewShotScorer, start: Start, train_mask: Tensor, *, rate: float, steps: int
) -> Tensor:
    """Return (n,) nats of each example under an adapter trained for so many steps without its fold.

    Args: as of `train_path`; nothing is chosen.
    """
    factors = train_adapters(scorer.base, scorer.batch, start, rate=rate, steps=steps, train_mask=train_mask)
    nats = nats_of(scorer.base, scorer.batch, start.candidates(factors), len(train_mask))
    return torch.where(train_mask.bool(), 0.0, nats).sum(0)


def train_on_examples(
    scorer: FewShotScorer,
    plan: TrainingPlan,
    train_mask: Tensor,
    starts: Callable[[bool], Start],
    *,
    first: int,
    steps_on_all: Callable[[int], int],
) -> Trained:
    """Choose the learning rate and the steps by the left-out loss, and train on all examples.

    Args:
        scorer: of the n examples.
        plan: the rates, the most steps of a path, and the most work of all.
        train_mask: (P, n) train masks of the folds.
        starts: returns P starts for the folds if True, one for all examples if False.
        first: the fewest steps that can be chosen; with 0 the adapter may stay as it started.
        steps_on_all: the steps on all examples for the chosen step of a path.
    """
    n_fits = len(train_mask)
    everything = torch.ones(1, train_mask.shape[1])
    paths: list[Path] = []
    to_beat = math.inf
    for rate in plan.rates:
        most = plan.steps_after([path.steps for path in paths], n_fits)
        if not most:
            break
        path = train_path(scorer, starts(True), train_mask, rate=rate, steps=most, to_beat=to_beat)
        paths.append(path)
        chosen = choose_steps(paths, scorer.label_tokens, everything[0], first)
        to_beat = chosen.loss * float(scorer.label_tokens.sum())
    rate, steps, chosen_step, left_out = plan.rates[0], plan.fixed_steps, 0, None
    if paths:
        rate, chosen_step, steps = paths[chosen.path].rate, chosen.step, steps_on_all(chosen.step)
        left_out = nested_nats(paths, scorer.label_tokens, train_mask, first)
    start = starts(False)
    factors = train_adapters(scorer.base, scorer.batch, start, rate=rate, steps=steps, train_mask=everything)
    return Trained(
        start.lora(factors),
        rate,
        tuple(path.rate for path in paths),
        steps,
        chosen_step,
        left_out,
        # a path that ended early computed one gradient more than it took steps
        steps + n_fits * sum(path.steps + (not path.is_complete) for path in paths),
        n_fits * sum(path.is_complete for path in paths),
    )
