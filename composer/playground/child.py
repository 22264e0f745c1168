"""The child's side: one base in memory, and one answer after the other.

The launcher calls `run`. The worker must not import this module: it loads torch. No text of a
question may reach a log, so whatever breaks is told by its type and place alone.
"""

import json
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

# transformers would import these with the first model: in every child anew, which takes it two seconds.
from transformers import GenerationMixin, PreTrainedModel, PreTrainedTokenizerFast  # noqa: F401

from composer.core.model.answering import AnsweringBase
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.plain_text import without_marks
from composer.core.spec.errors import ComposeError
from composer.playground.loaded_bases import BASE_FOLDER, QUESTIONS
from hub_site.jobs.launcher import is_out_of_memory

AnswerEvent = dict[str, Any]


def run(folder: Path, on_event: Callable[[AnswerEvent], None]) -> None:
    """Load the base, then answer what comes through the pipe until nobody holds its other end."""
    answering = AnsweringBase(
        # a view of its file: its pages are shared, and every bit can be held against its hash
        FrozenBaseModel.load(folder / BASE_FOLDER, device="auto", packs=False, name="of this adapter")
    )
    on_event({"event": "loaded"})
    with answering.base.single_thread_if_small(), (folder / QUESTIONS).open(encoding="utf-8") as questions:
        for line in questions:
            on_event(reply(answering, folder, json.loads(line)))
            answering.require_unchanged()
            on_event({"event": "unchanged"})


def reply(answering: AnsweringBase, folder: Path, asked: dict[str, Any]) -> AnswerEvent:
    """Both answers, or why there are none. The base alone answers before anything of the adapter is read."""
    limits = {"max_new_tokens": asked["max_new_tokens"], "limit_s": asked["limit_s"]}
    try:
        prompt, tokens = answering.read(asked["input"], asked["template"])
        of_base = answering.answer(prompt, {}, **limits)
        adapters = answering.adapters(folder / asked["adapter"], asked["name"])
        adapted = answering.answer(prompt, adapters, **limits)
    except ComposeError as error:
        return {"event": "declined", "code": error.code, "message": str(error)}
    except Exception as error:  # noqa: BLE001  it is told on, without its text
        if is_out_of_memory(error):
            raise MemoryError from None
        raise RuntimeError(redacted_error(error)) from None
    return {
        "event": "answered",
        "prompt": without_marks(prompt),
        "prompt_tokens": tokens,
        "base": asdict(of_base),
        "adapted": asdict(adapted),
    }


def redacted_error(error: Exception) -> str:
    """The type, and the path to the line; a library's own message may quote the prompt."""
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    return f"{type(error).__name__} at {' > '.join(places[-4:])}"
