"""Searches by examples, and what a page shows of one. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from composer.models import ExampleSearch
from composer.playground.selectors import Requester, minute_quota
from hub_site.common.quotas import Quota
from hub_site.jobs.models import Status
from modules_registry.demo_worlds import SMALL, demo_world
from modules_registry.likeness import WEIGHTS_KEY, weights_key
from modules_registry.models import BaseModel, Module

EXAMPLES_MAX = 20  # more make the search slow, and the order hardly better
SHOWN_MAX = 50


@dataclass(frozen=True)
class FoundModule:
    """A module of a search, and what it lost on the examples, as far as it is measured."""

    name: str
    sentence: str
    shared: tuple[str, ...]  # words it has in common with the task
    loss_nats: float | None  # per label token, on all examples
    drop_nats: float | None  # below the base alone
    answer: str | None  # to the first example
    same_weights: tuple[str, ...] = ()  # names of others that have the same weights

    @property
    def is_measured(self) -> bool:
        return self.loss_nats is not None

    @property
    def address(self) -> str:
        return f"/{self.name}"


def demo_base_name() -> str:
    """The base that a visitor without an account may search; empty where there is none."""
    listing = demo_world(SMALL).listing
    return str(listing["base"]) if listing else ""


def bases_for(requester: Requester) -> list[BaseModel]:
    """The bases whose modules this asker may search, by name."""
    bases = BaseModel.objects.order_by("name")
    return list(bases if requester.user else bases.filter(name=demo_base_name()))


def search_of(requester: Requester, search_id: UUID) -> ExampleSearch | None:
    """The asker's own search; a stranger's does not exist."""
    rows = ExampleSearch.objects.select_related("base").filter(pk=search_id)
    if requester.user is not None:
        return rows.filter(owner=requester.user).first()
    if not requester.session_hash:
        return None
    return rows.filter(owner=None, session_hash=requester.session_hash).first()


def searches_of(requester: Requester) -> Any:
    """Those of the account, or those of the address."""
    if requester.user is not None:
        return ExampleSearch.objects.filter(owner=requester.user)
    return ExampleSearch.objects.filter(owner=None, address_hash=requester.address_hash)


def searches_quota(requester: Requester) -> Quota:
    """How often this asker may search within a minute."""
    return minute_quota(requester, searches_of(requester), "searches", "Searches by examples, in a minute")


def ahead_of(search: ExampleSearch) -> int:
    """Searches that come before a waiting one."""
    if search.status != Status.QUEUED:
        return 0
    return ExampleSearch.objects.due().filter(created_at__lt=search.created_at).count()


def found_modules(search: ExampleSearch, viewer: object) -> list[FoundModule]:
    """The best first: by loss where all examples were measured, then by loss on the longest, then by words.

    Without those that the viewer may not see any more. Modules with the same weights are one entry.
    """
    n_shots = len(search.examples)
    visible = Module.objects.visible_to(viewer).filter(current__in=[row["version"] for row in search.modules])
    read = visible.values_list("current", "sentence", *(f"current__{name}" for name in WEIGHTS_KEY))
    told = {version: (sentence, weights_key(*weights)) for version, sentence, *weights in read}
    rows = [row for row in search.modules if row["version"] in told]
    by_weights: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: order_of(row, n_shots)):
        by_weights.setdefault(told[row["version"]][1], []).append(row)
    return [
        found_module(first, told[first["version"]][0], search, [copy["name"] for copy in copies])
        for first, *copies in islice(by_weights.values(), SHOWN_MAX)
    ]


def order_of(row: dict[str, Any], n_shots: int) -> tuple[bool, bool, float]:
    """A sort key; of equals the order of the row counts."""
    loss = row.get("loss_nats")
    return row.get("n_shots") != n_shots, loss is None, loss or 0.0


def found_module(
    row: dict[str, Any], sentence: str, search: ExampleSearch, copies: Sequence[str]
) -> FoundModule:
    loss = row.get("loss_nats") if row.get("n_shots") == len(search.examples) else None
    base = search.base_loss_nats
    return FoundModule(
        name=row["name"],
        sentence=sentence,
        shared=tuple(row["shared"]),
        loss_nats=loss,
        drop_nats=None if loss is None or base is None else base - loss,
        answer=row.get("answer"),
        same_weights=tuple(copies),
    )
