"""What publishing a composition would carry: its parents with their weights, and the license that follows."""

from collections.abc import Iterable
from dataclasses import dataclass

from composer.models import Composition, CompositionModule
from hub_site.accounts.models import User
from hub_site.common.errors import Refusal
from modules_registry.licenses.combining import CombinedLicense, combine_licenses
from modules_registry.models import Module, Version


@dataclass(frozen=True)
class Share:
    """A module that went into the adapter, and how much of it."""

    module: Module
    version: Version
    weight: float
    licence: str  # the module's, now


@dataclass(frozen=True)
class Plan:
    """What publishing would carry, as things stand."""

    shares: tuple[Share, ...]
    licence: CombinedLicense


def publication_plan(composition: Composition, *, private: bool) -> Plan:
    """The parents and the licence that follows from theirs, or why it cannot be published."""
    rows = list(modules_with_weight(composition))
    if not rows:
        message = "No module carries weight, so the adapter changes nothing: there is nothing to publish."
        raise Refusal("nothing_to_publish", message, status=409)
    require_parents_there(rows, composition.owner, private=private)
    shares = tuple(
        Share(row.version.module, row.version, weight, row.version.module.licence) for row, weight in rows
    )
    return Plan(shares, combine_licenses({share.module.full_name: share.licence for share in shares}))


def modules_with_weight(composition: Composition) -> Iterable[tuple[CompositionModule, float]]:
    """The modules whose numbers are in the adapter, with their weights, in their order.

    Where layers have weights of their own, a mean of 0 may hide weights that cancel out.
    """
    report = composition.report or {}
    by_layer = (report.get("weights_by_layer") or {}).values()
    weights = {
        row["name"]: row["weight"]
        for position, row in enumerate(report["modules"])
        if row["weight"] or any(layer[position] for layer in by_layer)
    }
    for row in composed_modules(composition):
        if row.name in weights:
            yield row, weights[row.name]


def composed_modules(composition: Composition) -> Iterable[CompositionModule]:
    return composition.modules.select_related("version__module__namespace")


def require_parents_there(
    rows: Iterable[tuple[CompositionModule, float]], owner: User, *, private: bool
) -> None:
    """Whether each parent may be named and built on: by all, or by the owner for a private module."""
    for row, _ in rows:
        module = row.version.module
        if module.deleted_at is not None:
            message = f"{row.name} was deleted since, so what was made from it is not published."
            raise Refusal("parent_deleted", f"{message} Compose again without it.", status=409)
        if not Module.objects.visible_to(owner).filter(pk=module.pk).exists():
            message = f"{row.name} was made private since, so what was made from it is not published."
            raise Refusal("parent_private", f"{message} Compose again without it.", status=409)
        if not private and module.private:
            message = f"{row.name} is private now. Publish this as private too, or compose again without it."
            raise Refusal("parent_private", message, status=409, fields={"private": [message]})


def join_names(names: tuple[str, ...], shown: int = 3) -> str:
    """A few names, and how many more."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
