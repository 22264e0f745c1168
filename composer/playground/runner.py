"""The worker's side of one question: from its row to its row. It never computes and never imports torch.

Texts stay out of the log: a question is called by its id. A question is no job of hub_site.jobs.work, with a
lease: somebody waits for the answer, so it is claimed once its base is free and not repeated after a crash.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Now

from composer.playground import selectors
from composer.playground.loaded_bases import ANSWERS_MAX, LoadedBase, LoadedBases, Question, TimedOut
from composer.playground.models import GIVEN_UP_AFTER, KEPT, TryOut
from hub_site.common.clock import database_now
from hub_site.jobs.child_folder import remove_folder
from hub_site.jobs.children import ChildDied, ChildRefused, Launcher
from hub_site.jobs.models import Status
from hub_site.jobs.requests import request_of
from hub_site.jobs.sandbox import Limits
from hub_site.jobs.tallies import count_ends
from hub_site.jobs.work import (
    BROKEN_MESSAGE_WITH_PAGE,
    WORKER,
    Stopping,
    describe,
    find_site_fault,
    forget_connection,
    raise_if_stopping,
)
from hub_site.logs import belongs_to
from modules_registry.blobs import store
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE
from modules_registry.models import BaseModel
from modules_registry.storage import PASSING_ERRORS, StorageError

logger = logging.getLogger(__name__)

REQUEUE_AFTER = timedelta(seconds=10)  # a question that waits longer is queued again: its message may be lost
ALIVE_EVERY_S = 2.0
CRASHED = (
    "The model crashed over this question and is started again. "
    "If it crashes once more, the question cannot be answered: change it."
)
SENTENCES = {
    "out_of_memory": "The answer needed more memory than it may have. Try a shorter prompt.",
    "base_changed": "The base model in memory was changed, so it was discarded. Ask again.",
}


class Gone(Exception):
    """Its row is: the module or the account was deleted, or it was closed as interrupted."""


@cache
def launcher() -> Launcher:
    """One per worker process, of its own: it need not import what composing needs."""
    return Launcher(
        preload="composer.playground.child",
        call="composer.playground.child:run",
        root=settings.BASE_DIR,
        threads=settings.HUB_THREADS,
    )


@cache
def loaded_bases() -> LoadedBases:
    return LoadedBases(
        own_folder(),
        launcher(),
        Limits(
            memory_mb=settings.HUB_TRY_MEMORY_MB,
            cpu_s=ANSWERS_MAX * 2 * settings.HUB_TRY_ANSWER_S * settings.HUB_THREADS,
        ),
        most=settings.HUB_TRY_BASES,
    )


def start_launcher() -> None:
    """Import torch in it before anybody asks."""
    remove_folder(own_folder())  # of an earlier process that had our number
    remove_orphaned_folders()
    launcher().start()


def stop_launcher() -> None:
    loaded_bases().unload_all()
    launcher().stop()


def own_folder() -> Path:
    return residents_folder() / f"{socket.gethostname()}-{os.getpid()}"


def residents_folder() -> Path:
    return Path(settings.HUB_DATA) / "residents"


def tryout_run(tryout_id: UUID) -> None:
    """Answer one question. Harmless when it is answered, gone, or nobody waits for it any more."""
    tryout = selectors.to_answer(tryout_id)
    if tryout is None:
        logger.info("try-out %s is answered, gone, or nobody waits for it", tryout_id)
        return
    with belongs_to(request=request_of(tryout.pk), job=f"try-out {tryout.pk}"):
        answer_in_turn(tryout)


def answer_in_turn(tryout: TryOut) -> None:
    """Answer it once its base is free."""
    try:
        with loaded_bases().hold_base(key_of(tryout.base), raise_if_stopping) as loaded_base:
            if claim(tryout, is_cold=not loaded_base.is_loaded):
                answer(tryout, loaded_base)
    except Stopping:
        requeue(tryout)


def key_of(base: BaseModel) -> str:
    return f"{base.pk}-{base.revision[:12]}"


def claim(tryout: TryOut, *, is_cold: bool) -> bool:
    """Take it from the queue; False if another worker has it, or whoever asked has left."""
    now = Now()
    waiting = TryOut.objects.waiting().filter(pk=tryout.pk)
    is_ours = bool(waiting.update(status=Status.RUNNING, is_cold=is_cold, started_at=now, alive_at=now))
    if is_ours:
        logger.info("try-out %s begun by worker %s", tryout.pk, WORKER)
    return is_ours


def requeue(tryout: TryOut) -> None:
    TryOut.objects.filter(pk=tryout.pk, status=Status.RUNNING).update(status=Status.QUEUED, alive_at=None)


def answer(tryout: TryOut, loaded_base: LoadedBase) -> None:
    """Ask the base, and close the row by what came of it. A base that did not end well leaves."""
    keep_alive = still_ours(tryout)
    try:
        close(tryout, ask(tryout, loaded_base, keep_alive))
        loaded_base.wait_until_unchanged(raise_if_stopping)
    except (Stopping, Gone) as reason:
        loaded_base.unload()
        if isinstance(reason, Stopping):
            raise
    except Exception as error:
        if not isinstance(error, StorageError):  # then the base was not asked
            loaded_base.unload()
        if not close_after_error(tryout, error):
            raise  # Celery logs it with the traceback


def close_after_error(tryout: TryOut, error: Exception) -> bool:
    """Put the question back for a fault of the site, or fail it; returns whether the error was foreseen."""
    if fault := find_site_fault(error, PASSING_ERRORS):
        put_off(tryout, *fault, error)
    elif isinstance(error, StorageError):
        logger.warning("try-out %s: %s: %s", tryout.pk, error.code, describe(error))
        fail(tryout, error.code, str(error))
    elif isinstance(error, TimedOut | ChildRefused):
        fail(tryout, error.code, SENTENCES.get(error.code, str(error)))
    elif isinstance(error, ChildDied):
        logger.error("try-out %s: %s", tryout.pk, error)
        fail(tryout, "crashed", CRASHED)
    else:
        fail(tryout, "broken", BROKEN_MESSAGE_WITH_PAGE)
        return False
    return True


def put_off(tryout: TryOut, code: str, sentence: str, error: Exception) -> None:
    """Put the question back for a fault of the site; the sweep queues it again while somebody waits for it.

    After GIVEN_UP_AFTER it fails.
    """
    logger.warning("try-out %s waits: %s: %s", tryout.pk, code, describe(error))
    forget_connection()
    if database_now() - tryout.created_at < GIVEN_UP_AFTER:
        requeue(tryout)
    else:
        fail(
            tryout,
            code,
            f"{sentence} It did not pass in time, so your question was dropped. Ask again later.",
        )


def ask(tryout: TryOut, loaded_base: LoadedBase, keep_alive: Callable[[], None]) -> Mapping[str, Any]:
    base_files = dict(tryout.base.files.values_list("path", "sha256"))
    loaded_base.start(partial(fetch_files, base_files, on_piece=keep_alive), keep_alive)
    files = selectors.adapter_files(tryout)
    wanted = {path: files[path] for path in (CONFIG_FILE, WEIGHTS_FILE)}
    question = Question(
        input=tryout.input,
        template=tryout.template,
        name=selectors.adapter_name(tryout),
        max_new_tokens=tryout.max_new_tokens,
        limit_s=settings.HUB_TRY_ANSWER_S,
        put_adapter=partial(fetch_files, wanted),
    )
    return loaded_base.ask(question, keep_alive)


def fetch_files(
    files: Mapping[str, str], folder: Path, *, on_piece: Callable[[], None] = lambda: None
) -> None:
    """Put stored files into a new folder; each is held against its sha256 before."""
    folder.mkdir(mode=0o700)
    for path, sha256 in files.items():
        store().fetch(sha256, folder / path, check=True, on_piece=on_piece)


def still_ours(tryout: TryOut) -> Callable[[], None]:
    """What is called while we wait: it says that we are at it, and ends the wait when that is in vain."""
    next_s = time.monotonic() + ALIVE_EVERY_S

    def look() -> None:
        nonlocal next_s
        raise_if_stopping()
        if time.monotonic() < next_s:
            return
        next_s = time.monotonic() + ALIVE_EVERY_S
        ours = TryOut.objects.filter(pk=tryout.pk, status=Status.RUNNING)
        if not ours.update(alive_at=Now()):
            raise Gone

    return look


def close(tryout: TryOut, message: Mapping[str, Any]) -> None:
    if message["event"] == "declined":
        fail(tryout, message["code"], message["message"])
        return
    result = {name: value for name, value in message.items() if name != "event"}
    finish(tryout, status=Status.DONE, result=result)
    logger.info("try-out %s done by worker %s", tryout.pk, WORKER)


def fail(tryout: TryOut, code: str, message: str) -> None:
    # Without the message, which may hold what was asked.
    logger.warning("try-out %s failed: %s (worker %s)", tryout.pk, code, WORKER)
    finish(tryout, status=Status.FAILED, error_code=code, error_message=message)


def finish(tryout: TryOut, **fields: Any) -> None:
    """Only while it is running: an answer is never changed by what happens after it."""
    running = TryOut.objects.filter(pk=tryout.pk, status=Status.RUNNING)
    if running.update(finished_at=Now(), **fields):
        count_ends(TryOut, fields["status"], fields.get("error_code", ""))


def sweep() -> list[UUID]:
    """Delete try-outs that are a day old; returns the questions to queue again."""
    now = Now()
    TryOut.objects.filter(created_at__lt=now - KEPT).delete()
    waiting = TryOut.objects.waiting().filter(created_at__lt=now - REQUEUE_AFTER)
    return list(waiting.values_list("pk", flat=True))


def remove_orphaned_folders() -> None:
    """Remove what workers of this machine left that are gone."""
    own = f"{socket.gethostname()}-"
    for folder in residents_folder().glob(f"{own}*"):
        if not Path(f"/proc/{folder.name.removeprefix(own)}").exists():
            remove_folder(folder)
