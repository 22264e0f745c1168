"""What each process of the site tells Prometheus of itself and its disks; the web processes tell more."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.utils.crypto import constant_time_compare
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from hub_site.common.disk import LARGE_FOLDERS, MB
from hub_site.common.metrics import REGISTRY

CONTENT_TYPE = CONTENT_TYPE_LATEST


class DiskCollector(Collector):
    """The disks of this process's data folder at the moment of the question."""

    def collect(self) -> Iterator[Metric]:
        free = GaugeMetricFamily(
            "lora_hub_disk_free_bytes", "Free on the disk of a data folder.", labels=["folder"]
        )
        root = Path(settings.HUB_DATA)
        for name in ("", *LARGE_FOLDERS):
            if (root / name).exists():
                free.add_metric([name or "data"], shutil.disk_usage(root / name).free)
        yield free
        yield GaugeMetricFamily(
            "lora_hub_disk_spare_bytes",
            "What should stay free: HUB_DISK_SPARE_MB.",
            value=settings.HUB_DISK_SPARE_MB * MB,
        )


def exposition(*collectors: Collector) -> bytes:
    """The metrics of this process as text, and those of the collectors."""
    asked_now = CollectorRegistry()
    for collector in (DiskCollector(), *collectors):
        asked_now.register(collector)
    return bytes(generate_latest(REGISTRY) + generate_latest(asked_now))


def has_metrics_token(authorization: str) -> bool:
    """Whether a request's Authorization is that of who reads the metrics; never where no token is set."""
    wanted = settings.HUB_METRICS_TOKEN
    return bool(wanted and authorization) and constant_time_compare(authorization, f"Bearer {wanted}")
