"""What to offer while somebody types: modules, and tags, bases, owners and languages that begin so."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.db.models.functions import Collate, Lower, Upper
from django.urls import reverse

from hub_site.accounts.selectors import namespace_by_name
from modules_registry.facets import BY_NAME
from modules_registry.keyset import Order, first_keys
from modules_registry.models import FacetValue, Module
from modules_registry.selectors import is_storable

MODULES_MAX, VALUES_MAX = 5, 6
Q_LENGTH_MIN, Q_LENGTH_MAX = 2, 80
NEAR_LENGTH_MIN = 4  # letters; of fewer, too many names are near
LOOKED_AT_MAX = 1000  # modules that begin so, of which the most downloaded are suggested
BY_DOWNLOADS = Order("downloads", int)
FACETS = ("tag", "base", "author", "task", "architecture")


@dataclass(frozen=True)
class Suggestion:
    """One line of the list."""

    kind: str  # "module", or the name of a facet
    title: str  # the kind in words
    text: str
    note: str  # the module's sentence; of a value, how many modules have it
    address: str


def suggestions(q: str) -> list[Suggestion]:
    """Suggestions for the beginning of a search, of what everyone may see; in two or three queries."""
    typed = " ".join(q.split())[:Q_LENGTH_MAX].casefold()
    if len(typed) < Q_LENGTH_MIN or not is_storable(typed):
        return []
    return [*map(of_value, values_beginning(typed)), *map(of_module, modules_named(typed))]


def values_beginning(typed: str) -> Sequence[FacetValue]:
    rows = FacetValue.objects.filter(n_modules__gt=0)
    begin = rows.alias(lower=Collate(Lower("value"), "C")).filter(lower__startswith=typed, facet__in=FACETS)
    of_base = rows.filter(facet="base", value__icontains=typed)  # few, and known by the part after the owner
    found = begin.order_by("-n_modules")[:VALUES_MAX].union(of_base.order_by("-n_modules")[:VALUES_MAX])
    return sorted(found, key=lambda row: (-row.n_modules, row.value))[:VALUES_MAX]


def modules_named(typed: str) -> list[Module]:
    """Modules whose name begins so, the most downloaded first; if there are few, those named nearly so."""
    owner, slash, name = typed.rpartition("/")
    listed = Module.objects.visible_to(None).published().select_related("namespace")
    listed = listed.only("name", "sentence", "namespace__name")
    if slash:
        listed = listed.filter(namespace=namespace_by_name(owner))
    begin = listed.alias(lower=Collate(Lower("name"), "C")).filter(lower__startswith=name)
    keys = first_keys(begin, BY_DOWNLOADS, MODULES_MAX, most=LOOKED_AT_MAX)
    if len(keys) < MODULES_MAX and len(name) >= NEAR_LENGTH_MIN:
        near = listed.alias(upper=Upper("name")).filter(upper__trigram_similar=name.upper())
        keys += first_keys(
            near.exclude(pk__in=keys), BY_DOWNLOADS, MODULES_MAX - len(keys), most=LOOKED_AT_MAX
        )
    found = {module.pk: module for module in listed.filter(pk__in=keys)}
    return [found[key] for key in keys if key in found]


def of_value(row: FacetValue) -> Suggestion:
    kind = BY_NAME[row.facet]
    address = f"{reverse('modules_registry:list')}?{urlencode({row.facet: row.value})}"
    if row.facet == "author":
        address = reverse("modules_registry:namespace", args=[row.value])
    many = "module" if row.n_modules == 1 else "modules"
    return Suggestion(row.facet, kind.title, kind.label(row.value), f"{row.n_modules:,} {many}", address)


def of_module(module: Module) -> Suggestion:
    return Suggestion("module", "Module", module.full_name, module.sentence, module.get_absolute_url())
