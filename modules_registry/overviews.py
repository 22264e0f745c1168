"""What the pages of a base model and of a tag say beside their modules."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db.models import Count, QuerySet
from django.db.models.functions import Collate, Lower
from django.http import Http404

from modules_registry.catalog import ModuleFilters, module_search, modules_of_base
from modules_registry.counting import Counted
from modules_registry.models import BaseModel, FacetValue, Module, Tag
from modules_registry.selectors import is_storable

SAMPLE_MAX = 500  # modules, the most downloaded, over which a tag's neighbors are counted
SHOWN_MAX = 12
COUNT_EXACT_MAX = 10_000


@dataclass(frozen=True)
class LayerGroup:
    """The linear layers of a base that have the same name and shape."""

    name: str  # as modules name their targets: "q", "q_proj"
    count: int
    d_out: int
    d_in: int


@dataclass(frozen=True)
class ModuleCount:
    """How many modules there are; beyond COUNT_EXACT_MAX only that there are more."""

    count: int
    is_exact: bool

    @property
    def text(self) -> str:
        return f"{self.count:,}" if self.is_exact else f"{self.count:,}+"


@dataclass(frozen=True)
class ForeignBase:
    """A base model that modules are for and that this library does not have: they cannot be composed here."""

    name: str  # as most of its modules write it
    modules: Sequence[Module]  # the first few
    counted: Counted
    address: str  # of the model on the Hub that this site imports from

    @property
    def revisions(self) -> list[str]:
        """The revisions that these modules ask for, each once."""
        versions = [module.current for module in self.modules if module.current is not None]
        return list(dict.fromkeys(version.base_revision for version in versions if version.base_revision))


@dataclass(frozen=True)
class ValueCount:
    name: str
    count: int


@dataclass(frozen=True)
class TagOverview:
    """A tag: how many modules carry it, and what else those say of themselves.

    The two lists are counted over the SAMPLE_MAX most downloaded of them.
    """

    name: str
    modules: ModuleCount
    tags: Sequence[ValueCount]
    bases: Sequence[ValueCount]


def layer_groups(base: BaseModel) -> list[LayerGroup]:
    """Its linear layers by name and shape, in the order in which the model has them."""
    counts: Counter[tuple[str, int, int]] = Counter()
    for path, (d_out, d_in) in base.layers.items():
        counts[path.rpartition(".")[2], d_out, d_in] += 1
    return [LayerGroup(name, count, d_out, d_in) for (name, d_out, d_in), count in counts.items()]


def foreign_base_or_404(name: str, viewer: object, shown: int) -> ForeignBase:
    """A base of this name, in any case, that some module is for which the viewer may see."""
    found = base_value(name)
    modules, counted = modules_of_base(found, viewer, shown) if found else ([], None)
    if counted is None or not modules:
        raise Http404
    return ForeignBase(found, modules, counted, f"{settings.HUB_IMPORT_ENDPOINT.rstrip('/')}/{found}")


def base_value(name: str) -> str:
    """The name of a base as modules write it; one that nobody writes just so, as most write it."""
    if not is_storable(name):
        return ""
    values = FacetValue.objects.filter(facet="base")
    if values.filter(value=name).exists():
        return name
    alike = values.alias(lower=Collate(Lower("value"), "C")).filter(lower=name.lower(), n_modules__gt=0)
    return alike.order_by("-n_modules", "value").values_list("value", flat=True).first() or ""


def tag_overview_or_404(name: str, viewer: object) -> TagOverview:
    """A tag that some module carries which the viewer may see."""
    carrying = module_search(ModuleFilters(tags=(name,), sort="downloads"), viewer)
    sample = list(carrying.values_list("pk", flat=True)[:SAMPLE_MAX])
    tagged = Tag.objects.filter(modules__in=sample).exclude(name=name).order_by()
    tags = tagged.values_list("name").annotate(count=Count("pk")).order_by("-count", "name")
    modules = Module.objects.filter(pk__in=sample).order_by()
    bases = modules.values_list("current__base_name").annotate(count=Count("pk")).order_by("-count")
    if not sample:
        raise Http404
    return TagOverview(
        name,
        count_of(carrying),
        tags=[ValueCount(*row) for row in tags[:SHOWN_MAX]],
        bases=[ValueCount(*row) for row in bases[:SHOWN_MAX]],
    )


def count_of(modules: QuerySet[Module]) -> ModuleCount:
    count = modules.order_by()[: COUNT_EXACT_MAX + 1].count()
    return ModuleCount(min(count, COUNT_EXACT_MAX), count <= COUNT_EXACT_MAX)
