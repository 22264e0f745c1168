"""Which modules can be composed with a given one, by which rule, and why not the others."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db.models import Count, Q

from hub_site.common.errors import Refusal
from modules_registry.core.compatibility import Base, ModuleFacts, Reason, reasons_between
from modules_registry.likeness import listed
from modules_registry.models import Module, Version
from modules_registry.selectors import facts_of_version, is_storable, module_find, not_composable_because

# How modules can be added up. "sum": whole updates, of any rank. "factors": A to A and B to B.
RULES = {"sum": "sum of updates", "factors": "product of sums"}
SHAPES_MAX = 200  # shapes of modules of one base that reasons are told of
QUOTED_MAX = 120  # characters of a name that is none
COUNTED_MAX = 10_000  # modules of other bases; more are not counted


@dataclass(frozen=True)
class Misfits:
    """Modules that do not fit, for one reason."""

    code: str
    message: str
    count: int


@dataclass(frozen=True)
class Fitting:
    """How many modules can be composed with one, by each rule, and how many cannot, by reason."""

    why_none: str  # why nothing can be composed with it here; empty if something could
    by_sum: int = 0
    by_factors: int = 0
    elsewhere: int = 0  # published modules of other bases, at most COUNTED_MAX
    misfits: tuple[Misfits, ...] = field(default_factory=tuple)  # of the same base, most frequent first


@dataclass(frozen=True)
class Pair:
    """Whether two modules can be composed, by each rule."""

    version: Version
    reasons: dict[str, tuple[Reason, ...]]  # by rule; empty: the two fit together

    @property
    def fits(self) -> list[str]:
        return [rule for rule, reasons in self.reasons.items() if not reasons]


def fits_with(version: Version, rule: str) -> Q:
    """Which modules can be composed with this version: none, if it cannot be composed here itself."""
    if version.base_id is None:
        return Q(pk__in=[])
    same_base = Q(current__base=version.base_id)
    if rule == "sum":
        return same_base
    if version.has_own_ranks:
        return Q(pk__in=[])
    return same_base & Q(
        current__rank=version.rank,
        current__scaling=version.scaling,
        current__targets=version.targets,
        current__has_own_ranks=False,
    )


def fits_named(name: str, rule: str, viewer: object) -> Q:
    """Which modules can be composed with the module of this name.

    Args:
        name: "owner/name".
        rule: a key of RULES; any other text means "sum".

    Raises:
        Refusal: the viewer sees no such module, or nothing can be composed with it here, and why.
    """
    owner, slash, module_name = name.partition("/")
    module = module_find(owner, module_name, viewer) if slash and is_storable(name) else None
    if module is None or module.current is None:
        raise bad_fits(f"There is no module “{name[:QUOTED_MAX]}”. Write its name as “owner/name”.")
    if module.current.base_id is None:
        why = not_composable_because(module.current)
        raise bad_fits(f"Nothing can be composed with {module.full_name} here. {why}")
    return fits_with(module.current, rule if rule in RULES else "sum") & ~Q(pk=module.pk)


def bad_fits(message: str) -> Refusal:
    return Refusal("bad_fits", message, fields={"fits": [message]})


def fitting_of(version: Version, viewer: object) -> Fitting:
    """Count what can be composed with a version and what cannot. Two queries of the modules on its base."""
    if version.base is None:
        return Fitting(not_composable_because(version))
    others = listed(viewer).exclude(pk=version.module_id).order_by()
    shapes = (
        others.filter(current__base_name=version.base_name)
        .values_list(
            "current__base",
            "current__base_revision",
            "current__rank",
            "current__scaling",
            "current__targets",
            "current__has_own_ranks",
            "current__not_composable",
        )
        .annotate(count=Count("pk"))
        .order_by("-count")
    )
    by_sum = by_factors = 0
    misfits: dict[tuple[str, str], int] = {}
    for base_id, revision, rank, scaling, targets, has_own_ranks, why_not, count in shapes:
        facts = ModuleFacts(
            name="",
            base=version.base_name,
            revision=None if base_id else revision or None,
            rank=rank,
            scaling=scaling,
            targets=tuple(targets),
            has_own_ranks=has_own_ranks,
        )
        against = reasons_of(facts, base_id is not None, why_not, version)
        by_sum += 0 if against["sum"] else count
        by_factors += 0 if against["factors"] else count
        for reason in against["factors"]:
            misfits[reason.code, reason.message] = misfits.get((reason.code, reason.message), 0) + count
    told = sorted(misfits.items(), key=lambda item: -item[1])[:SHAPES_MAX]
    return Fitting(
        why_none="",
        by_sum=by_sum,
        by_factors=by_factors,
        elsewhere=others.exclude(current__base_name=version.base_name)[:COUNTED_MAX].count(),
        misfits=tuple(Misfits(code, message, count) for (code, message), count in told),
    )


def reasons_of(
    facts: ModuleFacts, is_composable: bool, why_not: str, version: Version
) -> dict[str, tuple[Reason, ...]]:
    """What speaks against composing a module with a composable version, by rule."""
    assert version.base is not None
    base = Base(version.base.name, version.base.revision)
    found = {
        rule: reasons_between(facts, own_facts(version), base, factor_by_factor=rule == "factors")
        for rule in RULES
    }
    if found["sum"] or is_composable:
        return found
    sentence = why_not or f"Its layers are not those of {base.name} in this library."
    return dict.fromkeys(RULES, (Reason("not_composable", sentence),))


def own_facts(version: Version) -> ModuleFacts:
    """A composable version: the gate held its base and revision against the library's own."""
    facts = facts_of_version(version)
    base = version.base.name if version.base is not None else facts.base
    return ModuleFacts(
        name=facts.name,
        base=base,
        revision=None if version.base_id else facts.revision,
        rank=facts.rank,
        scaling=facts.scaling,
        targets=facts.targets,
        has_own_ranks=facts.has_own_ranks,
    )


def pairs_with(version: Version, others: Iterable[Module]) -> list[Pair]:
    """Whether each of these modules can be composed with a composable version, and exactly why not."""
    return [
        Pair(
            other.current,
            reasons_of(
                own_facts(other.current),
                other.current.base_id is not None,
                other.current.not_composable,
                version,
            ),
        )
        for other in others
        if other.current is not None
    ]
