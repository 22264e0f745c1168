"""The names that data sets give to inputs and outputs, and how one row of each becomes an example."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from composer.core.spec.counting import count_noun
from composer.core.spec.errors import ExamplesError, MissingOutputError

CHAT_NAMES = ("messages", "conversations", "conversation")  # OpenAI, ShareGPT
USER, ASSISTANT = ("user", "human"), ("assistant", "gpt", "model", "bot", "chatgpt")
SYSTEM = ("system", "developer")
TOOLS = ("tool", "function", "function_call", "tool_call", "observation", "ipython")
ROLES = {*USER, *ASSISTANT, *SYSTEM, *TOOLS}
TEXTS_OF_TURN = ("content", "value", "text")
CALLS = ("tool_calls", "function_call")  # what a turn of the assistant holds that only calls a tool
NO_TEXTS = (SYSTEM_TURN, TOOL_TURN) = ("system messages", "tool calls and their results")
BEHIND, BESIDES = "turns behind the last answer", "turns besides the last question and its answer"
TEXT_OF_ANSWER = ("text", "value")  # where an answer is an object: SQuAD, TriviaQA
COLUMN_NAME = re.compile(r"[^\W\d][\w .-]{0,30}")
JOINED_BY = "\n"  # between the parts of an input
NAMES_SHOWN = 8


@dataclass(frozen=True)
class Dialect:
    """Where an example's input and output are.

    Attributes:
        inputs: the names of the parts of the input, joined by a line break; blank parts are left out.
        output: the name of the output.
    """

    inputs: tuple[str, ...]
    output: str

    @property
    def names(self) -> set[str]:
        """Return the names of all the columns that are read."""
        return {*self.inputs, self.output}


def dialects(inputs: tuple[str, ...], *outputs: str) -> tuple[Dialect, ...]:
    """Return a dialect for each name of the output."""
    return tuple(Dialect(inputs, output) for output in outputs)


PAIR = Dialect(("input",), "output")  # what a row is taken for that has no known names
KNOWN: tuple[Dialect, ...] = (  # the first one whose names are all there counts
    *dialects(("instruction", "input"), "output", "response"),  # Alpaca
    *dialects(("instruction", "context"), "output", "response"),  # Dolly
    *dialects(("instruction",), "output", "response"),
    *dialects(("context", "question"), "answer", "answers"),  # SQuAD
    *dialects(("passage", "question"), "answer", "answers"),  # BoolQ
    *dialects(("input",), "output"),
    *dialects(("prompt",), "completion", "response", "chosen"),
    *dialects(("question",), "answer", "answers"),
    *dialects(("input",), "target", "targets", "label"),  # BIG-bench
    *dialects(("inputs",), "targets", "outputs"),  # Flan
    *dialects(("text",), "label"),
    *dialects(("sentence",), "label"),
    *dialects(("source",), "target"),
    *dialects(("query",), "response"),
)


@dataclass
class Unused:
    """What a reader leaves aside, by name, with the number of rows that have it."""

    names: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)  # of a conversation or a list

    def sentences(self) -> list[str]:
        """Return what is to be said of it: nothing if all of every row was used."""
        found = [f"Not used: {part}, of {count_noun(n, 'example')}." for part, n in self.parts.items()]
        if self.names:
            word = "column" if len(self.names) == 1 else "columns"
            found.insert(0, f"Not used: the {word} {quoted(self.names)}.")
        return found


def quoted(names: Iterable[str]) -> str:
    """Return the names in quotation marks, the first few of many."""
    names = [f"“{name[:40]}”" for name in names]
    shown, rest = names[:NAMES_SHOWN], len(names) - NAMES_SHOWN
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def find_dialect(names: Collection[str]) -> Dialect | None:
    """Return the dialect of these names (in lower case), or None if it is not a known one."""
    return next((dialect for dialect in KNOWN if dialect.names <= {*names}), None)


def is_known(names: Collection[str]) -> bool:
    """Return whether a row with these names can be read, or tells which of the two it lacks."""
    return find_dialect(names) is not None or bool({*names} & {*CHAT_NAMES, *PAIR.names})


def read_row(row: Mapping[str, Any], dialect: Dialect | None, unused: Unused) -> tuple[Any, Any]:
    """Return the input and the output of one row; texts, unless the row holds something else there.

    Args:
        row: the values by their names in lower case.
        dialect: chosen by hand, or found for the whole table; None looks for it in this row.
        unused: receives what is not used.

    Raises:
        MissingOutputError: the row is a conversation without an answer; the message begins with its verb.
        ExamplesError: its question or answer has more than text, such as an image; so does this message.
    """
    chat = next((name for name in CHAT_NAMES if is_chat(row.get(name))), None) if dialect is None else None
    if chat is not None:
        count_unused(row, {chat}, unused)
        return read_chat(row[chat], unused)
    dialect = dialect or find_dialect(row) or PAIR
    count_unused(row, dialect.names, unused)
    parts, output = [row.get(name) for name in dialect.inputs], row.get(dialect.output)
    if len(parts) == 1 and (is_chat(parts[0]) or is_chat(output)):  # TRL's prompt and completion in messages
        return read_chat([*turns_of(parts[0], USER[0]), *turns_of(output, ASSISTANT[0])], unused)
    output = first_of_several(output, dialect.output, unused)
    return join_parts([as_text(part) for part in parts]), as_text(output)


def count_unused(row: Mapping[str, Any], used: set[str], unused: Unused) -> None:
    """Count the names that hold something and are not read."""
    unused.names.update(name for name, value in row.items() if name not in used and is_filled(value))


def is_filled(value: Any) -> bool:
    """Return whether there is something in a cell."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Real):
        return is_number(value)
    return value is not None and not (isinstance(value, Sequence | Mapping) and len(value) == 0)


def is_number(value: Real) -> bool:
    """Return False for NaN and infinity: what programs write where a value is missing or too large."""
    return isinstance(value, int) or math.isfinite(float(value))


def as_text(value: Any) -> Any:
    """Return numbers and booleans as JSON writes them, None for NaN and infinity, and all else as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Real):
        return str(value) if is_number(value) else None
    return value


def join_parts(parts: Sequence[Any]) -> Any:
    """Return the parts of an input as one text, or the first part that is not text."""
    if len(parts) == 1:
        return parts[0]
    filled = [part for part in parts if is_filled(part)]
    wrong = next((part for part in filled if not isinstance(part, str)), None)
    return JOINED_BY.join(filled) if wrong is None else wrong


def first_of_several(value: Any, name: str, unused: Unused) -> Any:
    """Return the first right answer of a list, or of SQuAD's {"text": [...]}; other values as they are."""
    found = text_of_answer(value)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return found
    answers = [text_of_answer(answer) for answer in found if is_filled(answer)]
    if len({*map(str, answers)}) > 1:
        unused.parts[f"all “{name}” but the first"] += 1
    return answers[0] if answers else None


def text_of_answer(value: Any) -> Any:
    """Return what an object has as its text, and any other value as it is."""
    if not isinstance(value, Mapping):
        return value
    return next((value[name] for name in TEXT_OF_ANSWER if name in value), value)


# --- conversations ------------------------------------------------------------


def is_chat(value: Any) -> bool:
    """Return whether this is a list of messages, each with a role and a text."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in value)
    )


def is_conversation(value: Any) -> bool:
    """Return whether these are the messages of one conversation, where no name such as "messages" says so."""
    return is_chat(value) and all(
        str(turn.get("role", turn.get("from"))).lower() in ROLES
        and not {*TEXTS_OF_TURN, *CALLS}.isdisjoint(turn)
        for turn in value
    )


def turns_of(value: Any, role: str) -> list[Any]:
    """Return the turns of a conversation, or a text as the one turn of this role."""
    if is_chat(value):
        return list(value)
    return [{"role": role, "content": value}] if is_filled(value) else []


def read_chat(turns: Sequence[Mapping[str, Any]], unused: Unused) -> tuple[Any, Any]:
    """Return the user's turn before the last answer, and that answer: a turn of the assistant with a text.

    Raises:
        MissingOutputError: no answer follows a turn of the user.
        ExamplesError: one of the two has a part that is no text.
    """
    kinds = [kind_of_turn(turn) for turn in turns]
    asked = [place for place, kind in enumerate(kinds) if kind == "question"]
    answers = [place for place, kind in enumerate(kinds) if kind == "answer" and asked and place > asked[0]]
    if not answers:
        raise MissingOutputError(
            "is a conversation without an answer: no text of the assistant follows a turn of the user. "
            "Fill it in or remove the line."
        )
    last = answers[-1]
    question = max(place for place in asked if place < last)
    if unread := [*unread_parts(turns[question]), *unread_parts(turns[last])]:
        raise ExamplesError(
            f"has {quoted(dict.fromkeys(unread))} in a message. Only text is read: no images, sound, files. "
            "Take that part out, or the whole example if it needs it."
        )
    others = ((place, kind) for place, kind in enumerate(kinds) if place not in (question, last))
    unused.parts.update(
        {kind if kind in NO_TEXTS else BEHIND if place > last else BESIDES for place, kind in others}
    )
    unused.parts.update(names_beside_text(turns[question]) | names_beside_text(turns[last]))
    return text_of_turn(turns[question]), text_of_turn(turns[last])


def names_beside_text(turn: Mapping[str, Any]) -> set[str]:
    """Return what a message holds beside its role and its text, such as a model's reasoning."""
    read = {"role", "from", *TEXTS_OF_TURN}
    names = (str(name) for name, value in turn.items() if name not in read and is_filled(value))
    return {f"{quoted([name])} of messages" for name in names}


def kind_of_turn(turn: Mapping[str, Any]) -> str:
    """Return "question", "answer", one of NO_TEXTS, or "" for a turn of another role or without a text."""
    role = str(turn.get("role", turn.get("from"))).lower()
    if role in USER:
        return "question"
    if role in SYSTEM:
        return SYSTEM_TURN
    if role in TOOLS or any(is_filled(turn.get(name)) for name in CALLS):
        return TOOL_TURN
    return "answer" if role in ASSISTANT and is_filled(text_of_turn(turn)) else ""


def content_of_turn(turn: Mapping[str, Any]) -> Any:
    """Return what stands for the text of one message: a text, or a list of parts."""
    return next((turn[name] for name in TEXTS_OF_TURN if name in turn), None)


def unread_parts(turn: Mapping[str, Any]) -> list[str]:
    """Return the types of a message's parts that are no text, such as "image_url"."""
    content = content_of_turn(turn)
    parts = content if isinstance(content, Sequence) and not isinstance(content, str) else []
    others = [part for part in parts if isinstance(part, Mapping) and not isinstance(part.get("text"), str)]
    return [str(part.get("type") or next(iter(part), "{}")) for part in others]


def text_of_turn(turn: Mapping[str, Any]) -> Any:
    """Return the text of one message; its parts joined where it has several, as OpenAI writes them."""
    content = content_of_turn(turn)
    if isinstance(content, Sequence) and not isinstance(content, str):
        texts: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        return "".join(texts) if texts and all(isinstance(text, str) for text in texts) else content
    return as_text(content)
