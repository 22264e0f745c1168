"""What starts and ends with a worker."""

import threading
from collections.abc import Callable
from typing import Any

from celery.signals import celeryd_after_setup, worker_shutdown, worker_shutting_down

stopping = threading.Event()  # set when this worker is asked to end; all jobs of the process look at it


@worker_shutting_down.connect
def set_stopping(**_: Any) -> None:
    stopping.set()


def start_with_worker(queue: str, start: Callable[[], None]) -> None:
    """Call `start` in a worker of this queue as it starts."""

    @celeryd_after_setup.connect(weak=False)
    def begin(instance: Any, **_: Any) -> None:
        if queue in instance.app.amqp.queues.consume_from:
            start()


def stop_with_worker(stop: Callable[[], None]) -> None:
    """Call `stop` in any worker once its jobs have ended. It must be harmless where nothing was started."""

    @worker_shutdown.connect(weak=False)
    def end(**_: Any) -> None:
        stop()
