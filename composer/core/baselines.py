"""What a composition has to beat: the rivals it is always shown beside."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.core.base_model import MAX_TOKENS, BaseModel, TokenBatch
from composer.core.combine import Adapters, Method, PlainLora, as_adapters
from composer.core.examples import Example
from composer.core.module_stack import Layer
from composer.core.objective import token_mean

LORA_STEPS = 40  # on the shots as one batch; more of them learn the shots by heart
LORA_LEARNING_RATE = 5e-3
LORA_ALPHA_OVER_RANK = 2.0  # as most published modules have it


@dataclass(frozen=True)
class Rival:
    """One baseline and what was measured of it; None where there was nothing to measure."""

    key: str
    label: str
    detail: str
    few_shot_loss_nats: float | None
    answers: Sequence[str] | None


@dataclass(frozen=True)
class Exam:
    """The held-out questions, as the base model reads them."""

    prompts: tuple[str, ...]
    max_new_tokens: int


def weighted_rivals(
    base: BaseModel, batch: TokenBatch, method: Method, names: Sequence[str], best: int, exam: Exam | None
) -> list[Rival]:
    """The base alone, the best single module and the uniform average, in one batch.

    Args:
        best: the index of the module with the lowest few-shot loss alone.
    """
    n = len(names)
    single = torch.zeros(n)
    single[best] = 1.0
    weights = torch.stack([torch.zeros(n), single, torch.full((n,), 1 / n)])
    adapters = method.adapters(weights)
    with torch.no_grad():
        losses = token_mean(base.token_nats(batch, adapters, len(weights)), batch.label_tokens).tolist()
    answers: Sequence[Sequence[str] | None] = [None] * len(weights)
    if exam is not None:
        answers = base.answers(exam.prompts, exam.max_new_tokens, adapters, len(weights))
    described = (
        ("zero_shot", "Base alone", ""),
        ("best_single", "Best single module", names[best]),
        ("uniform", "Uniform average", f"every weight 1/{n}"),
    )
    return [
        Rival(*about, loss if math.isfinite(loss) else None, own)
        for about, loss, own in zip(described, losses, answers, strict=True)
    ]


def lora_on_shots(
    base: BaseModel, batch: TokenBatch, layers: Sequence[Layer], *, rank: int, seed: int, exam: Exam | None
) -> Rival:
    """A new LoRA of the modules' own rank and targets, trained on the same examples."""
    adapters = train_lora(base, batch, layers, rank=rank, seed=seed)
    with torch.no_grad():
        loss = float(token_mean(base.token_nats(batch, adapters), batch.label_tokens))
    answers = base.answers(exam.prompts, exam.max_new_tokens, adapters)[0] if exam else None
    detail = f"rank {rank}, {LORA_STEPS} steps at {LORA_LEARNING_RATE:g}"
    return Rival(
        "lora_on_shots",
        "LoRA trained on the examples",
        detail,
        loss if math.isfinite(loss) else None,
        answers,
    )


def train_lora(
    base: BaseModel, batch: TokenBatch, layers: Sequence[Layer], *, rank: int, seed: int
) -> Adapters:
    """Adam on the token-mean cross entropy, the rate falling linearly to zero, gradients clipped at 1.

    A starts uniform within ±1/√d_in and B at zero, as in peft.
    """
    generator = torch.Generator().manual_seed(seed)
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for layer in layers:
        A = (2 * torch.rand(rank, layer.d_in, generator=generator) - 1) / math.sqrt(layer.d_in)
        factors[layer.path] = (A.requires_grad_(), torch.zeros(layer.d_out, rank, requires_grad=True))
    lora = PlainLora(factors, rank=rank, alpha=LORA_ALPHA_OVER_RANK * rank)
    trained = [factor for pair in factors.values() for factor in pair]
    adam = torch.optim.Adam(trained, lr=LORA_LEARNING_RATE)
    for step in range(LORA_STEPS):
        adam.param_groups[0]["lr"] = LORA_LEARNING_RATE * (1 - step / LORA_STEPS)
        loss = token_mean(base.token_nats(batch, as_adapters(lora)), batch.label_tokens).sum()
        gradients = torch.autograd.grad(loss, trained)
        for factor, gradient in zip(trained, gradients, strict=True):
            factor.grad = gradient
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adam.step()
    for factor in trained:
        factor.requires_grad_(False)
    return as_adapters(lora)


def in_context(base: BaseModel, shots: Sequence[Example], exam: Exam | None) -> Rival:
    """The base alone, shown the same examples before each question; it costs tokens every time.

    It has no few-shot loss: the examples it would be scored on stand in its prompt.
    """
    shown = "".join(f"{base.prompt(shot.input)}\n{shot.output}\n\n" for shot in shots)
    key, label = "in_context", "Examples in the prompt"
    if exam is None:
        return Rival(key, label, "", None, None)
    prompts = [shown + prompt for prompt in exam.prompts]
    lengths = [base.prompt_length(prompt) for prompt in prompts]
    if max(lengths) + exam.max_new_tokens > min(MAX_TOKENS, base.context_length()):
        return Rival(key, label, "the examples do not fit the base model's context", None, None)
    bare = sum(map(base.prompt_length, exam.prompts)) / len(prompts)
    detail = f"{sum(lengths) / len(lengths):.0f} tokens a question instead of {bare:.0f}"
    return Rival(key, label, detail, None, base.answers(prompts, exam.max_new_tokens, {})[0])
