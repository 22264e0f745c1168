"""Finding modules, and reading what is known of them: reads only."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.conf import settings
from django.contrib.postgres.search import SearchQuery, SearchRank, TrigramSimilarity
from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Lower

from hub_site.accounts.models import Namespace, User
from hub_site.accounts.names import name_key
from hub_site.accounts.selectors import namespaces_writable_by
from hub_site.common.downloads import Download
from modules_registry.cards import Card, check_card
from modules_registry.core.compatibility import Base, Candidate, reason_not_composable
from modules_registry.core.errors import CARD_FILE
from modules_registry.licences import licence_label
from modules_registry.models import BaseModel, Module, StoredFile, Version, VersionFile
from modules_registry.storage import Store, StoreSettings, make_store

SORTS = {"best": "Best match", "recent": "Newest change", "name": "Name"}
FACET_VALUES_MAX = 15
SEARCH_WORDS_MAX = 8
WORD = re.compile(r"\w+")
MAIN = "main"
NUMBERED = re.compile(r"v([1-9][0-9]{0,8})")
COMMIT_ID = re.compile(r"[0-9a-f]{40}")


def store() -> Store:
    """Where the files are, as the settings say."""
    return make_store(StoreSettings(settings.HUB_STORE, settings.HUB_DATA / "blobs"))


@dataclass(frozen=True)
class ModuleFilters:
    """What a search asks for. Empty means any; several tags must all be there."""

    q: str = ""
    tags: tuple[str, ...] = ()
    base: str = ""
    licence: str = ""
    author: str = ""  # a namespace
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
        pairs += [("licence", self.licence), ("author", self.author), ("sort", self.sort)]
        return [(name, value) for name, value in pairs if value]

    @property
    def chosen(self) -> list["Choice"]:
        """Each choice that narrows the results, with the search that is left when it is taken back."""
        choices = [Choice("Words", self.q, self.without("q"))] if self.q else []
        choices += [Choice("Tag", tag, self.without("tags", tag)) for tag in self.tags]
        single = {"base": "Base", "licence": "Licence", "author": "Owner"}
        return choices + [
            Choice(title, getattr(self, name), self.without(name))
            for name, title in single.items()
            if getattr(self, name)
        ]

    def as_query(self) -> str:
        return urlencode(self.pairs)


@dataclass(frozen=True)
class Choice:
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


def module_search(filters: ModuleFilters) -> QuerySet[Module]:
    """The modules that match, in the order asked for."""
    found = _matching(filters).select_related("namespace", "current__base").prefetch_related("tags")
    if filters.order == "name":
        return found.order_by(Lower("name"), "namespace__name")
    if filters.order == "best":
        # Both lie between 0 and 1: a module of that very name comes before one that mentions it often.
        likeness = TrigramSimilarity("name", filters.q.rpartition("/")[2])
        match = SearchRank(F("search"), _query(filters.q)) + likeness
        return found.annotate(match=match).order_by("-match", "-updated_at", "pk")
    return found.order_by("-updated_at", "pk")


def modules_newest(count: int) -> QuerySet[Module]:
    return module_search(ModuleFilters(sort="recent"))[:count]


def module_facets(filters: ModuleFilters) -> list[Facet]:
    """What the results could be narrowed by, with how many would be left."""
    facets = [
        _facet(filters, "tags", "Tags", "tags__name"),
        _facet(filters, "base", "Base model", "current__base_name"),
        _facet(filters, "licence", "Licence", "licence"),
        _facet(filters, "author", "Owner", "namespace__name"),
    ]
    return [facet for facet in facets if facet.values]


def module_find(namespace: str, name: str) -> Module | None:
    """The existing module with this address, in any case; look-alikes do not match."""
    return (
        Module.objects.existing()
        .filter(key=name_key(name), name__iexact=name, namespace__name__iexact=namespace)
        .select_related("namespace", "current__base", "current__author")
        .first()
    )


def base_find(namespace: str, name: str) -> BaseModel | None:
    """The library's base model with this address, in any case."""
    return BaseModel.objects.filter(name__iexact=f"{namespace}/{name}").first()


def namespace_is_writable_by(namespace: Namespace, user: object) -> bool:
    return isinstance(user, User) and namespaces_writable_by(user).filter(pk=namespace.pk).exists()


def version_find(module: Module, revision: str) -> Version | None:
    """A version by “main”, its commit id, or “v2”."""
    if revision == MAIN:
        return module.current
    versions = module.versions.select_related("base", "author")
    if numbered := NUMBERED.fullmatch(revision):
        return versions.filter(number=int(numbered[1])).first()
    return versions.filter(commit_id=revision).first() if COMMIT_ID.fullmatch(revision) else None


def revision_find(found: Module | BaseModel, revision: str) -> Version | BaseModel | None:
    """What holds the files of a module or of a base model at a revision."""
    if isinstance(found, Module):
        return version_find(found, revision)
    return found if revision in (MAIN, found.revision) else None


def versions_of(module: Module) -> QuerySet[Version]:
    return module.versions.select_related("base", "author", "module__namespace").prefetch_related("files")


def version_files(version: Version) -> QuerySet[VersionFile]:
    return version.files.all()


def file_download(source: Version | BaseModel, path: str) -> Download | None:
    """A file to hand out. The path is looked up among the rows and never opened."""
    file = next((file for file in source.files.all() if file.path == path), None)
    if file is None:
        return None
    return Download(file.path, file.sha256, file.size_bytes, partial(store().open, file.sha256))


def card_of(version: Version) -> Card:
    """The README as it is stored; empty when there is none."""
    download = file_download(version, CARD_FILE)
    if download is None:
        return check_card(b"")
    with download.open() as file:
        return check_card(file.read())


def composable_versions(base: BaseModel) -> QuerySet[Version]:
    """The current versions that can be composed on this base."""
    return (
        Version.objects.filter(current_of__isnull=False, current_of__deleted_at=None, base=base)
        .select_related("module__namespace")
        .order_by("module__namespace__name", "module__name")
    )


def base_models() -> QuerySet[BaseModel]:
    return BaseModel.objects.annotate(
        modules_count=Count(
            "versions", filter=Q(versions__current_of__deleted_at=None, versions__current_of__isnull=False)
        )
    )


def tags_in_use() -> list[tuple[str, int]]:
    """Each tag with the number of modules that carry it, most used first."""
    return _counts(Module.objects.existing(), "tags__name")


def not_composable_because(version: Version) -> str:
    """Why this version cannot be composed here, as a sentence; empty when it can."""
    if version.base_id is not None:
        return ""
    base = BaseModel.objects.filter(name=version.base_name).first()
    reason = reason_not_composable(as_candidate(version), library_of(base))
    return reason.message if reason else f"Its layers are not those of {version.base_name} in this library."


def as_candidate(version: Version) -> Candidate:
    """A version, as the rules of what goes together see it."""
    return Candidate(
        name=version.module.full_name,
        base=version.base_name,
        revision=version.base_revision or None,
        rank=version.rank,
        scaling=version.scaling,
        targets=tuple(version.targets),
    )


def library_of(base: BaseModel | None) -> dict[str, Base]:
    return {base.name: Base(base.name, base.revision)} if base else {}


def blobs_unnamed(hashes: Iterable[str]) -> Iterator[str]:
    """Those of the hashes that no row names: of any app, whatever keeps files of its own."""
    hashes = set(hashes)
    for model in apps.get_models():
        if issubclass(model, StoredFile):
            hashes -= set(model._default_manager.filter(sha256__in=hashes).values_list("sha256", flat=True))
    yield from hashes


def _matching(filters: ModuleFilters) -> QuerySet[Module]:
    found = Module.objects.existing().filter(current__isnull=False)
    for tag in filters.tags:
        found = found.filter(tags__name=tag)
    if filters.base:
        found = found.filter(current__base_name=filters.base)
    if filters.licence:
        found = found.filter(licence=filters.licence)
    if filters.author:
        found = found.filter(namespace__name__iexact=filters.author)
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


def _facet(filters: ModuleFilters, name: str, title: str, column: str) -> Facet:
    """One way to narrow the results, counted with the other choices applied and its own taken back."""
    chosen = filters.tags if name == "tags" else tuple(filter(None, [getattr(filters, name)]))
    narrowed = filters if name == "tags" else filters.without(name)
    values = [
        FacetValue(
            value=value,
            label=licence_label(value) if name == "licence" else value,
            count=count,
            is_chosen=value in chosen,
            filters=filters.without(name, value) if value in chosen else filters.with_value(name, value),
        )
        for value, count in _counts(_matching(narrowed), column)[:FACET_VALUES_MAX]
    ]
    return Facet(name, title, values)


def _counts(modules: QuerySet[Module], column: str) -> list[tuple[str, int]]:
    # The tags chosen are joins of their own: count over the matches by id, or they would multiply.
    counted = (
        Module.objects.filter(pk__in=modules.values("pk"))
        .filter(**{f"{column}__gt": ""})  # neither empty nor missing
        .order_by()
        .values_list(column)
        .annotate(count=Count("pk", distinct=True))
    )
    return list(counted.order_by("-count", column))
