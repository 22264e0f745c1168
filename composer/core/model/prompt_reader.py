"""How a base model reads an example: its prompt and its answer, as texts and as tokens.

Only the tokenizer and the kind of the model decide it, so whoever holds these two reads as the composer does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from composer.core.model.plain_text import PlainText, without_marks
from composer.core.spec.errors import BaseModelError
from composer.core.spec.examples import Example
from composer.core.spec.templates import (
    CHAT,
    INPUT,
    ChosenTemplate,
    choose_template,
    fill_template,
    split_prompt,
)
from modules_registry.core.prompt_template import hides_input

HIDES_INPUT = "it does not show the input, as different inputs give the same prompt"


class PromptReader:
    """The prompts and answers of one base model.

    A special token in the input or the output of an example is plain text, and marked as such in prompts.

    Attributes:
        tokenizer: of the model.
        is_encoder_decoder: whether the model is an encoder-decoder.
        template: of a prompt, if a call names none.
    """

    def __init__(self, tokenizer: Any, template: str = INPUT, *, is_encoder_decoder: bool) -> None:
        """Take the tokenizer; EOS becomes its padding token if it has none."""
        self.tokenizer = tokenizer
        self.template = template
        self.is_encoder_decoder = is_encoder_decoder
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token

    @cached_property
    def texts(self) -> PlainText:
        """Return how the tokenizer reads texts of users."""
        return PlainText(self.tokenizer)

    def choose_template(self, asked: str, stated: Mapping[str, str | None]) -> ChosenTemplate:
        """Return the template of a composition on this base model; see `templates.choose_template`."""
        return choose_template(
            asked,
            stated,
            is_encoder_decoder=self.is_encoder_decoder,
            has_chat=self.has_chat,
            chat_fault=self.chat_fault,
        )

    def prompt(self, text: str, template: str | None = None) -> str:
        """Return the prompt of an input, in the model's own template or in another.

        Raises:
            BaseModelError: the template is chat, and the base model's chat template is missing or fails.
        """
        return self._prompt_and_space(text, template or self.template)[0]

    def _prompt_and_space(self, text: str, template: str) -> tuple[str, str]:
        """Return the prompt of an input, and the white space that its answer begins with."""
        text = self.texts.marked(text)
        if template == CHAT:
            return self._chat_prompt(text), self.turn_space
        if self.is_encoder_decoder:  # its answer is a text of its own
            return fill_template(template, text), ""
        return split_prompt(template, text)

    def _chat_prompt(self, text: str) -> str:
        if not self.tokenizer.chat_template:
            raise BaseModelError(
                "This base model has no chat template. Write your own template, such as {input}."
            )
        if self._hides_input:
            raise BaseModelError(
                f"The base model's chat template cannot be used: {HIDES_INPUT}. Repair it, or write your own "
                "template, such as {input}."
            )
        return self.chat([("user", text)])

    def chat(self, turns: Sequence[tuple[str, str]], *, asks: bool = True) -> str:
        """Return turns (role, text) in the base model's chat template.

        Args:
            turns: from the first to the last; a role is user or assistant.
            asks: whether the text ends where the assistant's next turn begins.

        Raises:
            BaseModelError: the chat template fails.
        """
        text = self._turns(turns, asks=asks)
        return f"{text}{self._turn_begin}" if asks else text

    def _turns(self, turns: Sequence[tuple[str, str]], *, asks: bool) -> str:
        """Return turns as the chat template alone writes them; as `chat`."""
        messages = [{"role": role, "content": self.texts.marked(text)} for role, text in turns]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
        except (TemplateError, TypeError, ValueError) as error:
            raise BaseModelError(
                f"The base model's chat template does not work: {first_line(error)}"
            ) from error
        return str(text)

    @cached_property
    def _hides_input(self) -> bool:
        """Return whether the chat template makes the same prompt of different inputs.

        Raises:
            BaseModelError: the chat template fails.
        """
        return hides_input(lambda text: self._turns([("user", text)], asks=True))

    @cached_property
    def turn_space(self) -> str:
        """Return the white space in front of an assistant's answer in the chat template; mostly none."""
        between = self._before_answer.removeprefix(self._turn_begin)
        return between if between.isspace() else ""

    @cached_property
    def _turn_begin(self) -> str:
        """Return how an assistant's turn begins, for a chat template that writes nothing when it is asked."""
        if not self.has_chat:
            return ""
        question = [("user", "a question")]
        is_ignored = self._turns(question, asks=True) == self._turns(question, asks=False)
        return self._before_answer.rstrip(" ") if is_ignored else ""

    @cached_property
    def _before_answer(self) -> str:
        """Return what stands between a question and its answer, behind what the template writes to ask."""
        if not self.has_chat:
            return ""
        question, answer = ("user", "a question"), "an answer"
        begin = self._turns([question], asks=True)
        whole = self._turns([question, ("assistant", answer)], asks=False)
        return whole.removeprefix(begin).partition(answer)[0] if whole.startswith(begin) else ""

    @cached_property
    def turn_end(self) -> str | None:
        """Return the text that ends an assistant's turn; None without a chat template, or if it is EOS."""
        if not self.has_chat:
            return None
        answer = "an answer"
        turns = [("user", "a question"), ("assistant", answer)]
        end = self.chat(turns, asks=False).rpartition(answer)[2].strip()
        first: list[int] = self.tokenizer(end, add_special_tokens=False)["input_ids"][:1]
        if first and first[0] in self.tokenizer.all_special_ids:  # what follows it belongs to the next turn
            end = self.tokenizer.decode(first)
        return None if end in ("", self.tokenizer.eos_token) else end

    @cached_property
    def has_chat(self) -> bool:
        """Return whether this is a decoder-only base with a chat template for user and assistant in turn."""
        is_there = not self.is_encoder_decoder and bool(self.tokenizer.chat_template)
        return is_there and not self.chat_fault

    @cached_property
    def chat_fault(self) -> str:
        """Return why a decoder-only base's chat template cannot be used; empty if it can or there is none."""
        if self.is_encoder_decoder or not self.tokenizer.chat_template:
            return ""
        try:
            self._turns(
                [("user", "a question"), ("assistant", "an answer"), ("user", "a question")], asks=True
            )
            return HIDES_INPUT if self._hides_input else ""
        except BaseModelError as error:
            return first_line(error.__cause__ or error)

    def prompts_and_answers(
        self, examples: Sequence[Example], template: str | None = None
    ) -> tuple[list[str], list[Example], str | None]:
        """Return n prompts, n examples whose outputs are as they follow them, and what ends an output.

        Args:
            examples: n examples.
            template: of the prompts; the model's own if None.
        """
        template = template or self.template
        prompts, answered = [], []
        for example in examples:
            prompt, space = self._prompt_and_space(example.input, template)
            prompts.append(prompt)
            output = example.output if self.is_encoder_decoder else space + example.output.strip()
            answered.append(replace(example, output=output))
        return prompts, answered, self.turn_end if template == CHAT else None

    def _without_written_end(self, output: str) -> str:
        """Return an output without an EOS that is written out at its end, as some data sets have it."""
        eos = self.tokenizer.eos_token
        return output.rstrip().removesuffix(eos).rstrip() if eos and output.rstrip().endswith(eos) else output

    def answer_ids(self, prompt: str, output: str, end: str | None, after: str) -> list[int]:
        """Return the token ids of an output behind a prompt, with `end`, or exactly one EOS, at its end."""
        output = self.texts.marked(self._without_written_end(output))
        if self.is_encoder_decoder and end is None:
            ids = self.texts.ids(output, add_special_tokens=True, is_target=True)
            return [*self._without_end(ids), self.tokenizer.eos_token_id]
        if end is None:
            return [*self._without_end(self._continued_ids(prompt, output)), self.tokenizer.eos_token_id]
        text = output + end
        # Two line breaks are one token at the end of a text, and two in front of a word.
        ids = self._continued_ids(prompt, f"{text}{after}a")
        begin = without_marks(text).lstrip(" ")
        for length in range(1, len(ids)):
            decoded = self.tokenizer.decode(ids[:length], clean_up_tokenization_spaces=False)
            if decoded.lstrip(" ").startswith(begin):  # some tokenizers drop the first space
                return ids[:length]
        # the tokenizer does not keep white space, so it cannot be told where the text ends
        return self.texts.ids(text)

    def _continued_ids(self, prompt: str, text: str) -> list[int]:
        """Return the token ids of the text behind the prompt; an encoder-decoder's are those of it alone."""
        if not self.is_encoder_decoder:
            before, whole = self.prompt_ids(prompt), self.prompt_ids(prompt + text)
            if whole[: len(before)] == before:
                return whole[len(before) :]
        return self.texts.ids(text)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Return the token ids of a prompt, at least one.

        An encoder reads the EOS at the end of its input. A decoder continues the prompt, so it gets no EOS.
        """
        bos = self.tokenizer.bos_token
        begun = bool(bos) and prompt.startswith(bos)  # chat templates contain BOS as text
        ids = self.texts.ids(prompt, add_special_tokens=not begun)
        if not self.is_encoder_decoder:
            ids = self._without_end(ids)
        return ids or [self._first_id()]

    def _without_end(self, ids: list[int]) -> list[int]:
        """Return the ids without any EOS at the end, whether from the tokenizer or from the text."""
        while ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]
        return ids

    def _first_id(self) -> int:
        """Return the one token id of an empty prompt: BOS, or EOS if there is no BOS."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return int(eos if bos is None else bos)

    def prompt_length(self, prompt: str) -> int:
        """Return the number of tokens that the model reads for this prompt."""
        return len(self.prompt_ids(prompt))

    def cut(self, answer: str, end: str | None) -> str:
        """Return the answer up to this text that ends it, or up to the end of an assistant's turn."""
        for text in (end, self.turn_end):
            if text and text not in self.texts.special_tokens:  # these end the answer as tokens
                answer = answer.partition(text)[0]
        return answer

    def end_ids(self, end: str | None, usual: int | list[int] | None) -> set[int]:
        """Return the tokens that end an answer: EOS, the end of a turn, and `end` if it is one token.

        Args:
            end: a text that ends an answer too.
            usual: the EOS of the model's own settings for generating.
        """
        texts = [text for text in (end, self.turn_end) if text]
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        more = {own[0] for own in ids if len(own) == 1}  # an end of several tokens is only cut off
        eos: set[Any] = set(usual if isinstance(usual, list) else [usual])
        return (eos | more | ({self.tokenizer.eos_token_id} if more else set())) - {None}


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters; its class name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
