"""What this process counts of its own work, in Prometheus's terms. `hub_site.operations.metrics` shows it."""

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)  # the last: the limit of one query

REQUESTS = Counter(
    "lora_hub_requests", "Answered requests.", ["method", "route", "status"], registry=REGISTRY
)
REQUEST_SECONDS = Histogram(
    "lora_hub_request_seconds",
    "Seconds until an answer began.",
    ["method", "route"],
    buckets=SECONDS,
    registry=REGISTRY,
)
REFUSALS = Counter(
    "lora_hub_refusals",
    "Refusals and faults of the site that a request met, by code.",
    ["code"],
    registry=REGISTRY,
)


def count_refusal(code: str) -> None:
    REFUSALS.labels(code).inc()
