"""What the pages of a base model and of a tag say beside their modules."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, QuerySet
from django.http import Http404

from modules_registry.catalog import ModuleFilters, module_search
from modules_registry.models import BaseModel, Module, Tag

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
