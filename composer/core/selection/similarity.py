"""How near a module is to a task by its text, and to another module by what it changes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.core.model.base_model import FrozenBaseModel, pad_rows
from composer.core.modules.module_stack import ModuleStack
from composer.core.spec.examples import Example

WINDOW_TOKENS = 256  # a text is read whole, so many tokens at a time
WINDOWS_AT_ONCE = 32


def task_text(examples: Sequence[Example], sentence: str) -> str:
    """What is known of the task in words: its sentence, if it has one, and every example."""
    lines = [sentence] if sentence else []
    return "\n".join([*lines, *(f"{example.input}\n{example.output}" for example in examples)])


def text_similarity(base: FrozenBaseModel, task: str, texts: Sequence[str]) -> list[float]:
    """The cosine, from -1 to 1, of each module's text to the task's; -1 for a module without a text.

    What all texts have in common, their mean, is taken off first: the hidden states of a language
    model lie in a narrow cone, where everything seems alike.
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
    """(n, d): the base's last hidden state, the encoder's if it has one, averaged over all tokens of a text.

    A long text is read in windows; no part of it is left out.
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
    """(n, length, d) and the (n, length) mask of what is no padding, fp32, on the CPU."""
    device = base.device
    mask = pad_rows([[1] * len(ids) for ids in windows], 0)
    inputs = {
        "input_ids": pad_rows(windows, base.tokenizer.pad_token_id).to(device),
        "attention_mask": mask.to(device),
    }
    with base.using({}, 1):
        if base.is_encoder_decoder:
            states = base.model.get_encoder()(**inputs).last_hidden_state
        else:
            states = base.model(**inputs, output_hidden_states=True, use_cache=False).hidden_states[-1]
    return states.float().cpu(), mask.float()


def delta_similarity(stack: ModuleStack, index: int) -> list[float]:
    """The cosine of every module's ΔW, all layers together, to that of the module at `index`.

    <ΔWᵢ, ΔWⱼ> = sᵢsⱼ · sum((BᵢᵀBⱼ) ∘ (AᵢAⱼᵀ)): exact, and no ΔW is ever made. It is what the
    Hub's 256-number sketches of modules estimate.
    """
    inner, own = torch.zeros(len(stack)), torch.zeros(len(stack))
    for _, A, B in stack.factors():
        inner += (
            (torch.einsum("nor,os->nrs", B, B[index]) * torch.einsum("nri,si->nrs", A, A[index]))
            .sum((1, 2))
            .cpu()
        )
        own += ((B.mT @ B) * (A @ A.mT)).sum((1, 2)).cpu()
    sizes = (stack.scalings.cpu() * own.clamp(min=0).sqrt()).clamp(min=1e-30)
    scalings = stack.scalings.cpu()
    return (scalings * scalings[index] * inner / (sizes * sizes[index])).tolist()
