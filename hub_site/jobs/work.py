"""The one loop of every job with a lease: claim it, keep it meanwhile, close its row by the outcome.

An app gives the work, and says in a JobKind how its jobs differ in their ends. `attempt` decides the outcome.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db import connection

from hub_site.common.errors import Refusal
from hub_site.common.operator_texts import log_failure
from hub_site.common.site_faults import DATABASE_FAULTS, SENTENCES, site_fault_code
from hub_site.jobs import leases
from hub_site.jobs.children import ChildDied, ChildRefused
from hub_site.jobs.models import LEASE, Job, Status
from hub_site.jobs.requests import request_of
from hub_site.jobs.worker import stopping
from hub_site.logs import belongs_to

logger = logging.getLogger(__name__)
JobType = TypeVar("JobType", bound=Job)

WORKER = f"{socket.gethostname()}:{os.getpid()}"
HEARTBEAT_S = 1.0  # how often the lease is prolonged and a cancellation read
BROKEN_MESSAGE = "Something went wrong on this site. Try again."
BROKEN_MESSAGE_WITH_PAGE = (  # of a job that has a page of its own
    "Something went wrong on this site. Try again; if it fails again, tell the site's operator this address."
)


class Cancelled(Exception):
    """The owner does not want the job any more."""


class HandBack(Exception):
    """The job goes back to the queue. Nothing is wrong with it: a worker tries it again.

    Args:
        delay_s: the earliest time of the next try, in seconds from now.
        fields: columns of the row that are written with it.
    """

    def __init__(self, *, delay_s: float = 0, **fields: Any) -> None:
        super().__init__()
        self.delay_s, self.fields = delay_s, fields


class Stopping(HandBack):
    """The worker is asked to end."""


@dataclass(frozen=True)
class JobKind(Generic[JobType]):
    """Where jobs of one model differ from others in how they end.

    Attributes:
        passing: the app's own errors that are a fault of the site: the job waits for their end. Each has a
            `code`, and a `sentence` that tells the page's reader the fault and asks for nothing.
        refusals: errors that are a refusal, beside Refusal and ChildRefused. Each has a `code`, and its
            message is for the page's reader.
        sentences: by code, what the reader is told in place of a refusal's own message.
        broken_message: what the reader is told of an unforeseen error.
        on_cancelled: called after the row was closed as cancelled.
    """

    model: type[JobType]
    passing: tuple[type[Exception], ...] = ()
    refusals: tuple[type[Exception], ...] = ()
    sentences: Mapping[str, str] = field(default_factory=dict)
    broken_message: str = BROKEN_MESSAGE
    on_cancelled: Callable[[JobType], None] = lambda job: None

    def site_fault(self, error: Exception) -> tuple[str, str] | None:
        return find_site_fault(error, self.passing)

    @property
    def every_refusal(self) -> tuple[type[Exception], ...]:
        return (Refusal, ChildRefused, *self.refusals)


def find_site_fault(error: Exception, passing: tuple[type[Exception], ...]) -> tuple[str, str] | None:
    """Return the code and the sentence of a fault of the site; None for any other error.

    A refusal that was raised from such a fault is one too, and so is one that has the code of such a fault.

    Args:
        passing: as in JobKind.
    """
    for cause in filter(None, (error, error.__cause__)):
        if isinstance(cause, passing):
            return str(getattr(cause, "code", "")), str(getattr(cause, "sentence", cause))
        if isinstance(cause, Refusal) and cause.code in SENTENCES:
            return cause.code, cause.message
        if code := site_fault_code(cause):
            return code, SENTENCES[code]
    return None


def run_job(kind: JobKind[JobType], job_id: UUID, work: Callable[[JobType], None]) -> None:
    """Do a job, or go on where another worker left it. Harmless when it is taken, finished or gone."""
    job = leases.claim(kind.model, job_id, worker=WORKER)
    if job is None:
        logger.info("%s %s is taken, finished, gone or not due", kind.model.__name__, job_id)
        return
    run_claimed(kind, job, work)


def run_claimed(kind: JobKind[JobType], job: JobType, work: Callable[[JobType], None]) -> None:
    """Do a job that this worker has claimed. What is logged meanwhile names it and its request."""
    with belongs_to(request=request_of(job.pk), job=name_of(job)):
        log_begin(job)
        try:
            attempt(kind, job, work)
        except leases.LeaseLost:
            logger.warning("%s went to another worker; nothing more is written", name_of(job))


def log_begin(job: Job) -> None:
    begun = "begun" if job.generation == 1 else "goes on"
    taken_over = f", taken over from worker {job.taken_over_from}" if job.taken_over_from else ""
    logger.info("%s %s by worker %s%s", name_of(job), begun, WORKER, taken_over)


def attempt(kind: JobKind[JobType], job: JobType, work: Callable[[JobType], None]) -> None:
    """Do the work and close the row by what came of it.

    This is the only place that decides what becomes of a job. Work that stores a result may close the row as
    done by itself, in the transaction of the result.
    """
    try:
        work(job)
        if job.status == Status.RUNNING:
            leases.finish(job, Status.DONE)
    except leases.LeaseLost:
        raise
    except Cancelled:
        leases.finish(job, Status.CANCELLED)
        kind.on_cancelled(job)
    except HandBack as back:
        logger.info("%s handed back by worker %s", name_of(job), WORKER)
        leases.hand_back(job, delay_s=back.delay_s, **back.fields)
    except ChildDied as death:
        close_after_death(job, death)
    except Exception as error:
        if not close_after_error(kind, job, error):
            raise  # Celery logs it with the traceback


def close_after_death(job: Job, death: ChildDied) -> None:
    """Count a crash, unless this worker is asked to end: then whatever ends it may have ended the child."""
    logger.error("%s: %s", name_of(job), death)
    if stopping.is_set():
        leases.hand_back(job)
    else:
        leases.count_crash(job)


def close_after_error(kind: JobKind[JobType], job: JobType, error: Exception) -> bool:
    """Put the job off for a fault of the site, or fail it; returns whether it was foreseen."""
    if fault := kind.site_fault(error):
        put_off(job, *fault, error)
    elif isinstance(error, kind.every_refusal):
        refuse(kind, job, error)
    else:
        leases.finish(job, Status.FAILED, error_code="broken", error_message=kind.broken_message)
        return False
    return True


def put_off(job: Job, code: str, sentence: str, error: Exception) -> None:
    """Hand the job back for a fault of the site, as soon as the database takes that down.

    If the database does not come back within a lease, the sweeper hands the job back instead.
    """
    logger.warning("%s waits: %s: %s", name_of(job), code, describe(error))
    until = time.monotonic() + LEASE.total_seconds()
    while True:
        try:
            leases.put_off(job, code=code, reason=sentence)
            return
        except DATABASE_FAULTS:
            forget_connection()
            if time.monotonic() > until or stopping.wait(HEARTBEAT_S):
                raise


def refuse(kind: JobKind[JobType], job: JobType, refusal: Any) -> None:
    """Close the row as failed, with the refusal's code and a sentence for the page's reader."""
    message = kind.sentences.get(refusal.code, str(refusal))
    logger.warning("%s refused: %s: %s", name_of(job), refusal.code, describe(refusal))
    leases.finish(job, Status.FAILED, error_code=refusal.code, error_message=message)


def describe(error: BaseException) -> str:
    """The error for the log, with the sha256 of the stored file that it is about."""
    sha256 = getattr(error, "sha256", "") or getattr(error.__cause__, "sha256", "")
    return f"{error} (sha256 {sha256})" if sha256 else str(error)


def name_of(job: Job) -> str:
    """How the log calls a job."""
    return f"{type(job).__name__} {job.pk}"


# --- keeping the lease --------------------------------------------------------


class HeldJob:
    """A claimed job, for work that can look up between two steps: it prolongs the lease and says when to end.

    Args:
        on_beat: called after every beat; it may raise a reason of its own to end the work.
    """

    def __init__(self, job: Job, on_beat: Callable[[], None] = lambda: None) -> None:
        self.job, self.on_beat, self.next_beat = job, on_beat, 0.0

    def renew(self) -> None:
        """Prolong the lease now. Raises Cancelled or LeaseLost."""
        self.next_beat = time.monotonic() + HEARTBEAT_S
        if renew_lease(self.job):
            raise Cancelled
        self.on_beat()

    def check(self) -> None:
        """Prolong the lease if it is time to. Raises Cancelled, LeaseLost or Stopping."""
        if time.monotonic() >= self.next_beat:
            self.renew()
        raise_if_stopping()

    def wait(self, seconds: float) -> None:
        """Check, and go on checking for so long. Raises as `check` does."""
        until = time.monotonic() + seconds
        self.check()
        while (left := until - time.monotonic()) > 0:
            stopping.wait(min(HEARTBEAT_S, left))
            self.check()


def renew_lease(job: Job) -> bool:
    """Prolong the lease, over a new connection if the old one was dropped; returns as leases.renew_lease."""
    try:
        return leases.renew_lease(job)
    except DATABASE_FAULTS:
        forget_connection()
        return leases.renew_lease(job)


def forget_connection() -> None:
    """Close the connection to the database, so that the next query opens a new one."""
    if not connection.in_atomic_block:
        connection.close()


@contextmanager
def keep_lease(job: Job, *, hands_back: bool = True) -> Iterator[None]:
    """Prolong the lease from a thread, for work that waits where it cannot look up, as in a transfer.

    When the worker is asked to end, the thread hands the job back at once: what the work writes afterwards
    raises LeaseLost.

    Args:
        hands_back: False for work that is almost done, as to store a result: it ends as if nothing were.
    """
    done = threading.Event()

    def beat() -> None:
        try:
            while not done.wait(HEARTBEAT_S):
                if hands_back and stopping.is_set():
                    leases.hand_back(job)
                    return
                try:
                    leases.renew_lease(job)
                except leases.LeaseLost:
                    raise
                except Exception as error:  # noqa: BLE001  whatever it is, the log has it
                    log_failure(logger, f"{name_of(job)}: its lease was not prolonged", error)
                    forget_connection()  # the next beat tries again, as long as the lease lasts
        except leases.LeaseLost:
            return  # the work's next write raises it too
        finally:
            connection.close()

    thread = threading.Thread(target=copy_context().run, args=(beat,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def raise_if_stopping() -> None:
    """Raise Stopping once the worker is asked to end."""
    if stopping.is_set():
        raise Stopping
