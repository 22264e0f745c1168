"""How examples are shown in the prompt of a question: as earlier turns of a chat, or as blocks of text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from composer.core.model.base_model import FrozenBaseModel, TokenBatch
from composer.core.model.plain_text import without_marks
from composer.core.spec.examples import Example
from composer.core.spec.templates import CHAT, INPUT, fill_template, split_prompt

# Between two blocks; the first that no example holds. The last holds for texts that hold them all.
SEPARATORS = ("\n\n", "\n\n###\n\n", "\n\n=====\n\n")


class PromptForm(Protocol):
    """One way to show examples in front of a question.

    Attributes:
        about: the form, for the detail of a baseline; may be empty.
    """

    about: str

    @property
    def end(self) -> str | None:
        """Return the text that ends an answer, where it is cut, and is scored with it; EOS if None."""

    @property
    def after(self) -> str:
        """Return the text between that end and the next question."""

    def prompt(self, shown: Sequence[Example], text: str) -> str:
        """Return the prompt of an input behind these examples; there may be none of them."""

    def answer(self, output: str, text: str) -> str:
        """Return what follows the prompt of the input `text`, without its end."""

    def recipe(self, shown: Sequence[Example]) -> dict[str, Any]:
        """Return how a reader makes such a prompt behind these examples.

        Returns:
            as: turns or text; template: of the question; before: the text before it, empty for turns;
            end: the text that ends an answer, None for EOS or the end of a turn.
        """


@dataclass(frozen=True)
class Turns:
    """Earlier turns of a chat: each input is a user's, each output an assistant's.

    A template of the job with more than the input in it is part of the user's turn.
    """

    base: FrozenBaseModel
    about = "as earlier turns of a chat"
    after = ""

    @property
    def end(self) -> str | None:
        """Return the end of an assistant's turn."""
        return self.base.turn_end

    def prompt(self, shown: Sequence[Example], text: str) -> str:
        turns = [
            turn
            for example in shown
            for turn in (("user", self._asked(example.input)), ("assistant", example.output.strip()))
        ]
        return self.base.chat([*turns, ("user", self._asked(text))])

    def answer(self, output: str, text: str) -> str:
        return self.base.turn_space + output.strip()

    def recipe(self, shown: Sequence[Example]) -> dict[str, Any]:
        return {"as": "turns", "template": plain_template(self.base), "before": "", "end": None}

    def _asked(self, text: str) -> str:
        return fill_template(plain_template(self.base), text).strip()


@dataclass(frozen=True)
class Blocks:
    """One text: prompt and output of each example, then a separator.

    Attributes:
        base: the base model.
        end: how the separator begins: with a line break if no output holds one, else with all of it.
        after: the rest of the separator.
    """

    base: FrozenBaseModel
    end: str
    after: str
    about = "as one text"

    def prompt(self, shown: Sequence[Example], text: str) -> str:
        return self._before(shown) + self._asked(text)[0]

    def _before(self, shown: Sequence[Example]) -> str:
        separator = self.end + self.after
        return "".join(
            self._asked(example.input)[0]
            + self.base.texts.marked(self.answer(example.output, example.input))
            + separator
            for example in shown
        )

    def recipe(self, shown: Sequence[Example]) -> dict[str, Any]:
        template = plain_template(self.base)
        template = f"{template}\n" if template.endswith(INPUT) else template
        before = without_marks(self._before(shown))
        return {"as": "text", "template": template, "before": before, "end": self.end}

    def answer(self, output: str, text: str) -> str:
        return self._asked(text)[1] + output.strip()

    def _asked(self, text: str) -> tuple[str, str]:
        """Return the prompt of an input and the space behind it; a line break where the template has none."""
        prompt, space = split_prompt(plain_template(self.base), self.base.texts.marked(text))
        is_parted = space or prompt != prompt.rstrip() or not plain_template(self.base).endswith(INPUT)
        return (prompt if is_parted else f"{prompt}\n"), space


@dataclass(frozen=True)
class EncodedBlocks:
    """Blocks in the input of an encoder-decoder, whose answer is a text of its own and ends with EOS."""

    base: FrozenBaseModel
    about = ""
    end = None
    after = ""

    def prompt(self, shown: Sequence[Example], text: str) -> str:
        return self._before(shown) + self.base.prompt(text)

    def _before(self, shown: Sequence[Example]) -> str:
        return "".join(
            f"{self.base.prompt(example.input)}\n{self.base.texts.marked(example.output)}\n\n"
            for example in shown
        )

    def recipe(self, shown: Sequence[Example]) -> dict[str, Any]:
        return {
            "as": "text",
            "template": self.base.template,
            "before": without_marks(self._before(shown)),
            "end": None,
        }

    def answer(self, output: str, text: str) -> str:
        return output


def plain_template(base: FrozenBaseModel) -> str:
    """Return the template of the job; the bare input if that is the chat template."""
    return INPUT if base.template == CHAT else base.template


def prompt_forms(base: FrozenBaseModel, examples: Sequence[Example]) -> list[PromptForm]:
    """Return the forms in which these examples can be shown to this base, the most usual one first."""
    if base.is_encoder_decoder:
        return [EncodedBlocks(base)]
    texts = "\n".join(text.strip() for example in examples for text in (example.input, example.output))
    separator = next((s for s in SEPARATORS if (s.strip() or s) not in texts), SEPARATORS[-1])
    one_line = not any("\n" in example.output.strip() for example in examples)
    end = "\n" if one_line else separator
    blocks = Blocks(base, end, separator.removeprefix(end))
    return [Turns(base), blocks] if base.has_chat else [blocks]


def encode_shown(
    base: FrozenBaseModel, form: PromptForm, shown: Sequence[Example], asked: Example
) -> TokenBatch:
    """Encode one example behind others: its output and the end of the form are scored."""
    answered = replace(asked, output=form.answer(asked.output, asked.input))
    return base.encode_prompts([form.prompt(shown, asked.input)], [answered], form.end, form.after)
