"""What to offer while somebody types: modules, and tags, bases, owners and languages that begin so."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.db.models.functions import Collate, Lower, Upper
from django.urls import reverse

from hub_site.accounts.selectors import namespace_by_name
from modules_registry.facets import BY_NAME
from modules_registry.keyset import Order, first_keys
from modules_registry.models import FacetValue, Module
from modules_registry.selectors import is_storable
from modules_registry.words import fold, spelled_as_known

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
    """Suggestions for the beginning of a search, of what everyone may see.

    What begins so, else what begins as the words that were probably meant, else what is named nearly so. In
    two or three queries, of a misspelled beginning in at most eight.
    """
    typed = " ".join(q.split())[:Q_LENGTH_MAX].casefold()
    if len(typed) < Q_LENGTH_MIN or not is_storable(typed):
        return []
    values, keys = beginning_so(typed)
    if not values and not keys and (meant := spelled_as_known(fold(typed))) != typed:
        values, keys = beginning_so(meant)
    if len(keys) < MODULES_MAX:
        keys += keys_named_nearly(typed, MODULES_MAX - len(keys), without=keys)
    return [*map(of_value, values), *map(of_module, modules_of(keys))]


def beginning_so(typed: str) -> tuple[Sequence[FacetValue], list[int]]:
    """The values, and the keys of the modules, that begin with a text."""
    return values_beginning(typed), keys_beginning(typed)


def values_beginning(typed: str) -> Sequence[FacetValue]:
    rows = FacetValue.objects.filter(n_modules__gt=0)
    begin = rows.alias(lower=Collate(Lower("value"), "C")).filter(lower__startswith=typed, facet__in=FACETS)
    of_base = rows.filter(facet="base", value__icontains=typed)  # few, and known by the part after the owner
    found = begin.order_by("-n_modules")[:VALUES_MAX].union(of_base.order_by("-n_modules")[:VALUES_MAX])
    return sorted(found, key=lambda row: (-row.n_modules, row.value))[:VALUES_MAX]


def keys_beginning(typed: str) -> list[int]:
    """Modules whose name begins so, the most downloaded first."""
    listed, name = named_in(typed)
    begin = listed.alias(lower=Collate(Lower("name"), "C")).filter(lower__startswith=name)
    return first_keys(begin, BY_DOWNLOADS, MODULES_MAX, most=LOOKED_AT_MAX)


def keys_named_nearly(typed: str, count: int, *, without: Collection[int]) -> list[int]:
    listed, name = named_in(typed)
    if len(name) < NEAR_LENGTH_MIN:
        return []
    near = listed.alias(upper=Upper("name")).filter(upper__trigram_similar=name.upper())
    return first_keys(near.exclude(pk__in=without), BY_DOWNLOADS, count, most=LOOKED_AT_MAX)


def named_in(typed: str) -> tuple[QuerySet[Module], str]:
    """The modules among which to look, and the part of what was typed that is a module's name."""
    owner, slash, name = typed.rpartition("/")
    listed = Module.objects.visible_to(None).published()
    return listed.filter(namespace=namespace_by_name(owner)) if slash else listed, name


def modules_of(keys: Sequence[int]) -> list[Module]:
    """The modules of these keys, in their order."""
    if not keys:
        return []
    rows = Module.objects.select_related("namespace").only("name", "sentence", "namespace__name")
    found = rows.in_bulk(keys)
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
