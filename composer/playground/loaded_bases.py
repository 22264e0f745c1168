"""The worker's side of the bases that stay loaded: who is there, who is asked, who leaves.

Each lives in a child of the launcher and has a folder: its base, a pipe of questions, and the adapter
that is being tried. The worker computes nothing and never imports torch.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub_site.jobs.child_folder import remove_folder
from hub_site.jobs.children import Child, ChildBroke, Launcher
from hub_site.jobs.sandbox import Limits

BASE_FOLDER, ADAPTER_FOLDER, QUESTIONS = "base", "adapter", "questions"
TICK_S = 0.25
LOAD_TIMEOUT_S = 180.0  # of a base from the disk, the launcher's own imports included
SETTLE_TIMEOUT_S = 60.0  # of hashing a base of several gigabytes
SPARE_S = 10.0  # beyond both answers' own limits: reading a prompt and an adapter
ANSWERS_MAX = 300  # then a base starts afresh, so that nothing piles up in it

PutFiles = Callable[[Path], None]
OnTick = Callable[[], None]  # called several times a second while we wait; it may raise to end the wait


class TimedOut(Exception):
    """The child took longer than it may, and its own clock did not end it."""

    code = "timed_out"
    sentence = "The answer took too long, so it was stopped. Try a shorter prompt or fewer new tokens."

    def __init__(self) -> None:
        super().__init__(self.sentence)


class LoadTimedOut(TimedOut):
    """The base was not in memory in time; nothing that was asked is at fault."""

    code = "load_timed_out"
    sentence = (
        f"The base model was not loaded within {LOAD_TIMEOUT_S:.0f} s, so we stopped waiting for it. "
        "Ask again in a few minutes; if this lasts, tell the site's operator."
    )


@dataclass(frozen=True)
class Question:
    """What a base is asked, and the name and the files of the adapter that answers beside it."""

    input: str
    template: str
    name: str
    max_new_tokens: int
    limit_s: float  # for each of the two answers
    put_adapter: PutFiles


class LoadedBase:
    """One base. It starts with its first question, after a crash, and after every ANSWERS_MAX answers."""

    def __init__(self, folder: Path, launcher: Launcher, limits: Limits) -> None:
        self._folder, self._launcher, self._limits = folder, launcher, limits
        self._child: Child | None = None
        self._events: Iterator[dict[str, Any] | None] = iter(())
        self._questions = -1  # our end of the pipe
        self._answers = 0
        self.is_busy = False

    @property
    def is_loaded(self) -> bool:
        return self._child is not None and not self._child.is_gone()

    def start(self, put_base: PutFiles, on_tick: OnTick) -> None:
        """Load the base, unless it stands ready."""
        if self.is_loaded:
            return
        self.unload()
        self._folder.mkdir(parents=True, mode=0o700)
        put_base(self._folder / BASE_FOLDER)
        os.mkfifo(self._folder / QUESTIONS, mode=0o600)
        # Read and write: so that neither opening nor writing waits for the child.
        self._questions = os.open(self._folder / QUESTIONS, os.O_RDWR | os.O_CLOEXEC)
        self._child = self._launcher.start_child(self._folder, self._limits)
        self._events = self._child.events(TICK_S)
        self._wait_for_event({"loaded"}, LOAD_TIMEOUT_S, on_tick, late=LoadTimedOut)

    def ask(self, question: Question, on_tick: OnTick) -> Mapping[str, Any]:
        """The event "answered", or "declined" with its code and message. Settle afterwards, or leave.

        Raises:
            ChildError, TimedOut, or whatever `on_tick` raises: the base must leave.
        """
        asked = {
            "input": question.input,
            "template": question.template,
            "name": question.name,
            "adapter": ADAPTER_FOLDER,
            "max_new_tokens": question.max_new_tokens,
            "limit_s": question.limit_s,
        }
        try:
            question.put_adapter(self._folder / ADAPTER_FOLDER)
            # The pipe is empty and holds 64 KB, more than any question has: this never waits.
            os.write(self._questions, json.dumps(asked, ensure_ascii=False).encode() + b"\n")
            self._answers += 1
            return self._wait_for_event({"answered", "declined"}, 2 * question.limit_s + SPARE_S, on_tick)
        finally:
            remove_folder(self._folder / ADAPTER_FOLDER)

    def wait_until_unchanged(self, on_tick: OnTick) -> None:
        """Wait until the child has found its base unchanged.

        Raises:
            ChildRefused: it was changed; the base must leave.
        """
        self._wait_for_event({"unchanged"}, SETTLE_TIMEOUT_S, on_tick)
        if self._answers >= ANSWERS_MAX:
            self.unload()

    def unload(self) -> None:
        """End the child and clear its folder; the next question starts another. Harmless twice."""
        if self._child is not None:
            self._child.kill()
            os.close(self._questions)
            self._child, self._questions, self._answers = None, -1, 0
        remove_folder(self._folder)

    def _wait_for_event(
        self, wanted: set[str], timeout_s: float, on_tick: OnTick, late: type[TimedOut] = TimedOut
    ) -> Mapping[str, Any]:
        deadline = time.monotonic() + timeout_s
        for event in self._events:
            if event is not None and event["event"] in wanted:
                return event
            on_tick()
            if time.monotonic() > deadline:
                raise late
        raise ChildBroke("The child ended by itself, without an answer.")


class LoadedBases:
    """At most `most` bases at once, each for one question at a time; the least recently used one leaves."""

    def __init__(self, folder: Path, launcher: Launcher, limits: Limits, most: int) -> None:
        self._folder, self._launcher, self._limits, self._most = folder, launcher, limits, most
        self._by_key: dict[str, LoadedBase] = {}  # the least recently used first
        self._changed = threading.Condition()

    @contextmanager
    def hold_base(self, key: str, on_tick: OnTick) -> Iterator[LoadedBase]:
        """The base with this key, once it is free and may be loaded; nobody else can use it meanwhile."""
        loaded_base = self._take(key, on_tick)
        try:
            yield loaded_base
        finally:
            with self._changed:
                loaded_base.is_busy = False
                self._changed.notify_all()

    def is_free(self, key: str) -> bool:
        """Whether a question would be taken at once."""
        loaded_base = self._by_key.get(key)
        if loaded_base is not None:
            return not loaded_base.is_busy
        return len(self._by_key) < self._most or any(not each.is_busy for each in self._by_key.values())

    def keys(self) -> list[str]:
        with self._changed:
            return list(self._by_key)

    def unload_all(self) -> None:
        """Unload all of them; a question that is still being answered fails."""
        with self._changed:
            for loaded_base in self._by_key.values():
                loaded_base.unload()
            self._by_key.clear()

    def _take(self, key: str, on_tick: OnTick) -> LoadedBase:
        with self._changed:
            while not self.is_free(key):
                self._changed.wait(TICK_S)
                on_tick()
            loaded_base = self._by_key.pop(key, None) or self._make_base(key)
            loaded_base.is_busy = True
            self._by_key[key] = loaded_base  # the most recently used last
            return loaded_base

    def _make_base(self, key: str) -> LoadedBase:
        if len(self._by_key) >= self._most:
            oldest = next(key for key, each in self._by_key.items() if not each.is_busy)
            self._by_key.pop(oldest).unload()
        return LoadedBase(self._folder / key, self._launcher, self._limits)
