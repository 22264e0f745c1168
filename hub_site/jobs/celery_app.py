"""The Celery app. A message carries an id and nothing else: what it means and what becomes of it are rows.

Queues: "default" (seconds), "transfer" (minutes on the network), "try" (answers), and "compose", whose
messages carry nothing: they only wake a worker, which takes jobs by their rows (hub_site.jobs.slots).
"""

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, signals
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from hub_site.logs import request_id

# Whoever sends a message waits no longer than this for each of the broker's answers, and tries once: the row
# is the truth, and the sweeper sends again what was lost.
SEND_OPTIONS = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0, "max_retries": 0}


# After a message that could not be sent none is tried for so long: each would hold a request, and with it a
# connection to the database, until nobody else gets one.
SILENT_S = 3.0


class SiteCelery(Celery):  # type: ignore[misc]  # Celery has no types
    """Celery whose messages hold no request for long, also when many are sent at once."""

    silent_until = 0.0  # of time.monotonic()

    def send_task(self, *args: Any, **options: Any) -> Any:
        """Send a message. Raises OperationalError, at once for a moment after another one failed."""
        if time.monotonic() < self.silent_until:
            raise OperationalError("The broker did not answer a moment ago.")
        try:
            return super().send_task(*args, **options)
        except OperationalError:
            self.silent_until = time.monotonic() + SILENT_S
            raise

    def connection_for_write(self, url: str | None = None, **options: Any) -> Connection:
        options["transport_options"] = (options.get("transport_options") or {}) | SEND_OPTIONS
        connection: Connection = super().connection_for_write(url, **options)
        return connection


app = SiteCelery("hub_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    accept_content=["json"],
    task_serializer="json",
    result_backend=None,
    task_ignore_result=True,
    task_queues=[Queue("default"), Queue("transfer"), Queue("compose"), Queue("try")],
    task_default_queue="default",
    task_create_missing_queues=False,
    task_publish_retry=False,
    task_acks_late=False,  # the sweeper queues it again; no broker's redelivery rule matters
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,  # a busy worker keeps no message from an idle one; only Redis knows it
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    beat_scheduler="hub_site.jobs.scheduler:ElectedScheduler",
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # a broker may be away for long
    broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 5, "socket_keepalive": True},
    timezone="UTC",
)
app.autodiscover_tasks()


@signals.worker_ready.connect
@signals.beat_init.connect
def say_ready(**_: object) -> None:
    """Tell whoever started this process that it takes work now."""
    if ready_file := os.environ.get("HUB_READY_FILE"):
        Path(ready_file).write_text(f"{os.getpid()}\n", encoding="ascii")


@signals.setup_logging.connect
def log_as_the_site_does(**_: object) -> None:
    """Keep Celery from putting its own handlers in place of settings.LOGGING."""


@signals.before_task_publish.connect
def send_request_id(headers: dict[str, Any] | None = None, **_: object) -> None:
    """Let a message carry the id of the request that it comes from, for the log alone."""
    if headers is not None and request_id.get():
        headers["request_id"] = request_id.get()


@signals.task_prerun.connect
def take_request_id(task: Any = None, **_: object) -> None:
    """The thread of the pool logs with it until its next task."""
    request_id.set(getattr(task.request, "request_id", None) or "")
