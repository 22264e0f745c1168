"""Searching and listing modules: words, facets, orders, pages, and the Hub protocol's list."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial, reduce
from operator import or_
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.contrib.postgres.search import SearchQuery, SearchRank, TrigramSimilarity
from django.db.models import Case, Count, F, IntegerField, Q, QuerySet, Value, When
from django.db.models.functions import Collate, Lower, Upper

from hub_site.accounts.models import Namespace
from hub_site.accounts.selectors import namespace_by_name
from hub_site.audit.kept_pages import last_changes
from modules_registry.core.languages import language_codes
from modules_registry.counting import (
    EXACT_MAX,
    Counted,
    Counts,
    Kept,
    count_alone,
    count_first,
    count_kept,
    count_matches,
    count_text,
    count_values_of,
    kept_counts,
    library_count,
    library_values,
)
from modules_registry.facets import (
    BY_KEY,
    BY_NAME,
    FACETS,
    PIPELINES,
    YES,
    FacetKind,
    SaidFacet,
    facets_said,
)
from modules_registry.fitting import RULES, fits_named
from modules_registry.hashes import HashMatch, hash_find
from modules_registry.keyset import (
    KeysetPage,
    Order,
    cursor_at,
    first_keys,
    keyset_page,
    read_cursor,
    rows_in_order,
    write_cursor,
)
from modules_registry.models import FacetValue, Module, ModuleQuerySet
from modules_registry.selectors import is_storable
from modules_registry.words import SearchWords, fold, read_words, without_exclusions, words_beside

SORTS = {
    "best": "Best match",
    "trending": "Trending",
    "downloads": "Most downloaded",
    "likes": "Most liked",
    "newest": "Newest",
    "recent": "Recently updated",
    "name": "Name",
}
ORDERS = {
    "trending": Order("trending", float),
    "downloads": Order("downloads", int),
    "likes": Order("likes", int),
    "newest": Order("created_at", datetime),
    "recent": Order("updated_at", datetime),
    "name": Order(Collate(Lower("name"), "C"), str, is_descending=False),
}
MATCHES = ("any",)
Found = TypeVar("Found", bound=QuerySet[Module])
Q_LENGTH_MAX = 200
CHOICES_MAX = 8  # of one facet
RANKED_MAX = 300  # matches, the most downloaded, that are put in order of how well they match
PART_LENGTH_MIN = 3  # a shorter part of a name is in too many
NEAREST_COUNT = 6
TAGS_OFFERED = 8
IN_USE_MAX = 1000  # values of a facet in one list

# How list_models() sorts.
HUB_SORTS = {
    "lastModified": "recent",
    "createdAt": "newest",
    "downloads": "downloads",
    "likes": "likes",
    "trendingScore": "trending",
}
# Which modules match best, while nothing was published or changed since.
kept_rankings = Kept[list[int]]()
HUB_PIPELINES = {pipeline: task_type for task_type, pipeline in PIPELINES.items()}


@dataclass(frozen=True)
class ModuleFilters:
    """What a search asks for. Empty means any; of several tags, languages and so on, all must be there."""

    q: str = ""
    tags: tuple[str, ...] = ()
    base: str = ""
    licence: str = ""
    author: str = ""  # a namespace
    fits: str = ""  # a module's "owner/name", with which they can be composed
    fits_by: str = ""  # the rule for that, a key of fitting.RULES; empty: "sum"
    sort: str = ""
    match: str = ""  # "any": one of the words is enough; empty: as many of them as some module has
    task: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    allows: tuple[str, ...] = ()
    rank: str = ""
    size: str = ""
    target: tuple[str, ...] = ()
    scaling: str = ""
    architecture: str = ""
    composable: str = ""
    evidence: str = ""

    @property
    def order(self) -> str:
        """The sort asked for; without one, the best match for words, else the newest change."""
        if self.sort in SORTS and (self.q or self.sort != "best"):
            return self.sort
        return "best" if self.q else "recent"

    def values(self, kind: FacetKind) -> tuple[str, ...]:
        """The values of a facet that were asked for."""
        asked = getattr(self, kind.key)
        return asked if kind.is_many else tuple(filter(None, [asked]))

    @property
    def facet_pairs(self) -> list[tuple[FacetKind, str]]:
        return [(kind, value) for kind in FACETS for value in self.values(kind)]

    def as_read(self) -> tuple["ModuleFilters", list[SaidFacet]]:
        """The same search with the filters that are among its words, such as “rank 4”, as filters."""
        q, found = facets_said(self.q)
        said = [each for each in found if getattr(self, each.kind.key) in ("", each.value)]
        if not said or len(said) < len(found):  # one contradicts a filter that was chosen: all are words
            return self, []
        values: dict[str, Any] = {each.kind.key: each.value for each in said}
        return replace(self, q=q, **values), said

    def without(self, name: str, value: str = "") -> "ModuleFilters":
        """The same search with a choice taken back; of several values, one."""
        asked = getattr(self, name)
        kept: Any = tuple(each for each in asked if each != value) if isinstance(asked, tuple) else ""
        return replace(self, **{name: kept})

    def with_value(self, name: str, value: str) -> "ModuleFilters":
        """The same search with a choice made; where there can be several, it joins the others."""
        asked = getattr(self, name)
        chosen: Any = (*asked, value) if isinstance(asked, tuple) else value
        return replace(self, **{name: chosen})

    def words_alone(self) -> "ModuleFilters":
        """The same words without any other choice."""
        return ModuleFilters(q=self.q, match=self.match)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The same filters as names and values in an address."""
        pairs = [("q", self.q), ("match", self.match)]
        pairs += [(kind.name, value) for kind, value in self.facet_pairs]
        pairs += [("fits", self.fits), ("fits_by", self.fits_by), ("sort", self.sort)]
        return [(name, value) for name, value in pairs if value]

    @property
    def chosen(self) -> list["ActiveFilter"]:
        """Each choice that narrows the results, with the search that is left when it is taken back."""
        choices = [ActiveFilter("q", "Words", self.q, replace(self, q="", match=""))] if self.q else []
        if self.fits:
            label = f"{self.fits}, {RULES.get(self.fits_by, RULES['sum'])}"
            choices.append(ActiveFilter("fits", "Compatible with", label, replace(self, fits="", fits_by="")))
        return choices + [
            ActiveFilter(kind.name, kind.title, kind.label(value), self.without(kind.key, value))
            for kind, value in self.facet_pairs
        ]

    def as_query(self) -> str:
        return urlencode(self.pairs)


@dataclass(frozen=True)
class ActiveFilter:
    name: str  # in an address
    title: str
    label: str
    filters: ModuleFilters  # the search without it


@dataclass(frozen=True)
class FacetValueShown:
    value: str
    label: str
    count: int
    is_exact: bool  # else there are so many at least
    is_chosen: bool
    key: str  # of its facet, in ModuleFilters
    search: ModuleFilters
    other_pairs: str  # of the search in an address, without this facet where it takes one value

    @property
    def filters(self) -> ModuleFilters:
        """The search after a click."""
        if self.is_chosen:
            return self.search.without(self.key, self.value)
        return self.search.with_value(self.key, self.value)

    @property
    def query(self) -> str:
        """The same in an address."""
        if self.is_chosen:
            return self.filters.as_query()
        pair = urlencode({BY_KEY[self.key].name: self.value})
        return f"{self.other_pairs}&{pair}" if self.other_pairs else pair

    @property
    def count_text(self) -> str:
        return count_text(self.count, is_exact=self.is_exact)


@dataclass(frozen=True)
class Facet:
    name: str  # of ModuleFilters
    title: str
    values: tuple[FacetValueShown, ...]


@dataclass(frozen=True)
class FoundModules:
    """One page of a search, and what is said of all that it found."""

    search: "Search"
    filters: ModuleFilters
    modules: list[Module]
    previous: str  # cursors; empty: there is no such page
    next: str
    count: int  # at most EXACT_MAX
    is_exact: bool
    facets: list[Facet]
    taken_for: tuple[tuple[str, str], ...]  # misspelled words, and what each was taken for
    words_asked: int
    words_needed: int  # so many of them each module has
    read_as: tuple[SaidFacet, ...] = ()  # words that were read as filters
    hash_matches: tuple[HashMatch, ...] = ()  # versions that the hash which was typed belongs to

    @property
    def signs(self) -> tuple[str, ...]:
        """What is no word and was not searched, like “c++”."""
        return self.search.words.signs

    @property
    def count_text(self) -> str:
        return count_text(self.count, is_exact=self.is_exact)


@dataclass(frozen=True)
class WithoutOne:
    """What a search finds without one of its choices."""

    choice: ActiveFilter
    count: int  # at most EXACT_MAX
    is_exact: bool

    @property
    def count_text(self) -> str:
        return count_text(self.count, is_exact=self.is_exact)


@dataclass(frozen=True)
class WaysOn:
    """What to search for instead of what found nothing: the same without one choice; where the words alone
    find nothing, words of the library, else its tags."""

    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    without: tuple[WithoutOne, ...] = ()
    of_words: tuple[int, Counted] | None = None  # words needed, and what the words find without other choices


@dataclass(frozen=True)
class Search:
    """A search that was read: what is asked of the database."""

    filters: ModuleFilters
    listed: QuerySet[Module]  # what the viewer may see of published modules
    keys: dict[tuple[str, str], int]  # of the facet values, by facet and value
    missing: frozenset[tuple[str, str]]  # what no module has: pairs of the filters
    owner: Namespace | None
    words: SearchWords
    named: Q | None  # modules whose name, owner or hash was typed
    fitting: Q | None = None  # modules that can be composed with a given one
    read_as: tuple[SaidFacet, ...] = ()  # words that were read as filters
    hash_matches: tuple[HashMatch, ...] = ()

    def narrowed_to(self, filters: ModuleFilters) -> "Search":
        """The search of a part of its filters, without reading them again."""
        pairs = {(kind.name, value) for kind, value in filters.facet_pairs}
        return replace(
            self,
            filters=filters,
            keys={pair: key for pair, key in self.keys.items() if pair in pairs},
            missing=self.missing & {*pairs, ("q", filters.q)},
            owner=self.owner if filters.author else None,
            fitting=self.fitting if filters.fits else None,
        )

    @property
    def by_words(self) -> list[QuerySet[Module]]:
        """What matches by all words, then by fewer."""
        return [self.matching(words_needed) for words_needed in self.counts_of_words]

    def matching(self, words_needed: int, *, without: int = 0) -> QuerySet[Module]:
        """What matches, in no order. Args: without: the key of a facet value that is not asked for."""
        return self.narrow(self.listed, words_needed, without=without)

    def narrow(self, found: Found, words_needed: int, *, without: int = 0) -> Found:
        """Those of other modules that match."""
        found = found.none() if self.missing else found
        keys = [key for key in self.keys.values() if key != without]
        if keys:
            found = found.filter(facets__contains=keys)
        if self.owner is not None:
            found = found.filter(namespace=self.owner)
        if self.fitting is not None:
            found = found.filter(self.fitting)
        return found.filter(self.words_condition(words_needed)) if self.filters.q else found

    def words_condition(self, words_needed: int) -> Q:
        """Modules with so many of the words, and those whose name or owner was typed; of what is excluded
        alone: all that lack it."""
        query, without = self.words.at_least(words_needed) if words_needed else None, self.words.without
        conditions = []
        if query is not None:
            conditions.append(Q(search=query if without is None else query & without))
        if self.named is not None:
            conditions.append(self.named if without is None else self.named & Q(search=without))
        if not conditions and without is not None:
            return Q(search=without)
        return reduce(or_, conditions) if conditions else Q(pk__in=[])

    @property
    def counts_of_words(self) -> tuple[int, ...]:
        """How many words to ask for, one after the other, until some module has so many."""
        counts = self.words.counts or (0,)
        return counts[-1:] if self.filters.match == "any" else counts


def read_search(filters: ModuleFilters, viewer: object) -> Search:
    """Resolve names of owners, tags and so on to keys before the search. At most nine queries; of a hash,
    six more.

    Raises:
        Refusal: nothing can be composed with the module that it asks about.
    """
    filters, read_as = filters.as_read()
    fitting = fits_named(filters.fits, filters.fits_by, viewer) if filters.fits else None
    asked = {(kind.name, value) for kind, value in filters.facet_pairs}
    of_facets = {(name, value) for name, value in asked if name != "author" and is_storable(value)}
    keys = facet_keys_of(of_facets) if of_facets else {}
    owner = namespace_by_name(filters.author) if filters.author and is_storable(filters.author) else None
    missing = asked - keys.keys() - ({("author", filters.author)} if owner is not None else set())
    words, named, hash_matches = SearchWords(), None, []
    if not is_storable(filters.q):
        missing.add(("q", filters.q))
    elif filters.q:
        words, named = read_words(filters.q), named_like(without_exclusions(filters.q))
        hash_matches = hash_find(filters.q, viewer)
    if hash_matches:
        of_hash = Q(pk__in={match.version.module_id for match in hash_matches})
        named = of_hash if named is None else named | of_hash
    listed = Module.objects.visible_to(viewer).published()
    of_words = (words, named, fitting, tuple(read_as), tuple(hash_matches))
    return Search(filters, listed, keys, frozenset(missing), owner, *of_words)


def facet_keys_of(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    conditions = [Q(facet=facet, value=value) for facet, value in pairs]
    rows = FacetValue.objects.filter(reduce(or_, conditions)).values_list("facet", "value", "pk")
    return {(facet, value): pk for facet, value, pk in rows}


def named_like(q: str) -> Q | None:
    """Modules of an owner of that name, or with a part of the name or of “owner/name”."""
    if not q:
        return None
    owner_name, slash, name = q.rpartition("/")
    named = (owner_name if slash else q).strip()
    owner = None if any(map(str.isspace, named)) else namespace_by_name(named)
    if slash:
        return Q(namespace=owner, name__icontains=name.strip()) if owner else None
    conditions = [Q(name__icontains=q)] if len(q) >= PART_LENGTH_MIN else []
    conditions += [Q(namespace=owner)] if owner else []
    return reduce(or_, conditions) if conditions else None


def module_search(filters: ModuleFilters, viewer: object = None) -> QuerySet[Module]:
    """All modules that match and that the viewer may see, in the order asked for."""
    search = read_search(filters, viewer)
    for words_needed in search.counts_of_words:
        found = search.matching(words_needed)
        if words_needed <= 1 or found.exists():
            break
    if search.filters.order == "best":
        return ranked(found, search)
    order = ORDERS[search.filters.order]
    expression = F(order.expression) if isinstance(order.expression, str) else order.expression
    key = "-pk" if order.is_descending else "pk"
    return found.order_by(expression.desc() if order.is_descending else expression.asc(), key)


def find_modules(
    filters: ModuleFilters,
    viewer: object = None,
    *,
    cursor: str = "",
    size: int,
    has_facets: bool = True,
) -> FoundModules:
    """A page of the modules that match, their count, and what the results could be narrowed by.

    Raises:
        Refusal: the cursor is none of this list.
    """
    search = read_search(filters, viewer)
    words_needed, *fewer = search.counts_of_words
    counted = counted_search(search, words_needed, viewer, has_facets=has_facets)
    if fewer and not counted.count:
        [(place, some)] = count_first([[search.matching(count) for count in fewer]])
        words_needed = fewer[place]
        if some.count:
            counted = counted_search(search, words_needed, viewer, has_facets=has_facets)
    is_empty = not counted.count and not cursor
    page = (
        KeysetPage([], "", "") if is_empty else page_of(search, words_needed, viewer, counted, cursor, size)
    )
    return FoundModules(
        search,
        search.filters,
        page.rows,
        page.previous,
        page.next,
        counted.count,
        counted.is_exact,
        shown_facets(search.filters, counted) if has_facets else [],
        search.words.taken_for,
        len(search.words.groups),
        words_needed,
        search.read_as,
        search.hash_matches,
    )


def counted_search(search: Search, words_needed: int, viewer: object, *, has_facets: bool) -> Counted:
    """Count a search; what is large, and asked for again within a minute, is not counted again."""
    filters = replace(search.filters, sort="")
    kept_as = (filters, words_needed, getattr(viewer, "pk", None), has_facets)
    return kept_counts.get(kept_as, partial(count_now, search, words_needed, viewer, has_facets=has_facets))


def count_now(search: Search, words_needed: int, viewer: object, *, has_facets: bool) -> Counted:
    matching = search.matching(words_needed)
    if not has_facets:
        return count_alone(matching)
    one_of = {kind.name: value for kind, value in search.filters.facet_pairs if not kind.is_many}
    chosen = [kind for kind, _ in search.filters.facet_pairs]
    has_more = search.filters.q or search.filters.fits
    is_large = not has_more and len(chosen) <= 1 and not library_count(viewer).is_exact
    if is_large and not chosen:
        return replace(library_count(viewer), values=library_values(list(BY_NAME)))
    others = {} if is_large else {name: without_facet(search, name, words_needed) for name in one_of}
    counted = count_matches(matching, chosen=tuple(search.keys.values()), others=others)
    if is_large:  # one value alone: the others are those of the whole library
        whole = {
            name: with_chosen(library_values([name]), counted.values, name, one_of[name]) for name in one_of
        }
        return replace(counted, values=counted.values | whole, at_least=counted.at_least - set(one_of))
    return counted


def with_chosen(whole: Counts, counted: Counts, name: str, value: str) -> list[tuple[str, int]]:
    """The library's values of a facet, with the chosen one however rare it is."""
    values = whole.get(name, [])
    is_there = any(is_same(each, value) for each, _ in values)
    return (
        values
        if is_there
        else [*values, *(pair for pair in counted.get(name, []) if is_same(pair[0], value))]
    )


def without_facet(search: Search, name: str, words_needed: int) -> QuerySet[Module]:
    """The same search without its one value of this facet."""
    if name == "author":
        return replace(search, owner=None).matching(words_needed)
    [value] = search.filters.values(BY_NAME[name])
    return search.matching(words_needed, without=search.keys.get((name, value), 0))


def shown_facets(filters: ModuleFilters, counted: Counted) -> list[Facet]:
    facets = [shown_facet(filters, kind, counted) for kind in FACETS]
    return [facet for facet in facets if facet.values]


def shown_facet(filters: ModuleFilters, kind: FacetKind, counted: Counted) -> Facet:
    """One way to narrow the results. Of a facet of which one value is chosen: what the others would give."""
    chosen = filters.values(kind)
    if kind.name == "author":
        chosen = tuple(
            value for value, _ in counted.values.get(kind.name, []) if is_same(value, filters.author)
        )
    others = (filters if kind.is_many else filters.without(kind.key)).as_query()
    return Facet(
        kind.key,
        kind.title,
        tuple(
            FacetValueShown(
                value=value,
                label="Yes" if value == YES else kind.label(value),
                count=count,
                is_exact=kind.name not in counted.at_least,
                is_chosen=value in chosen,
                key=kind.key,
                search=filters,
                other_pairs=others,
            )
            for value, count in counted.values.get(kind.name, [])
        ),
    )


def is_same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def page_of(
    search: Search, words_needed: int, viewer: object, counted: Counted, cursor: str, size: int
) -> KeysetPage:
    """The rows of one page, by the way that costs least: few matches are put in order, of many the index of
    an order is read until the page is full."""
    name = search.filters.order
    if name == "best":
        return ranked_page(search, words_needed, viewer, counted, cursor, size)
    matching = search.matching(words_needed)
    most = EXACT_MAX + 1 if counted.is_exact and search.filters.chosen else None
    return keyset_page(matching, ORDERS[name], cursor, size, name=name, shown=with_shown_columns, most=most)


def with_shown_columns(found: QuerySet[Module]) -> QuerySet[Module]:
    """With what cards and lists say of a module, and nothing wide."""
    wide = ("description", "repairs", "prompt_template", "not_composable")
    return (
        found.select_related("namespace", "current")
        .defer(*Module.WIDE_COLUMNS, *(f"current__{name}" for name in wide))
        .prefetch_related("tags")
    )


def ranked(found: QuerySet[Module], search: Search) -> QuerySet[Module]:
    """Put what matches in order: first what has most of the words, then what says most of them itself and
    not by a synonym, then by how well it matches.

    The match is PostgreSQL's rank of the text plus the similarity of the name: both lie between 0 and 1, so
    that a module of that very name comes before one that mentions it often.
    """
    named = without_exclusions(search.filters.q).rpartition("/")[2]
    similarity = TrigramSimilarity("name", named)
    query = search.words.at_least(1)
    if query is None:
        return found.annotate(match=similarity).order_by("-match", "-downloads", "-pk")
    groups = search.words.groups
    match = SearchRank(F("search"), query) + similarity
    rows = found.annotate(
        match=match,
        covered=count_true([group.query for group in groups]) if len(groups) > 1 else Value(1),
        said=count_true([group.said for group in groups]),
    )
    return rows.order_by("-covered", "-said", "-match", "-downloads", "-pk")


def count_true(queries: Iterable[SearchQuery]) -> Any:
    """How many of these queries a module matches."""
    count: Any = Value(0, output_field=IntegerField())
    for query in queries:
        count = count + Case(When(search=query, then=1), default=0, output_field=IntegerField())
    return count


def ranked_page(
    search: Search, words_needed: int, viewer: object, counted: Counted, cursor: str, size: int
) -> KeysetPage:
    """A page by best match: of more than RANKED_MAX matches, of those that are named so, and of the most
    downloaded others."""
    matching = search.matching(words_needed)
    start = read_cursor(cursor, "best", int)[1] if cursor else 0
    start = min(max(start, 0), 2 * RANKED_MAX)
    if counted.count > RANKED_MAX:
        kept_as = (
            replace(search.filters, sort=""),
            words_needed,
            getattr(viewer, "pk", None),
            last_changes(),
        )
        ranking = kept_rankings.get(kept_as, partial(ranking_of, search, matching, counted))
        keys = ranking[start : start + size + 1]
        rows = rows_in_order(with_shown_columns(search.listed), keys)
        has_more = len(keys) > size
    else:
        rows = list(with_shown_columns(ranked(matching, search))[start : start + size + 1])
        has_more = len(rows) > size
    following = write_cursor(["next", "best", start + size, 0]) if has_more else ""
    previous = write_cursor(["previous", "best", max(start - size, 0), 0]) if start else ""
    return KeysetPage(rows[:size], previous, following)


def ranking_of(search: Search, matching: QuerySet[Module], counted: Counted) -> list[int]:
    """The keys of the modules that are put in order of how well they match, the best first."""
    most = EXACT_MAX + 1 if counted.is_exact else None
    keys = first_keys(matching, ORDERS["downloads"], RANKED_MAX, most=most)
    if search.named is not None:
        keys += first_keys(matching.filter(search.named), ORDERS["downloads"], RANKED_MAX, most=EXACT_MAX)
    return list(ranked(Module.objects.filter(pk__in=keys), search).values_list("pk", flat=True))


def modules_trending(count: int) -> list[Module]:
    """What everybody may see and somebody has used, liked or measured, the most used lately first."""
    used = Q(downloads__gt=0) | Q(likes__gt=0) | Q(has_evidence=True)
    listed = Module.objects.visible_to(None).published().filter(used)
    return keyset_page(listed, ORDERS["trending"], "", count, name="trending", shown=with_shown_columns).rows


def modules_of_base(base: str, viewer: object, count: int) -> tuple[list[Module], Counted]:
    """The modules of a base with the most measured evidence first, then the most downloaded; and how many
    there are."""
    listed = read_search(ModuleFilters(base=base), viewer).matching(0)
    measured = listed.filter(has_evidence=True).annotate(n_measured=Count("evidence"))
    keys = list(measured.order_by("-n_measured", "-downloads", "-pk").values_list("pk", flat=True)[:count])
    popular = first_keys(listed, ORDERS["downloads"], count) if len(keys) < count else []
    keys += [key for key in popular if key not in keys][: count - len(keys)]
    counted = count_kept(listed, kept_as=("base", base, getattr(viewer, "pk", None)))
    return rows_in_order(with_shown_columns(listed), keys), counted


def nearest_modules(found: FoundModules, ways: WaysOn, viewer: object) -> list[Module]:
    """What to show where nothing matches: the same words without the other choices, else names like them."""
    filters = found.filters
    if ways.of_words is not None:
        search = found.search.narrowed_to(filters.words_alone())
        words_needed, counted = ways.of_words
        return page_of(search, words_needed, viewer, counted, "", NEAREST_COUNT).rows
    typed = fold(filters.q)
    if not typed.strip() or not is_storable(typed):
        return []
    similarity = TrigramSimilarity(Upper("name"), typed.upper())
    listed = Module.objects.visible_to(viewer).published().annotate(like=similarity)
    likest = listed.alias(near=Upper("name")).filter(near__trigram_similar=typed.upper())
    return list(with_shown_columns(likest.order_by("-like", "-downloads", "-pk"))[:NEAREST_COUNT])


def ways_on(found: FoundModules) -> WaysOn:
    """What to search for instead of what found nothing. At most three queries."""
    q, choices = found.filters.q, found.filters.chosen[:CHOICES_MAX]
    if found.count or not choices:
        return WaysOn()
    without: tuple[WithoutOne, ...] = ()
    if len(choices) > 1:
        alone = found.search.narrowed_to(found.filters.words_alone())
        fewer = [found.search.narrowed_to(choice.filters) for choice in choices]
        *each, (place, of_words) = count_first([search.by_words for search in (*fewer, alone)])
        counted = zip(choices, each, strict=True)
        without = tuple(
            WithoutOne(choice, left.count, left.is_exact) for choice, (_, left) in counted if left.count
        )
        if q and of_words.count:  # it is not the words that find nothing
            return WaysOn(without=without, of_words=(alone.counts_of_words[place], of_words))
    if not q or not is_storable(q):
        return WaysOn(without=without)
    if words := words_beside(q):
        return WaysOn(words=tuple(words), without=without)
    tags = values_counted("tag")[:TAGS_OFFERED]
    return WaysOn(tags=tuple(tag for tag, _ in tags), without=without)


def count_of_owner(owner: Namespace, viewer: object) -> int:
    """How many published modules of an owner the viewer may see."""
    return Module.objects.visible_to(viewer).published().filter(namespace=owner).count()


@dataclass(frozen=True)
class HubSearch:
    """What a Hub client's list_models() asks for."""

    q: str = ""
    author: str = ""
    filters: tuple[str, ...] = ()  # what `tags` of model_info() holds, "language:fr", …
    pipeline: str = ""  # "translation"
    sort: str = ""
    is_none: bool = False  # asks for what no module here has


def repositories_page(asked: HubSearch, viewer: object, *, cursor: str, size: int) -> KeysetPage:
    """What a Hub client is shown: as on the site, and to its owner also each draft."""
    name = HUB_SORTS.get(asked.sort, HUB_SORTS["lastModified"])
    found = repositories_listed(asked, viewer)
    order = ORDERS[name]
    published = found.published()
    is_narrow = asked.q or asked.filters or asked.pipeline or asked.author
    kept_as = (replace(asked, sort=""), getattr(viewer, "pk", None))
    counted = count_kept(published, kept_as=kept_as) if is_narrow else Counted(0, True, {})
    most = EXACT_MAX + 1 if counted.is_exact and counted.count else None
    page = keyset_page(published, order, cursor, size, name=name, shown=with_files, most=most)
    if not getattr(viewer, "is_authenticated", False):
        return page
    drafts = keyset_page(found.filter(current=None), order, cursor, size, name=name, shown=with_files)
    return merged(page, drafts, order, size, name)


def with_files(found: QuerySet[Module]) -> QuerySet[Module]:
    """With what the Hub protocol's lists say of a module."""
    unread = [name for name in Module.WIDE_COLUMNS if name != "facets"]
    related = found.select_related("namespace", "current", "draft").defer(*unread)
    return related.prefetch_related("tags", "current__files", "draft__files")


def repositories_listed(asked: HubSearch, viewer: object) -> ModuleQuerySet:
    """The same in no order."""
    found = Module.objects.visible_to(viewer)
    wanted = [pairs for text in asked.filters if (pairs := facets_named(text))]
    wanted += [(("task", asked.pipeline),)] if asked.pipeline else []
    texts = (asked.q, asked.author, asked.pipeline, *asked.filters)
    if asked.is_none or not all(is_storable(text) for text in texts):
        return found.none()
    if asked.author:
        owner = namespace_by_name(asked.author)
        found = found.filter(namespace=owner) if owner else found.none()
    keys = facet_keys_of(pair for pairs in wanted for pair in pairs) if wanted else {}
    choices = {tuple(keys[pair] for pair in pairs if pair in keys) for pairs in wanted}
    for choice in choices:
        found = found.filter(facets__overlap=choice) if len(choice) > 1 else found
    if needed := [key for choice in choices if len(choice) == 1 for key in choice]:
        found = found.filter(facets__contains=needed)
    if () in choices:  # no module has any such value
        return found.none()
    if asked.q:
        search = read_search(ModuleFilters(q=asked.q), viewer)
        found = search.narrow(found, len(search.words.groups))
    return found


def merged(one: KeysetPage, other: KeysetPage, order: Order, size: int, name: str) -> KeysetPage:
    """Two pages of the same order as one."""
    rows = sorted(
        [*one.rows, *other.rows],
        key=lambda row: (row.sort_value, row.pk),  # type: ignore[attr-defined]  # keyset_page annotates it
        reverse=order.is_descending,
    )
    is_full = len(rows) > size or bool(one.next or other.next)
    listed = rows[:size]
    following = cursor_at(listed[-1], "next", name) if listed and is_full else ""
    return KeysetPage(listed, "", following)


def facets_named(text: str) -> tuple[tuple[str, str], ...]:
    """What one filter of list_models() asks for, as the tags that model_info() shows.

    Returns: pairs of facet and value of which a module needs one; none: every module has it.
    """
    kind, colon, value = text.partition(":")
    if text in ("peft", "library:peft", "lora", "adapter", "safetensors"):
        return ()
    if kind == "license" and colon:
        return (("licence", value),)
    if kind == "base_model" and colon:
        return (("base", value.removeprefix("adapter:")),)
    if kind == "language" and colon:
        return tuple(("language", code) for code in language_codes(value)) or (("language", value),)
    if kind == "pipeline_tag" and colon:
        return (("task", value),)
    languages = tuple(("language", code) for code in language_codes(text))
    return (("tag", text.casefold()), ("task", text), *languages)


def languages_in_use() -> list[str]:
    return [value for value, _ in values_in_use("language")]


def tasks_in_use() -> list[str]:
    """Those that peft's task types are called, and what else modules of the library are for."""
    return list(dict.fromkeys([*HUB_PIPELINES, *(value for value, _ in values_in_use("task"))]))


def licenses_in_use() -> list[str]:
    return [value for value, _ in values_in_use("licence")]


def tags_in_use() -> list[tuple[str, int]]:
    """The tags that most modules carry, with how many do, most used first."""
    return values_in_use("tag")


def values_in_use(facet: str) -> list[tuple[str, int]]:
    """The values of a facet that most modules carry: counted now, in a large library a minute ago."""
    if library_count(None).is_exact:
        return count_values_of(Module.objects.visible_to(None).published(), facet, IN_USE_MAX)
    return list(values_counted(facet)[:IN_USE_MAX])


def values_counted(facet: str) -> QuerySet[FacetValue, tuple[str, int]]:
    """The same as last counted."""
    rows = FacetValue.objects.filter(facet=facet, n_modules__gt=0).order_by("-n_modules", "value")
    return rows.values_list("value", "n_modules")
