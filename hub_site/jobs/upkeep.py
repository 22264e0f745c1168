"""What each machine does for its own data folder: one process of those that share the folder, from a thread.

What is in the database, or in a store that machines share, the tasks of the scheduler look after.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from celery.signals import worker_ready
from django.conf import settings
from django.db import connection

from hub_site.common.operator_texts import log_failure
from hub_site.jobs.work import forget_connection
from hub_site.jobs.worker import stopping

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 5.0  # at which duties are due, and whether another process does them


@dataclass
class Duty:
    """Something to do on every machine, again and again."""

    do: Callable[[], object]
    every_s: float
    due_at: float = 0.0  # of time.monotonic()


class Upkeep:
    """The duties, in the order in which they were added."""

    def __init__(self) -> None:
        self.duties: list[Duty] = []
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def add(self, do: Callable[[], object], *, every_s: float) -> None:
        self.duties.append(Duty(do, every_s))

    def start(self) -> None:
        """Do the duties from a thread until this process ends; harmless if it does so already."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
                self._thread.start()

    def do_due(self) -> None:
        """Do what is due now. A duty that fails is logged, and keeps no other one from being done."""
        for duty in self.duties:
            if duty.due_at > time.monotonic():
                continue
            duty.due_at = time.monotonic() + duty.every_s
            try:
                duty.do()
            except Exception as error:  # noqa: BLE001  whatever it is, the log has it
                log_failure(logger, f"the upkeep of this machine failed: {duty.do}", error)
                forget_connection()

    def _run(self) -> None:
        descriptor = os.open(lock_file(), os.O_RDWR | os.O_CREAT, 0o600)
        is_ours = False
        while True:
            is_ours = is_ours or take_lock(descriptor)
            if is_ours:
                self.do_due()
                connection.close()  # the next duty may be far away
            if stopping.wait(LOOK_EVERY_S):
                os.close(descriptor)  # another process goes on
                return


def lock_file() -> Path:
    folder = Path(settings.HUB_DATA) / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / "upkeep.lock"


def take_lock(descriptor: int) -> bool:
    """Whether this process looks after the folder now. The lock ends with the process, however that ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


upkeep = Upkeep()


@worker_ready.connect  # type: ignore[untyped-decorator]  # Celery has no types
def start_with_every_worker(**_: object) -> None:
    upkeep.start()
