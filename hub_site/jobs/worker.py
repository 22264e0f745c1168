"""What starts and ends with the worker of a queue."""

import threading
from collections.abc import Callable
from typing import Any

from celery.signals import celeryd_after_setup, worker_shutdown, worker_shutting_down


def go_with_worker(
    queue: str, *, start: Callable[[], None], stopping: threading.Event, stop: Callable[[], None]
) -> None:
    """Call `start` in a worker of this queue as it starts; in any that ends set `stopping`, then call `stop`.

    `stop` must be harmless where nothing was started.
    """

    @celeryd_after_setup.connect(weak=False)
    def begin(instance: Any, **_: Any) -> None:
        if queue in instance.app.amqp.queues.consume_from:
            start()

    @worker_shutting_down.connect(weak=False)
    def let_go(**_: Any) -> None:
        stopping.set()

    @worker_shutdown.connect(weak=False)
    def end(**_: Any) -> None:
        stop()
