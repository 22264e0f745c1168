"""What workers and the scheduler do beside their work: they announce themselves and tell how they are."""

import time
from typing import Any

from celery.signals import beat_init, celeryd_after_setup, worker_ready
from django.conf import settings

from hub_site.common.readiness import COMPLETE
from hub_site.jobs.health_server import check_live, serve_health
from hub_site.jobs.presence import keep_announcing

SCHEDULER = "scheduler"
ANNOUNCED_BY_ITSELF = "compose"  # with its places, its memory and its graphics card
SILENT_S = 60.0  # beyond a few rounds of the sweeper
_last_look = {"s": 0.0}  # of the scheduler at its schedule, on the monotonic clock


@celeryd_after_setup.connect
def announce_worker(instance: Any, **_: object) -> None:
    queues = sorted(instance.app.amqp.queues.consume_from)
    if ANNOUNCED_BY_ITSELF not in queues:
        keep_announcing("+".join(queues), slots=instance.concurrency, memory_mb=0, has_cuda=False)


@worker_ready.connect
def serve_health_of_worker(**_: object) -> None:
    serve_health()


@beat_init.connect
def begin_scheduler(sender: Any, **_: object) -> None:
    note_looks(sender.scheduler)
    keep_announcing(SCHEDULER, slots=0, memory_mb=0, has_cuda=False)
    check_live("schedule", ask_schedule)
    serve_health()


def note_looks(scheduler: Any) -> None:
    """Note every look of the scheduler at what is due, whether something is or not."""
    tick = scheduler.tick

    def tick_and_note(*arguments: Any, **options: Any) -> Any:
        _last_look["s"] = time.monotonic()
        return tick(*arguments, **options)

    scheduler.tick = tick_and_note
    _last_look["s"] = time.monotonic()


def ask_schedule() -> str:
    """It looks at least as often as the sweeper comes, also while the broker is away."""
    silent_s = time.monotonic() - _last_look["s"]
    return COMPLETE if silent_s < 4 * settings.SWEEP_INTERVAL_S + SILENT_S else "hangs"
