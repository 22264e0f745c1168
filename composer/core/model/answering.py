"""Answers of a base model that stays in memory, with and without an adapter.

No trace of an adapter may stay after its answer. Only A and B factors are read, the hooks hold them
for one forward pass, and `require_unchanged` compares the base's tensors with their hash.
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
    """One answer of a model.

    Attributes:
        text: the answer, without special tokens and outer white space.
        tokens: the tokens of `text`, counted by encoding it again.
        seconds: how long the answer took.
        is_out_of_time: the answer took at least the time limit.
        is_full: `tokens` reached the largest number of new tokens.
    """

    text: str
    tokens: int
    seconds: float
    is_out_of_time: bool
    is_full: bool


class AnsweringBase:
    """A base model with hooks on all of its linear layers, so that each answer can use another adapter."""

    def __init__(self, base: FrozenBaseModel) -> None:
        """Register the hooks and take the hash of the base's tensors."""
        self.base = base
        base.hook(base.linear_layers())
        self.sha256 = tensors_sha256(base.model)

    def read(self, text: str, template: str) -> tuple[str, int]:
        """Return the prompt of an input in this template, and its length in tokens.

        A template that is left open (auto) is the default of the base model.
        """
        prompt = self.base.prompt(text, self.base.choose_template(template, {}).template)
        return prompt, self.base.prompt_length(prompt)

    def adapters(self, folder: Path, name: str) -> Adapters:
        """Read the adapter in `folder` as one candidate for this base.

        Args:
            folder: holds adapter_config.json and adapter_model.safetensors.
            name: the name in messages.

        Raises:
            ModuleUnreadableError: it is not a plain LoRA adapter.
            MismatchedModulesError: it is for another base model.
        """
        stack = stack_modules([read_module(folder, name)]).to(self.base.device)
        self.base.require_layers(stack.layers)
        return single_modules(stack, [0])

    def answer(self, prompt: str, adapters: Adapters, *, max_new_tokens: int, limit_s: float) -> Answer:
        """Return the greedy answer to one prompt.

        Args:
            prompt: whole, with the template around the input.
            adapters: one candidate; {} for the base model alone.
            max_new_tokens: the most tokens of the answer.
            limit_s: the time limit in seconds; at the limit the answer ends with the text so far.

        Raises:
            PromptTooLongError: the prompt does not fit the base model's context.
        """
        self.base.model.generation_config.max_time = limit_s
        started = time.monotonic()
        try:
            ((text,),) = self.base.answers([prompt], max_new_tokens, adapters)
        except ExampleTooLongError as error:
            raise PromptTooLongError(error.length, error.limit) from error
        seconds = time.monotonic() - started
        tokens = len(self.base.texts.ids(self.base.texts.marked(text)))
        return Answer(text, tokens, seconds, seconds >= limit_s, tokens >= max_new_tokens)

    def require_unchanged(self) -> None:
        """Refuse to continue with a base model whose tensors have changed.

        Raises:
            BaseChangedError: a tensor has another value, name, type or shape, or is missing.
        """
        if tensors_sha256(self.base.model) != self.sha256:
            raise BaseChangedError


def tensors_sha256(model: nn.Module) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of all parameters and buffers, in hexadecimal."""
    digest = hashlib.sha256()
    own: list[tuple[str, Any]] = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in own:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
