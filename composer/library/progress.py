"""The progress of a job: one line on a terminal, a bar in a notebook, a line per stage in a log, warnings."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from composer.library.job_folder import OnEvent

PACKAGE = __name__.partition(".")[0]
BAR_WIDTH = 30
PROMPT_BEGIN, PROMPT_END = 60, 120  # characters shown of a long prompt; its end is where templates differ
USUAL_COLUMNS = 80  # of a terminal that does not tell
START_OF_LINE = "\r\033[K"  # and nothing left on it


@contextmanager
def shown_progress(is_wanted: bool) -> Iterator[OnEvent]:
    """Yield what draws the events of a job on a terminal or in a notebook; elsewhere it tells warnings alone.

    On exit, also after an error or Ctrl-C, the line or the bar is gone.
    """
    draw = as_warnings()
    if is_wanted and is_notebook():
        draw = notebook_bar()
    elif is_wanted and sys.stderr.isatty():
        draw = progress_line()
    try:
        yield draw
    finally:
        draw({"event": "done"})


def as_warnings() -> OnEvent:
    """Return what tells the caller of a job's warnings, as the filters are now."""
    filters = warnings.filters

    def draw(event: dict[str, Any]) -> None:
        if event["event"] == "warning":
            with warnings.catch_warnings():
                warnings.filters = filters
                warn_caller(event["text"])

    return draw


def warn_caller(*texts: str) -> None:
    """Warn of each text at the line that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        level, frame = level + 1, frame.f_back
    for text in texts:
        warnings.warn(text, stacklevel=level)


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def say_stage(event: dict[str, Any]) -> None:
    """Write a line for each stage: for a log or a pipe, where no line can be drawn anew."""
    if event["event"] == "stage":
        print(event["text"], file=sys.stderr, flush=True)
    elif event["event"] in SAID:
        say_line(SAID[event["event"]](event))


def left_out_text(name: str, reason: str) -> str:
    """Return a sentence on a module that takes no part; the reason is the end of a sentence."""
    return f"{name} was left out: it {reason.rstrip('.')}."


def prompt_line(event: dict[str, Any]) -> str:
    """Return what the model reads of the first example, in one line with line breaks as \\n."""
    prompt, answer = event["prompt"], event["answer"]
    if len(prompt) > PROMPT_BEGIN + PROMPT_END:
        prompt = f"{prompt[:PROMPT_BEGIN]} … {prompt[-PROMPT_END:]}"
    if len(answer) > PROMPT_END:
        answer = f"{answer[:PROMPT_END]} …"
    return (
        f"prompt: {prompt!r} answer: {answer!r} (template {event['template']!r}: {event['reason']}; "
        f"{event['prompt_tokens']} and {event['answer_tokens']} tokens)"
    )


# Events that are told in a line which stays.
SAID: dict[str, Callable[[dict[str, Any]], str]] = {
    "warning": lambda event: f"warning: {event['text']}",
    "prompt": prompt_line,
}


def say_line(sentence: str) -> None:
    """Write a line that stays; on a terminal the progress goes on below it."""
    begin = START_OF_LINE if sys.stderr.isatty() else ""
    print(f"{begin}composer: {sentence}", file=sys.stderr, flush=True)


def progress_line() -> OnEvent:
    """Return what draws stages and steps on one line of the terminal."""
    stage, done = "", set[str]()

    def draw(event: dict[str, Any]) -> None:
        nonlocal stage
        if event["event"] == "stage":
            stage = event["text"]
            done.clear()
            redraw(stage)
        elif event["event"] in SAID:
            say_line(SAID[event["event"]](event))
        elif parts := parts_done(event):
            done.update(parts)
            redraw(f"{stage}: {len(done)} done")
        elif event["event"] == "step":
            filled = BAR_WIDTH * event["step"] // event["budget"]
            bar = "#" * filled + "." * (BAR_WIDTH - filled)
            redraw(f"[{bar}] {event['step']}/{event['budget']}  best loss {event['best_loss']:.3f}")
        elif event["event"] == "done":
            redraw("")

    return draw


def notebook_bar() -> OnEvent:
    """Return what draws stages and steps as one bar of tqdm, which comes with transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that ipywidgets is missing: the bar is text then
        from tqdm.auto import tqdm

        bar: Any = tqdm(bar_format="{desc} {bar} {n_fmt}/{total_fmt} {postfix}", leave=False)
    done = set[str]()

    def draw(event: dict[str, Any]) -> None:
        if event["event"] == "stage":
            done.clear()
            bar.set_postfix_str("", refresh=False)
            bar.set_description_str(event["text"], refresh=False)
            advance(bar, 0, None)
        elif event["event"] in SAID:
            bar.write(SAID[event["event"]](event))
        elif parts := parts_done(event):
            done.update(parts)
            advance(bar, len(done), event.get("of"))
        elif event["event"] == "step":
            bar.set_postfix_str(f"best loss {event['best_loss']:.3f}", refresh=False)
            advance(bar, event["step"], event["budget"])
        elif event["event"] == "done":
            bar.close()

    return draw


def advance(bar: Any, done: int, total: int | None) -> None:
    """Draw a bar of tqdm anew, with so many done of a total that may be unknown."""
    bar.total, bar.n = total, done
    bar.refresh()


def parts_done(event: dict[str, Any]) -> set[str]:
    """Of a stage without steps: the modules that were tried, or the baseline that was measured."""
    if event["event"] == "alone":
        return {row["name"] for row in event["modules"]}
    return {event["key"]} if event["event"] == "baseline" else set()


def redraw(line: str) -> None:
    """Draw the terminal's last line anew; what does not fit is cut off, for a second line would stay."""
    columns = os.get_terminal_size(sys.stderr.fileno()).columns or USUAL_COLUMNS
    print(f"{START_OF_LINE}{line[: columns - 1]}", end="", file=sys.stderr, flush=True)
