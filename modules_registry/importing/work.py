"""How a worker holds an import of either kind: claimed, kept alive by beats, closed by what came of it."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from django.conf import settings

from hub_site.common.errors import Refusal
from hub_site.jobs import leases
from hub_site.jobs.models import Job, Status
from modules_registry.storage import StorageError

logger = logging.getLogger(__name__)
Row = TypeVar("Row", bound=Job)

WORKER = f"{socket.gethostname()}:{os.getpid()}"
BEAT_S = 1.0
stopping = threading.Event()


class Cancelled(Exception):
    """Whoever asked for it does not want it any more."""


class Stopping(Exception):
    """The worker is asked to end: another one shall have the job."""


class Patience:
    """Waiting while a job is ours. Args: on_beat: called with every beat, to store how far it is."""

    def __init__(self, job: Job, on_beat: Callable[[], None] = lambda: None) -> None:
        self.job, self.on_beat, self.next_beat = job, on_beat, 0.0

    def beat(self) -> None:
        """Keep the job ours, or raise Cancelled."""
        self.next_beat = time.monotonic() + BEAT_S
        self.on_beat()
        if leases.beat(self.job):
            raise Cancelled

    def wait(self, seconds: float) -> None:
        """Sleep in short pieces; beat, and raise whatever is a reason to stop."""
        until = time.monotonic() + seconds
        while True:
            if time.monotonic() >= self.next_beat:
                self.beat()
            if stopping.is_set():
                raise Stopping
            if time.monotonic() >= until:
                return
            time.sleep(min(BEAT_S, until - time.monotonic()))


def carry(model: type[Row], job_id: UUID, work: Callable[[Row], None]) -> None:
    """Carry a job to its end, or go on where another worker left it. Harmless when it is taken or gone."""
    job = leases.claim(model, job_id, worker=WORKER)
    if job is None:
        logger.info("%s %s is taken, finished or gone", model.__name__, job_id)
        return
    try:
        attempt(job, work)
    except leases.LeaseLost:
        logger.warning("%s %s went to another worker; nothing more is written", model.__name__, job_id)


def attempt(job: Row, work: Callable[[Row], None]) -> None:
    try:
        work(job)
        leases.finish(job, Status.DONE)
    except Cancelled:
        leases.finish(job, Status.CANCELLED)
    except Stopping:
        leases.let_go(job)
    except (Refusal, StorageError) as refusal:
        leases.finish(job, Status.FAILED, error_code=refusal.code, error_message=str(refusal))
    except leases.LeaseLost:
        raise
    except Exception:
        leases.finish(
            job, Status.FAILED, error_code="broken", error_message="Something broke on our side. Try again."
        )
        raise


def imports_folder() -> Path:
    folder = Path(settings.HUB_DATA) / "imports"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
