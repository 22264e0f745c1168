"""The similarity of a module to a task by text, and of modules to each other by their deltas.

The selector near:K joins both. A base model's hidden states give the vectors of texts, so no other
model is needed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.core.model.base_model import FrozenBaseModel, pad_rows
from composer.core.modules.module_stack import ModuleStack
from composer.core.spec.examples import Example

WINDOW_TOKENS = 256  # tokens of a long text that are read at once
WINDOWS_AT_ONCE = 32


def task_text(examples: Sequence[Example], sentence: str) -> str:
    """Return the task as text: its sentence, if there is one, and every input and output."""
    lines = [sentence] if sentence else []
    return "\n".join([*lines, *(f"{example.input}\n{example.output}" for example in examples)])


def text_similarity(base: FrozenBaseModel, task: str, texts: Sequence[str]) -> list[float]:
    """Return the cosine of each module's text and the task's text, -1 to 1; -1 for a module without a text.

    The mean vector of all texts is subtracted first: the hidden states of a language model lie in a narrow
    cone, where all cosines are near 1.

    Args:
        base: gives the vectors of the texts.
        task: the text of the task.
        texts: N texts of modules.
    """
    given = [i for i, text in enumerate(texts) if text.strip()]
    vectors = text_vectors(base, [task, *(texts[i] for i in given)])
    vectors = vectors - vectors.mean(0)
    cosines = torch.cosine_similarity(vectors[:1], vectors[1:], dim=-1)
    similarity = [-1.0] * len(texts)
    for i, cosine in zip(given, cosines.tolist(), strict=True):
        similarity[i] = cosine
    return similarity


@torch.no_grad()
def text_vectors(base: FrozenBaseModel, texts: Sequence[str]) -> Tensor:
    """Return (n, d): the base model's last hidden state, averaged over all tokens of each of n texts.

    It is the encoder's last hidden state if there is an encoder; d is the hidden size. A long text is read
    in windows of WINDOW_TOKENS tokens, so no part of it is left out.
    """
    windows: list[list[int]] = []
    owners: list[int] = []
    for owner, text in enumerate(texts):
        ids = base.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        length = min(WINDOW_TOKENS, base.context_length())
        cut = [ids[start : start + length] for start in range(0, len(ids), length)]
        windows += cut
        owners += [owner] * len(cut)
    sums = torch.zeros(len(texts), base.model.config.hidden_size)
    counts = torch.zeros(len(texts), 1)
    for start in range(0, len(windows), WINDOWS_AT_ONCE):
        block = slice(start, start + WINDOWS_AT_ONCE)
        states, mask = hidden_states(base, windows[block])
        index = torch.tensor(owners[block])
        sums.index_add_(0, index, (states * mask.unsqueeze(-1)).sum(1))
        counts.index_add_(0, index, mask.sum(1, keepdim=True))
    return sums / counts.clamp(min=1)


def hidden_states(base: FrozenBaseModel, windows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return the last hidden states (n, length, d) and the mask (n, length), 1 where there is no padding.

    Both are fp32 and on the CPU.

    Args:
        base: the frozen model.
        windows: n rows of token ids.
    """
    device = base.device
    mask = pad_rows([[1] * len(ids) for ids in windows], 0)
    inputs = {
        "input_ids": pad_rows(windows, base.tokenizer.pad_token_id).to(device),
        "attention_mask": mask.to(device),
    }
    with base.with_adapters({}, 1):
        if base.is_encoder_decoder:
            states = base.model.get_encoder()(**inputs).last_hidden_state
        else:
            states = base.model(**inputs, output_hidden_states=True, use_cache=False).hidden_states[-1]
    return states.float().cpu(), mask.float()


def delta_similarity(stack: ModuleStack, index: int, others: Sequence[int] | None = None) -> list[float]:
    """Return the cosine of the delta of one module and those of others, over all layers together.

    <ΔWᵢ, ΔWⱼ> = sᵢsⱼ · sum((BᵢᵀBⱼ) ∘ (AᵢAⱼᵀ)) is exact and never makes a ΔW. It is 0 if a delta is zero.

    Args:
        stack: N modules.
        index: of the one module.
        others: indices of the others; None for all N modules in their order, the one itself too.
    """
    chosen = slice(None) if others is None else list(others)
    count = len(stack) if others is None else len(others)
    inner, sizes, size = torch.zeros(count), torch.zeros(count), torch.zeros(())
    for _, all_A, all_B in stack.factors():
        A, B, own_A, own_B = all_A[chosen], all_B[chosen], all_A[index], all_B[index]
        inner += ((B.mT @ own_B) * (A @ own_A.T)).sum((1, 2)).cpu()
        sizes += ((B.mT @ B) * (A @ A.mT)).sum((1, 2)).cpu()
        size += ((own_B.T @ own_B) * (own_A @ own_A.T)).sum().cpu()
    norms = (sizes.clamp(min=0) * size.clamp(min=0)).sqrt().clamp(min=1e-30)
    return (inner / norms).clamp(-1, 1).tolist()  # the scalings are positive, so they cancel
