"""A worker announces itself by a row: what it has, and that it is alive."""

import logging
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from django.db import connection
from django.db.models.functions import Now

from hub_site.common.operator_texts import log_failure
from hub_site.jobs.models import WORKER_KNOWN, Worker
from hub_site.jobs.work import WORKER, forget_connection
from hub_site.jobs.worker import stopping

logger = logging.getLogger(__name__)
ANNOUNCE_EVERY_S = 5.0


def announce(queue: str, *, slots: int, memory_mb: int, has_cuda: bool) -> None:
    """Write this worker's row, and forget workers that were not seen for a day."""
    has = {"queue": queue, "slots": slots, "memory_mb": memory_mb, "has_cuda": has_cuda}
    Worker.objects.update_or_create(name=WORKER, defaults={**has, "seen_at": Now()})
    Worker.objects.filter(seen_at__lt=Now() - WORKER_KNOWN).delete()


def keep_announcing(queue: str, *, slots: int, memory_mb: int, has_cuda: bool) -> threading.Thread:
    """Announce it now and every few seconds, from a thread, until the worker ends, whatever goes wrong."""

    def beat() -> None:
        while True:
            try:
                announce(queue, slots=slots, memory_mb=memory_mb, has_cuda=has_cuda)
            except Exception as error:  # noqa: BLE001  whatever it is, the log has it
                log_failure(logger, "the worker could not announce itself", error)
                forget_connection()
            if stopping.wait(ANNOUNCE_EVERY_S):
                connection.close()
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    return thread


def find_cuda() -> bool:
    """Whether children can compute on a graphics card: the device is there, and torch is built for it.

    The worker itself never imports torch.
    """
    try:
        is_for_processors = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False
    devices = (Path("/dev/nvidia0"), Path("/dev/kfd"))  # NVIDIA's, and AMD's, which torch calls cuda too
    return not is_for_processors and any(device.exists() for device in devices)
