"""Answers of a base that stays in memory, with and without an adapter on it.

Nothing of an adapter may outlive its answer: only its A and B factors are ever read, hooks add what
they say and forget it, and between two adapters the base's own tensors are held against their hash.
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from composer.core.methods.base import Adapters, single_modules
from composer.core.model.base_model import FrozenBaseModel
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.spec.errors import BaseChangedError, ExampleTooLongError, PromptTooLongError


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    `is_out_of_time`, `is_full`: the clock, or the largest number of tokens, ended it; not the model.
    """

    text: str
    tokens: int
    seconds: float
    is_out_of_time: bool
    is_full: bool


class AnsweringBase:
    """A base whose linear layers are all hooked, so that any adapter for it can be laid on for one answer."""

    def __init__(self, base: FrozenBaseModel) -> None:
        self.base = base
        base.hook(base.linear_layers())
        self.sha256 = tensors_sha256(base.model)

    def read(self, text: str, template: str) -> tuple[str, int]:
        """The prompt as the model reads it, and how many tokens that is."""
        prompt = self.base.prompt(text, template)
        return prompt, self.base.prompt_length(prompt)

    def adapters(self, folder: Path, name: str) -> Adapters:
        """The adapter in `folder`, to be laid on this base.

        Raises:
            ComposeError: it is no plain LoRA adapter, or one for another base.
        """
        stack = stack_modules([read_module(folder, name)]).to(self.base.device)
        self.base.require_layers(stack.layers)
        return single_modules(stack, [0])

    def answer(self, prompt: str, adapters: Adapters, *, max_new_tokens: int, limit_s: float) -> Answer:
        """The greedy answer; no adapters: the base's own.

        Args:
            limit_s: after so many seconds it ends with what is written so far.

        Raises:
            PromptTooLongError: the base has not so many positions.
        """
        self.base.model.generation_config.max_time = limit_s
        started = time.monotonic()
        try:
            ((text,),) = self.base.answers([prompt], max_new_tokens, adapters)
        except ExampleTooLongError as error:
            raise PromptTooLongError(error.length, error.limit) from error
        seconds = time.monotonic() - started
        tokens = len(self.base.tokenizer(text, add_special_tokens=False)["input_ids"])
        return Answer(text, tokens, seconds, seconds >= limit_s, tokens >= max_new_tokens)

    def require_unchanged(self) -> None:
        """Refuse to go on with a base that is not what it was.

        Raises:
            BaseChangedError: a tensor has another value, another name, or is gone.
        """
        if tensors_sha256(self.base.model) != self.sha256:
            raise BaseChangedError


def tensors_sha256(model: nn.Module) -> str:
    """The names and the bytes of every parameter and buffer, as one hash."""
    digest = hashlib.sha256()
    own: list[tuple[str, Any]] = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in own:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
