"""GET /metrics of a web process: what it counts of its own, and how the site stands, read from the rows.

Prometheus asks each process by itself. What comes from the rows is the same at every web process: of several
take the highest.
"""

from collections.abc import Iterator
from itertools import accumulate, groupby
from math import inf

from django.db import connection
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from composer.watch.stream import dispatcher
from hub_site.common import process_metrics
from hub_site.common.site_faults import DATABASE_FAULTS
from hub_site.jobs.models import JobCount, StageTime
from hub_site.jobs.tallies import STAGE_LIMITS_S
from hub_site.operations.selectors import queue_states, worker_states

CONTENT_TYPE = process_metrics.CONTENT_TYPE
CONNECTIONS = """
SELECT coalesce(state, 'other'), count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' GROUP BY 1
"""


def exposition() -> bytes:
    """All metrics as text. Without the database: those that need none, and lora_hub_database_up is 0."""
    return process_metrics.exposition(SiteCollector())


class SiteCollector(Collector):
    """How the site stands at the moment of the question."""

    def collect(self) -> Iterator[Metric]:
        yield gauge("streams_open", "Event streams that this process holds open.", dispatcher.count())
        try:
            rows = list(row_metrics())
        except DATABASE_FAULTS:
            yield gauge("database_up", "Whether the database answers.", 0)
        else:
            yield gauge("database_up", "Whether the database answers.", 1)
            yield from rows


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"lora_hub_{name}", text, value=value)


def row_metrics() -> Iterator[Metric]:
    yield from queue_metrics()
    yield from worker_metrics()
    yield ends_metric()
    yield stages_metric()
    yield from connection_metrics()


def queue_metrics() -> Iterator[Metric]:
    told = {
        "jobs_waiting": "Jobs that are due and wait for a worker.",
        "jobs_put_off": "Jobs that wait for a fault of the site to pass.",
        "jobs_running": "Jobs that a worker has.",
        "jobs_oldest_wait_seconds": "How long the job that waits longest has been due.",
    }
    families = {
        name: GaugeMetricFamily(f"lora_hub_{name}", text, labels=["queue", "lane"])
        for name, text in told.items()
    }
    for state in queue_states():
        values = (state.waiting, state.put_off, state.running, state.oldest_wait_s)
        for family, value in zip(families.values(), values, strict=True):
            family.add_metric([state.served_by, state.name], value)
    yield from families.values()


def worker_metrics() -> Iterator[Metric]:
    workers = GaugeMetricFamily("lora_hub_workers", "Worker processes that are alive.", labels=["queue"])
    places = GaugeMetricFamily("lora_hub_worker_places", "Jobs that they do at once.", labels=["queue"])
    for state in worker_states():
        workers.add_metric([state.queue], state.workers)
        places.add_metric([state.queue], state.places)
    yield workers
    yield places


def ends_metric() -> Metric:
    labels = ["kind", "outcome", "code"]
    ends = CounterMetricFamily("lora_hub_job_ends", "Attempts at jobs that ended, by outcome.", labels=labels)
    for *values, number in JobCount.objects.values_list(*labels, "number"):
        ends.add_metric(values, number)
    return ends


def stages_metric() -> Metric:
    text = "Seconds that stages of finished jobs took."
    histogram = HistogramMetricFamily("lora_hub_job_stage_seconds", text, labels=["kind", "stage"])
    rows = StageTime.objects.order_by("kind", "stage").values_list(
        "kind", "stage", "most_s", "number", "seconds"
    )
    for labels, group in groupby(rows, key=lambda row: row[:2]):
        found = {most_s: (number, seconds) for _, _, most_s, number, seconds in group}
        numbers = accumulate(found.get(limit_s, (0, 0.0))[0] for limit_s in STAGE_LIMITS_S)
        buckets = [
            (limit_text(limit_s), number) for limit_s, number in zip(STAGE_LIMITS_S, numbers, strict=True)
        ]
        histogram.add_metric(list(labels), buckets, sum(seconds for _, seconds in found.values()))
    return histogram


def limit_text(limit_s: float) -> str:
    return "+Inf" if limit_s == inf else str(limit_s)


def connection_metrics() -> Iterator[Metric]:
    used = GaugeMetricFamily(
        "lora_hub_database_connections", "Connections to the database.", labels=["state"]
    )
    with connection.cursor() as cursor:
        cursor.execute(CONNECTIONS)
        for state, number in cursor.fetchall():
            used.add_metric([state], number)
        cursor.execute("SHOW max_connections")
        (most,) = cursor.fetchone()
    yield used
    yield gauge("database_connections_max", "Connections that its server takes.", int(most))
