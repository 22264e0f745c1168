"""Special tokens in the texts of users, such as <|im_end|>, read as text like any other.

In a template they are the special tokens. A prompt is one string with both, so those in the text of a user
are marked (`PlainText.marked`), `PlainText.ids` reads the marks, and `without_marks` is what people see.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

MARK = "\ufdd0"  # stands within a special token; Unicode has no such character, so no text holds it


class PlainText:
    """The texts of one tokenizer, with marks in what is to be plain text."""

    def __init__(self, tokenizer: Any) -> None:
        """Take a tokenizer of transformers."""
        self.tokenizer = tokenizer

    @cached_property
    def special_tokens(self) -> dict[str, tuple[int, Any]]:
        """Return id and description, by its text, of each token that is left out of an answer's text."""
        added = self.tokenizer.added_tokens_decoder
        return {token.content: (number, token) for number, token in added.items() if token.special}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Return what matches the text of each special token that can be marked."""
        texts = sorted((text for text in self.special_tokens if len(text) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts)) or r"(?!)")

    def marked(self, text: str) -> str:
        """Return a text of a user with a mark in each special token; a second time changes nothing."""
        return self._pattern.sub(lambda found: f"{found[0][0]}{MARK}{found[0][1:]}", text)

    def ids(self, text: str, *, add_special_tokens: bool = False, is_target: bool = False) -> list[int]:
        """Return the token ids of a text with marks.

        Args:
            text: of a prompt or an answer.
            add_special_tokens: whether to add those that the tokenizer puts around a text.
            is_target: whether it is what an encoder-decoder is to answer.
        """
        if MARK not in text:
            given = {"text_target" if is_target else "text": text}
            return list(self.tokenizer(**given, add_special_tokens=add_special_tokens)["input_ids"])
        if not self._pattern.search(text):
            return self._plain(text, add_special_tokens=add_special_tokens)
        ids = list(self._ids_in_parts(text))
        if not add_special_tokens:
            return ids
        around, within = self._plain("a", add_special_tokens=True), self._plain("a")
        begin = next(i for i in range(len(around)) if around[i : i + len(within)] == within)
        return [*around[:begin], *ids, *around[begin + len(within) :]]

    def _ids_in_parts(self, text: str) -> Iterator[int]:
        """Yield the token ids of a text with special tokens, and plain texts between them."""
        before, position = None, 0
        for found in self._pattern.finditer(text):
            number, token = self.special_tokens[found[0]]
            part = text[position : found.start()]
            yield from self._part(part.rstrip() if token.lstrip else part, before)
            yield number
            before, position = token, found.end()
        yield from self._part(text[position:], before)

    def _part(self, text: str, before: Any) -> list[int]:
        """Return the token ids of a plain text behind a special token, or behind nothing.

        Some tokenizers put a space in front of a text, but not of what follows a special token.
        """
        if before is None:
            return self._plain(text)
        text = text.lstrip() if before.rstrip else text
        ids = self._plain(text)
        whole = self.tokenizer(f"{before.content}a", add_special_tokens=False)["input_ids"]
        if whole[1:] == self._plain("a"):
            return ids
        line, behind = self._plain("\n"), self._plain(f"\n{text}")
        return behind[len(line) :] if behind[: len(line)] == line else ids

    def _plain(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return the token ids of a text in which every special token is plain text."""
        encoded = self.tokenizer(
            without_marks(text), add_special_tokens=add_special_tokens, split_special_tokens=True
        )
        return list(encoded["input_ids"])


def without_marks(text: str) -> str:
    """Return a prompt or an answer as people wrote it."""
    return text.replace(MARK, "")
