"""What publishing a composition would carry: its parents with their weights, and the license that follows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from composer import selectors
from composer.core.spec.adapter_size import unchanged_text
from composer.models import Composition, CompositionModule
from hub_site.accounts.models import User
from hub_site.common.errors import Refusal
from modules_registry.core.licenses.combining import CombinedLicense, LicenseConflict, combine_licenses
from modules_registry.models import Module, Version


@dataclass(frozen=True)
class Share:
    """A module that went into the adapter, and how much of it."""

    module: Module
    version: Version
    weight: float
    licence: str  # the module's, now


@dataclass(frozen=True)
class CopyCredit:
    """A module whose place another one took, because it is its copy or acts like one."""

    module: Module
    version: Version
    licence: str
    stands_for_it: str  # the name of the parent


@dataclass(frozen=True)
class Plan:
    """What publishing would carry, as things stand."""

    shares: tuple[Share, ...]
    copies: tuple[CopyCredit, ...]
    licence: CombinedLicense


def publication_plan(composition: Composition, *, private: bool) -> Plan:
    """The parents and the license that follows from theirs, or why it cannot be published."""
    if unchanged := unchanged_text(composition.report or {"modules": []}):
        raise Refusal("nothing_to_publish", f"{unchanged} There is nothing to publish.", status=409)
    rows = list(selectors.modules_with_weight(composition))
    require_parents_there(rows, composition.owner, private=private)
    shares = tuple(
        Share(row.version.module, row.version, weight, row.version.module.licence) for row, weight in rows
    )
    copies = tuple(copy_credits(composition, [row for row, _ in rows], private=private))
    # A copy has the parent's own numbers, or nearly, so its terms count too: who copied whom is not known.
    licences = {copy.module.full_name: copy.licence for copy in copies}
    licences |= {share.module.full_name: share.licence for share in shares}
    try:
        return Plan(shares, copies, combine_licenses(licences))
    except LicenseConflict as conflict:
        raise Refusal(conflict.code, str(conflict), status=409) from conflict


def copy_credits(
    composition: Composition, parents: Sequence[CompositionModule], *, private: bool
) -> Iterator[CopyCredit]:
    """The copies that the parents stand for, as far as a reader of the new module may know of them."""
    names = {row.name: row.version.module.full_name for row in parents}
    stands_for = {
        copy["name"]: names[row["name"]]
        for row in (composition.report or {})["modules"]
        if row["name"] in names
        for copy in row.get("copies", ())
    }
    if not stands_for:
        return
    visible = Module.objects.visible_to(composition.owner if private else None)
    rows = selectors.composed_modules(composition).filter(
        name__in=stands_for, version__module__in=visible.values("pk")
    )
    for row in rows:
        module = row.version.module
        yield CopyCredit(module, row.version, module.licence, stands_for[row.name])


def require_parents_there(
    rows: Iterable[tuple[CompositionModule, float]], owner: User, *, private: bool
) -> None:
    """Whether each parent may be named and built on: by all, or by the owner for a private module."""
    for row, _ in rows:
        module = row.version.module
        if module.deleted_at is not None:
            message = f"{row.name} was deleted since, so what was made from it is not published."
            raise Refusal("parent_deleted", f"{message} Compose again without it.", status=409)
        if module.hold:
            message = f"{row.name} was taken out by the staff of this site, so this is not published."
            raise Refusal("parent_held", f"{message} Compose again without it.", status=409)
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
