"""Greedy answers to questions whose right answers are known: mostly from one forward pass.

Behind the prompt and the first tokens of the right answer, the forward pass tells which token a greedy
answer has next. If it is the right one everywhere, the greedy answer is the right one. Else the greedy
answer leaves it at the first other token. Mostly its text then differs from the right one whatever
follows, so that only an answer that is shown has to be generated.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from composer.core.methods.base import Adapters
from composer.core.model.base_model import LOGITS_BYTES, FrozenBaseModel, TokenBatch
from composer.core.model.t5 import IGNORED
from composer.core.spec.errors import ExampleTooLongError
from composer.core.spec.examples import Example

PROMPT_TOKENS_AT_ONCE = 8192  # in one forward pass; bounds the memory
# Options of transformers' `generate` that change which token is the most likely one, each with the values at
# which they do not. Several published chat models ask for a repetition penalty.
PLAIN_GREEDY: Mapping[str, tuple[Any, ...]] = {
    "repetition_penalty": (None, 1.0),
    "encoder_repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None, []),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "sequence_bias": (None, {}),
    "exponential_decay_length_penalty": (None,),
    "guidance_scale": (None, 1, 1.0),
    "watermarking_config": (None,),
    "penalty_alpha": (None, 0),
    "dola_layers": (None,),
}


@dataclass(frozen=True)
class KnownQuestions:
    """n questions with their right answers, encoded once for all candidates.

    Attributes:
        base: the frozen model.
        prompts: n prompts, whole.
        examples: n examples; each output is as it follows the prompt, perhaps with a space in front.
        end: a text that ends an answer, where it is cut; EOS, or the end of a turn, if None.
        after: the text that would follow the end; see `FrozenBaseModel.encode_prompts`.
    """

    base: FrozenBaseModel
    prompts: Sequence[str]
    examples: Sequence[Example]
    end: str | None = None
    after: str = ""

    @cached_property
    def prompt_lengths(self) -> list[int]:
        """Return the n lengths of the prompts in tokens."""
        return [self.base.prompt_length(prompt) for prompt in self.prompts]

    @property
    def mean_prompt_tokens(self) -> float:
        """Return the mean length of a prompt in tokens."""
        return sum(self.prompt_lengths) / len(self.prompts)

    @cached_property
    def batches(self) -> list[tuple[list[int], TokenBatch]]:
        """Return the numbers of the questions of each batch, and the batch.

        Left out are batches with a question that does not fit the context together with its answer.
        """
        found = []
        for block in blocks(self.prompt_lengths):
            prompts, examples = [self.prompts[i] for i in block], [self.examples[i] for i in block]
            with suppress(ExampleTooLongError):
                found.append((block, self.base.encode_prompts(prompts, examples, self.end, self.after)))
        return found


@dataclass(frozen=True)
class Beginning:
    """What one forward pass tells of a greedy answer.

    Attributes:
        text: without special tokens and outer white space.
        is_whole: whether the answer ends there.
        is_decided: whether it is known if the whole answer is the right one.
    """

    text: str
    is_whole: bool
    is_decided: bool


UNKNOWN = Beginning("", is_whole=False, is_decided=False)


@torch.no_grad()
def answer_known(
    questions: KnownQuestions,
    max_new_tokens: int,
    adapters: Adapters,
    *,
    n_shown: int = 0,
    wrapped: Any = None,
) -> list[str]:
    """Return n greedy answers, without special tokens and outer white space.

    A wrong answer behind the first `n_shown` may be only the beginning that makes it wrong. All others are
    whole, and those that are right are the same as from `FrozenBaseModel.answers`.

    Args:
        questions: n questions.
        max_new_tokens: the most tokens of one answer.
        adapters: one candidate; {} for the base model alone.
        n_shown: how many answers shall be whole, from the first.
        wrapped: this model as peft wrapped it; if given, it answers instead.

    Raises:
        ExampleTooLongError: a prompt does not fit the context; names its number.
    """
    # where all are shown, a forward pass before generating mostly costs more than it saves
    are_all_shown = n_shown >= len(questions.prompts)
    found = (
        [UNKNOWN] * len(questions.prompts)
        if are_all_shown
        else beginnings(questions, max_new_tokens, adapters, wrapped)
    )
    texts = [own.text for own in found]
    open_ones = [i for i, own in enumerate(found) if not own.is_decided or (i < n_shown and not own.is_whole)]
    if open_ones:
        prompts = [questions.prompts[i] for i in open_ones]
        (whole,) = questions.base.answers(
            prompts, max_new_tokens, adapters, end=questions.end, wrapped=wrapped
        )
        for i, text in zip(open_ones, whole, strict=True):
            texts[i] = text
    return texts


def beginnings(
    questions: KnownQuestions, max_new_tokens: int, adapters: Adapters, wrapped: Any
) -> list[Beginning]:
    """Return what the forward pass tells of each answer; nothing where it cannot tell."""
    base = questions.base
    found = [UNKNOWN] * len(questions.prompts)
    if not is_plain_greedy(base.model.generation_config):
        return found
    stops = base.stop_ids(questions.end)
    for block, batch in questions.batches:
        rows = zip(block, most_likely(base, batch, adapters, wrapped), batch.labels.tolist(), strict=True)
        for i, predicted, labels in rows:
            right = [token for token in labels if token != IGNORED]
            tokens = greedy_tokens(predicted, right, stops, max_new_tokens)
            is_stopped = len(tokens) == max_new_tokens or tokens[-1] in stops
            found[i] = beginning_of(base, tokens, questions.end, questions.examples[i].output, is_stopped)
    return found


def blocks(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the numbers of questions in blocks of similar lengths, for one forward pass each.

    Args:
        lengths: of the prompts, in tokens.
    """
    block: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if block and (len(block) + 1) * lengths[i] > PROMPT_TOKENS_AT_ONCE:
            yield block
            block = []
        block.append(i)
    yield block


def most_likely(
    base: FrozenBaseModel, batch: TokenBatch, adapters: Adapters, wrapped: Any
) -> list[list[int]]:
    """Return the most likely token at each label position of each example, given the labels before it."""
    fit = max(1, LOGITS_BYTES // (4 * batch.labels.shape[1] * int(base.model.config.vocab_size)))
    found: list[list[int]] = []
    for start in range(0, len(batch), fit):
        part = batch.part(slice(start, start + fit)) if fit < len(batch) else batch
        logits, example = base.label_logits(part, adapters, wrapped=wrapped)
        tokens: Tensor = logits[0].argmax(-1).cpu()
        found += [tokens[example == i].tolist() for i in range(len(part))]
    return found


def greedy_tokens(
    predicted: Sequence[int], right: Sequence[int], stops: Collection[int], max_new_tokens: int
) -> list[int]:
    """Return the tokens with which the greedy answer begins, at least one: as far as they are known.

    Args:
        predicted: the most likely token at each position, given the right ones before it.
        right: the right tokens.
        stops: tokens that end an answer.
        max_new_tokens: the most tokens of one answer.
    """
    tokens = []
    for token, expected in zip(predicted, right, strict=True):
        tokens.append(token)
        if token != expected or token in stops or len(tokens) == max_new_tokens:
            break
    return tokens


def beginning_of(
    base: FrozenBaseModel, tokens: Sequence[int], end: str | None, right: str, is_stopped: bool
) -> Beginning:
    """Return what these first tokens of a greedy answer tell.

    Args:
        base: the frozen model.
        tokens: of the answer.
        end: a text that ends it.
        right: the right answer.
        is_stopped: whether the model generates no more.
    """
    decoded = base.tokenizer.decode(tokens, skip_special_tokens=True)
    text = base.cut(decoded, end)
    is_whole = is_stopped or text != decoded
    return Beginning(text.strip(), is_whole, is_whole or not can_become(text, right))


def can_become(beginning: str, text: str) -> bool:
    """Return whether a text that begins so can be this text in the end.

    White space is not compared, because some tokenizers take some of it away again. Nor is the last
    character where it is not whole yet.
    """
    begun = "".join(beginning.rstrip("\ufffd").split())
    return "".join(text.split()).startswith(begun)


def is_plain_greedy(generation_config: Any) -> bool:
    """Return whether `generate` takes the most likely token at each position, under this configuration."""
    return all(getattr(generation_config, name, values[0]) in values for name, values in PLAIN_GREEDY.items())
