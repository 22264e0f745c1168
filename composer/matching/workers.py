"""Which workers can take a composition: by the memory that the base needs, and by the graphics card."""

from dataclasses import dataclass

from composer.selectors import compose_workers
from hub_site.common.errors import Refusal
from modules_registry.models import BaseModel

BYTES_OF_PARAMETER = (
    3  # held beside the base's file: 2.25 GB at 750 M (benchmarks/results/compose_speed_L.json)
)
MB = 1_000_000
ASK_STAFF = "Ask staff for one, or choose something else."


@dataclass(frozen=True)
class Needs:
    """What a worker must have."""

    memory_mb: int
    has_cuda: bool


def needs_of(base: BaseModel, device: str) -> Needs:
    return Needs(memory_mb=base.parameters * BYTES_OF_PARAMETER // MB, has_cuda=device == "cuda")


def require_worker(base: BaseModel, device: str) -> None:
    """Raise the Refusal of `missing_worker` where a request could never be taken."""
    if missing := missing_worker(base, device):
        raise missing


def missing_worker(base: BaseModel, device: str) -> Refusal | None:
    """Why no worker of this site can take it; None if one can, or none has announced itself for a day.

    Without any, the request waits: the workers may be starting.
    """
    needs = needs_of(base, device)
    known = list(compose_workers().known().values_list("has_cuda", "memory_mb"))
    able = [memory_mb for has_cuda, memory_mb in known if has_cuda or not needs.has_cuda]
    if not known or any(memory_mb >= needs.memory_mb for memory_mb in able):
        return None
    if not able:
        message = f"No worker of this site has a GPU. {ASK_STAFF}"
        return Refusal("no_worker_with_cuda", message, status=409, fields={"device": [message]})
    most = max(memory_mb for _, memory_mb in known)
    message = (
        f"{base.name} needs about {needs.memory_mb:,} MB of memory; "
        f"this site's workers give one job at most {most:,} MB. {ASK_STAFF}"
    )
    return Refusal("no_worker_large_enough", message, status=409, fields={"base": [message]})
