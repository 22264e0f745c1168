"""In place of a language model: a child that does what the question says. Imported by the launcher."""

import json
import os
import signal
import time


class BaseChanged(Exception):
    code = "base_changed"


class BaseUnusable(Exception):
    code = "base_model_unusable"


def run(folder, on_event):
    if (folder / "base" / "unusable").exists():
        raise BaseUnusable("The base model cannot be loaded: it is a potato.")
    if (folder / "base" / "slow").exists():
        signal.pause()
    on_event({"event": "loaded"})
    with (folder / "questions").open(encoding="utf-8") as questions:
        for number, line in enumerate(questions, start=1):
            asked = json.loads(line)
            on_event(FAKE_ANSWERS.get(asked["input"], answer)(folder, asked, number))
            if asked["input"] == "spoil the base":
                raise BaseChanged("It was changed.")
            on_event({"event": "unchanged"})


def answer(folder, asked, number):
    """Tell who answers, for the how manieth time, and which files it was given."""
    files = sorted(path.name for path in (folder / asked["adapter"]).iterdir())
    said = {"text": f"{os.getpid()} {number} {' '.join(files)}", **NUMBERS}
    base = {"text": "plain", **NUMBERS}
    prompt = asked["template"].replace("{input}", asked["input"])
    return {"event": "answered", "prompt": prompt, "prompt_tokens": 3, "base": base, "adapted": said}


def decline(folder, asked, number):
    return {"event": "declined", "code": "prompt_too_long", "message": "The prompt is too long. Shorten it."}


def crash(folder, asked, number):
    signal.raise_signal(signal.SIGKILL)


def leave(folder, asked, number):
    os._exit(0)


def hang(folder, asked, number):
    time.sleep(600)


def think(folder, asked, number):
    time.sleep(3)
    return answer(folder, asked, number)


def break_down(folder, asked, number):
    raise ZeroDivisionError("nobody foresaw this")


def eat_memory(folder, asked, number):
    bytearray(2 * 1024**3)


NUMBERS = {"tokens": 1, "seconds": 0.01, "is_out_of_time": False, "is_full": False}
FAKE_ANSWERS = {
    "decline": decline,
    "crash": crash,
    "leave": leave,
    "hang": hang,
    "think for 3 s": think,
    "break down": break_down,
    "eat memory": eat_memory,
}
