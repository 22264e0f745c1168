"""The threads of a worker that take jobs by their rows, several at a time; one is kept for quick jobs.

A message from the queue only ends their wait; without one they look again every second, so that neither a
lost message nor a busy worker that got it keeps a job waiting.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.db import connection

from hub_site.common.operator_texts import log_failure
from hub_site.jobs.work import forget_connection
from hub_site.jobs.worker import stopping

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0
STOP_TIMEOUT_S = 10.0


class Slots:
    """The places of one worker process, for jobs that know their lane: `is_quick`.

    Args:
        count: the jobs at once, at least 2. At most count - 1 of them are long, so that a quick job
            never waits for a long one.
        claim: takes the next job of a lane, quick or long; None if none waits.
        do: does a claimed job.
    """

    def __init__(self, count: int, claim: Callable[[bool], Any], do: Callable[[Any], None]) -> None:
        self.count, self.claim, self.do = count, claim, do
        self.lock = threading.Lock()
        self.waiting = threading.Condition()
        self.long_running = 0
        self.threads: list[threading.Thread] = []
        self.after_each: Callable[[], None] = lambda: None

    def start(self, after_each: Callable[[], None]) -> None:
        """Take jobs from now on, and call `after_each` after every one."""
        self.after_each = after_each
        self.threads = [threading.Thread(target=self.serve, daemon=True) for _ in range(self.count)]
        for thread in self.threads:
            thread.start()

    def wake(self) -> None:
        """Let the threads that wait look for a job now."""
        with self.waiting:
            self.waiting.notify_all()

    def join(self) -> None:
        """Wait until all threads have handed back what they had; `stopping` is set."""
        self.wake()
        for thread in self.threads:
            thread.join(STOP_TIMEOUT_S)

    def are_alive(self) -> bool:
        """Whether every thread that was started still takes jobs."""
        return all(thread.is_alive() for thread in self.threads)

    def serve(self) -> None:
        """One thread: job after job, until the worker ends."""
        while not stopping.is_set():
            if not self.serve_once():
                with self.waiting:
                    self.waiting.wait(LOOK_EVERY_S)
        connection.close()

    def serve_once(self) -> bool:
        """Do the job whose turn it is; returns whether there was one. Errors go to the log alone."""
        try:
            job = self.take()
        except Exception as error:  # noqa: BLE001  whatever it is, the log has it
            log_failure(logger, "no job could be looked for", error)
            forget_connection()
            return False
        if job is None:
            return False
        self.do_and_log(self.do, job)
        self.leave(job)
        self.do_and_log(lambda _: self.after_each(), job)
        return True

    def do_and_log(self, do: Callable[[Any], None], job: Any) -> None:
        try:
            do(job)
        except Exception as error:  # noqa: BLE001  whatever it is, the log has it
            log_failure(logger, f"{job} broke", error)
            forget_connection()

    def take(self) -> Any:
        """The next long job while a place is left for them, else the next quick one.

        The long lane comes first in its own places: quick jobs have the last one to themselves.
        """
        with self.lock:
            job = self.claim(False) if self.has_long_place() else None
            job = job or self.claim(True)
            if job is not None and not job.is_quick:
                self.long_running += 1
            return job

    def leave(self, job: Any) -> None:
        with self.lock:
            if not job.is_quick:
                self.long_running -= 1

    def move_to_long(self, job: Any) -> bool:
        """Count a running quick job as long from now on; False if no place is left for it."""
        with self.lock:
            if not self.has_long_place():
                return False
            self.long_running += 1
            job.is_quick = False
            return True

    def has_long_place(self) -> bool:
        return self.long_running < self.count - 1
