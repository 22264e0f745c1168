"""How LoraHub's functions read an input: one way for the search, for a loss of the caller and for answers.

The template follows from the base model and its tokenizer alone, so that lorahub_inference finds again what
lorahub_learning used: the bare input for an encoder-decoder, as in the released code, the chat template of a
base that has one, and else the input and a line break. What is too long of an input is cut off at its end.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from composer.core.model.prompt_reader import PromptReader
from composer.core.spec.examples import Example
from composer.core.spec.templates import AUTO

INPUT_TOKENS, OUTPUT_TOKENS = 2048, 256  # at most, as in the released code


class LorahubReader:
    """The prompts and answers of one base model as rows of tokens.

    Attributes:
        prompts: reads prompts and answers, in the template of this base.
        prompt_tokens: the most tokens of a prompt.
        answer_tokens: the most tokens of an answer.
    """

    def __init__(self, tokenizer: Any, config: Any) -> None:
        """Take the tokenizer and the config of a model; EOS becomes the padding token if there is none."""
        self.prompts = PromptReader(tokenizer, is_encoder_decoder=bool(config.is_encoder_decoder))
        self.prompts.template = self.prompts.choose_template(AUTO, {}).template
        self.prompt_tokens, self.answer_tokens = token_limits(config)

    def prompt_rows(self, inputs: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each prompt."""
        return [self._row(self.prompts.prompt(self._cut(text))) for text in inputs]

    def example_rows(self, examples: Sequence[Example]) -> tuple[list[list[int]], list[list[int]]]:
        """Return the token ids of each prompt, and those of the answer behind it, which end with its end."""
        cut = [replace(example, input=self._cut(example.input)) for example in examples]
        texts, answered, end = self.prompts.prompts_and_answers(cut)
        answers = [
            self.prompts.answer_ids(text, example.output, end, "")
            for text, example in zip(texts, answered, strict=True)
        ]
        return [self._row(text) for text in texts], [
            row if len(row) <= self.answer_tokens else [*row[: self.answer_tokens - 1], row[-1]]
            for row in answers
        ]

    def _row(self, prompt: str) -> list[int]:
        """Return the token ids of a prompt; of a template that is too long by itself, the last ones."""
        return self.prompts.prompt_ids(prompt)[-self.prompt_tokens :]

    def _cut(self, text: str) -> str:
        """Return the input, without its end where the prompt would be too long."""
        tokenizer = self.prompts.tokenizer
        while (
            text
            and (excess := self.prompts.prompt_length(self.prompts.prompt(text)) - self.prompt_tokens) > 0
        ):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            kept = tokenizer.decode(ids[: max(0, len(ids) - excess)], clean_up_tokenization_spaces=False)
            text = min(kept, text[:-1], key=len)  # some tokenizers write what they read in a longer way
        return text


def token_limits(config: Any) -> tuple[int, int]:
    """Return the most tokens of a prompt and of an answer, which share the positions of a decoder.

    Args:
        config: of the base model.
    """
    positions = getattr(config, "max_position_embeddings", None) or INPUT_TOKENS + OUTPUT_TOKENS
    if config.is_encoder_decoder:
        return min(INPUT_TOKENS, positions), min(OUTPUT_TOKENS, positions)
    answer = min(OUTPUT_TOKENS, positions // 2)
    return min(INPUT_TOKENS, positions - answer), answer
