"""Searching and listing modules: words, facets, sorts, and the Hub protocol's list."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.contrib.postgres.search import SearchQuery, SearchRank, TrigramSimilarity
from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Lower

from modules_registry.core.licenses.names import license_label
from modules_registry.fitting import RULES, fits_named
from modules_registry.models import Module
from modules_registry.selectors import is_storable

SORTS = {"best": "Best match", "recent": "Newest change", "downloads": "Most downloaded", "name": "Name"}


FACET_VALUES_MAX = 15


SEARCH_WORDS_MAX = 8


WORD = re.compile(r"\w+")


# How list_models() sorts; nobody likes or trends here, so that those two stand for downloads.
HUB_SORTS = {
    "lastModified": ("-updated_at",),
    "createdAt": ("-created_at",),
    "downloads": ("-downloads",),
    "likes": ("-downloads",),
    "trendingScore": ("-downloads",),
}


HUB_PIPELINES = {"text2text-generation": "SEQ_2_SEQ_LM", "text-generation": "CAUSAL_LM"}


@dataclass(frozen=True)
class ModuleFilters:
    """What a search asks for. Empty means any; several tags must all be there."""

    q: str = ""
    tags: tuple[str, ...] = ()
    base: str = ""
    licence: str = ""
    author: str = ""  # a namespace
    fits: str = ""  # a module's "owner/name", with which they can be composed
    fits_by: str = ""  # the rule for that, a key of fitting.RULES; empty: "sum"
    sort: str = ""

    @property
    def order(self) -> str:
        """The sort asked for; without one, the best match for words, else the newest change."""
        if self.sort in SORTS and (self.q or self.sort != "best"):
            return self.sort
        return "best" if self.q else "recent"

    def without(self, facet: str, value: str = "") -> "ModuleFilters":
        """The same search with a choice taken back; of the tags, one."""
        kept: dict[str, Any] = {facet: ""}
        if facet == "tags":
            kept = {"tags": tuple(tag for tag in self.tags if tag != value)}
        return replace(self, **kept)

    def with_value(self, facet: str, value: str) -> "ModuleFilters":
        """The same search with a choice made; a tag joins the others."""
        added: dict[str, Any] = {facet: (*self.tags, value) if facet == "tags" else value}
        return replace(self, **added)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The same filters as names and values in an address."""
        pairs = [("q", self.q), *(("tag", tag) for tag in self.tags), ("base", self.base)]
        pairs += [("licence", self.licence), ("author", self.author), ("fits", self.fits)]
        pairs += [("fits_by", self.fits_by), ("sort", self.sort)]
        return [(name, value) for name, value in pairs if value]

    @property
    def chosen(self) -> list["ActiveFilter"]:
        """Each choice that narrows the results, with the search that is left when it is taken back."""
        choices = [ActiveFilter("Words", self.q, self.without("q"))] if self.q else []
        choices += [ActiveFilter("Tag", tag, self.without("tags", tag)) for tag in self.tags]
        single = {"base": "Base", "licence": "Licence", "author": "Owner"}
        if self.fits:
            label = f"{self.fits}, {RULES.get(self.fits_by, RULES['sum'])}"
            choices.append(ActiveFilter("Compatible with", label, replace(self, fits="", fits_by="")))
        return choices + [
            ActiveFilter(title, getattr(self, name), self.without(name))
            for name, title in single.items()
            if getattr(self, name)
        ]

    def as_query(self) -> str:
        return urlencode(self.pairs)


@dataclass(frozen=True)
class ActiveFilter:
    title: str
    label: str
    filters: ModuleFilters  # the search without it


@dataclass(frozen=True)
class FacetValue:
    value: str
    label: str
    count: int
    is_chosen: bool
    filters: ModuleFilters  # the search after a click


@dataclass(frozen=True)
class Facet:
    name: str
    title: str
    values: list[FacetValue]


def module_search(filters: ModuleFilters, viewer: object = None) -> QuerySet[Module]:
    """The modules that match and that the viewer may see, in the order asked for."""
    found = _matching(filters, viewer).select_related("namespace", "current__base").prefetch_related("tags")
    if filters.order == "downloads":
        return found.order_by("-downloads", "-updated_at", "pk")
    if filters.order == "name":
        return found.order_by(Lower("name"), "namespace__name")
    if filters.order == "best":
        # Both lie between 0 and 1: a module of that very name comes before one that mentions it often.
        similarity = TrigramSimilarity("name", filters.q.rpartition("/")[2])
        match = SearchRank(F("search"), _query(filters.q)) + similarity
        return found.annotate(match=match).order_by("-match", "-updated_at", "pk")
    return found.order_by("-updated_at", "pk")


def modules_newest(count: int) -> QuerySet[Module]:
    return module_search(ModuleFilters(sort="recent"))[:count]


@dataclass(frozen=True)
class HubSearch:
    """What a Hub client's list_models() asks for."""

    q: str = ""
    author: str = ""
    filters: tuple[str, ...] = ()  # tags, "license:mit", "base_model:google/flan-t5-large", a pipeline, …
    sort: str = ""
    is_none: bool = False  # asks for what no module here has


def repositories_listed(asked: HubSearch, viewer: object) -> QuerySet[Module]:
    """What a Hub client is shown: as on the site, and to its owner also each draft."""
    found = Module.objects.visible_to(viewer)
    if asked.is_none or not all(is_storable(text) for text in (asked.q, asked.author, *asked.filters)):
        found = found.none()
    if asked.author:
        found = found.filter(namespace__name__iexact=asked.author)
    if asked.q:
        found = found.filter(_words(asked.q))
    conditions = {text: _has(text) for text in asked.filters}
    for condition in filter(None, conditions.values()):
        found = found.filter(condition)
    if tags := {text.casefold() for text, condition in conditions.items() if condition is None}:
        found = found.filter(_tagged(tags))
    order = HUB_SORTS.get(asked.sort, HUB_SORTS["lastModified"])
    related = found.select_related("namespace", "current", "draft")
    return related.prefetch_related("tags", "current__files", "draft__files").order_by(*order, "pk")


def _has(text: str) -> Q | None:
    """One filter of list_models(), as the tags that model_info() shows; None: it is a tag of the owner's."""
    kind, colon, value = text.partition(":")
    if text in ("peft", "library:peft", "lora", "adapter"):
        return Q()
    if text == "safetensors":
        return Q(current__isnull=False)
    if text in HUB_PIPELINES:
        return Q(current__task_type=HUB_PIPELINES[text])
    if kind == "license" and colon:
        return Q(licence=value)
    if kind == "base_model" and colon:
        return Q(current__base_name=value.removeprefix("adapter:"))
    return None


def _tagged(names: Collection[str]) -> Q:
    """All of these tags, each named once: one subquery. Eight joins cost the database seconds of planning."""
    tagged = Module.tags.through.objects.filter(tag__name__in=names).values("module")
    counted: QuerySet[Any, Any] = tagged.annotate(found=Count("pk"))
    return Q(pk__in=counted.filter(found=len(names)).values("module"))


def licenses_in_use() -> list[str]:
    return [licence for licence, _ in _counts(Module.objects.visible_to(None), "licence")]


def module_facets(filters: ModuleFilters, viewer: object = None) -> list[Facet]:
    """What the results could be narrowed by, with how many would be left."""
    facets = [
        _facet(filters, viewer, "tags", "Tags", "tags__name"),
        _facet(filters, viewer, "base", "Base model", "current__base_name"),
        _facet(filters, viewer, "licence", "Licence", "licence"),
        _facet(filters, viewer, "author", "Owner", "namespace__name"),
    ]
    return [facet for facet in facets if facet.values]


def tags_in_use() -> list[tuple[str, int]]:
    """Each tag with the number of modules that carry it, most used first."""
    return _counts(Module.objects.visible_to(None), "tags__name")


def _matching(filters: ModuleFilters, viewer: object) -> QuerySet[Module]:
    found = Module.objects.visible_to(viewer).published()
    if filters.tags:
        found = found.filter(_tagged(filters.tags))
    if filters.base:
        found = found.filter(current__base_name=filters.base)
    if filters.licence:
        found = found.filter(licence=filters.licence)
    if filters.author:
        found = found.filter(namespace__name__iexact=filters.author)
    if filters.fits:
        found = found.filter(fits_named(filters.fits, filters.fits_by, viewer))
    return found.filter(_words(filters.q)) if filters.q else found


def _words(q: str) -> Q:
    """Words of the text, the beginning of a word, an owner, or a part of the name or of “owner/name”."""
    owner, slash, name = q.rpartition("/")
    if slash:
        return Q(search=_query(q)) | Q(namespace__name__iexact=owner, name__icontains=name)
    return Q(search=_query(q)) | Q(name__icontains=q) | Q(namespace__name__iexact=q)


def _query(q: str) -> SearchQuery:
    words = WORD.findall(q)[:SEARCH_WORDS_MAX]
    as_typed = SearchQuery(q, config="english", search_type="websearch")
    beginnings = " & ".join(f"{word}:*" for word in words)
    return as_typed | SearchQuery(beginnings, config="simple", search_type="raw") if words else as_typed


def _facet(filters: ModuleFilters, viewer: object, name: str, title: str, column: str) -> Facet:
    """One way to narrow the results, counted with the other choices applied and its own taken back."""
    chosen = filters.tags if name == "tags" else tuple(filter(None, [getattr(filters, name)]))
    narrowed = filters if name == "tags" else filters.without(name)
    values = [
        FacetValue(
            value=value,
            label=license_label(value) if name == "licence" else value,
            count=count,
            is_chosen=value in chosen,
            filters=filters.without(name, value) if value in chosen else filters.with_value(name, value),
        )
        for value, count in _counts(_matching(narrowed, viewer), column)[:FACET_VALUES_MAX]
    ]
    return Facet(name, title, values)


def _counts(modules: QuerySet[Module], column: str) -> list[tuple[str, int]]:
    # Count over the matches by id: a join of theirs would multiply the rows.
    counted = (
        Module.objects.filter(pk__in=modules.values("pk"))
        .filter(**{f"{column}__gt": ""})  # neither empty nor missing
        .order_by()
        .values_list(column)
        .annotate(count=Count("pk", distinct=True))
    )
    return list(counted.order_by("-count", column))
