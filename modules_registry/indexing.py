"""What the search reads of a module, written when the module changes; and counts of the whole library."""

from collections.abc import Iterable, Sequence

from django.db import connection, transaction
from django.db.models.functions import Now

from modules_registry.card_facts import plain_text, sample_in
from modules_registry.core.languages import LANGUAGES, OWN_NAMES
from modules_registry.facets import FacetFacts, facet_values
from modules_registry.models import FacetValue, Module, Version
from modules_registry.selectors import base_called, card_of
from modules_registry.words import fold, joined_words, words_add, words_in

CARD_CHARACTERS_MAX = 20_000  # of a card are searched
AT_ONCE = 200  # modules in one transaction of `index_waiting`

# Of the library that everyone sees: how many modules have each value.
COUNT_VALUES = """
WITH counted AS (
    SELECT value, count(*) AS n FROM modules_registry_module, unnest(facets) AS value
    WHERE current_id IS NOT NULL AND deleted_at IS NULL AND hold = '' AND NOT private
      AND namespace_id NOT IN (
          SELECT namespace.id FROM accounts_namespace AS namespace
          JOIN accounts_user AS owner ON owner.id = namespace.user_id
          WHERE owner.suspended_at IS NOT NULL
      )
    GROUP BY value
)
UPDATE modules_registry_facetvalue AS row SET n_modules = coalesce(counted.n, 0)
FROM modules_registry_facetvalue AS each LEFT JOIN counted ON counted.value = each.id
WHERE row.id = each.id AND row.n_modules <> coalesce(counted.n, 0)
"""
COUNT_WORDS = """
UPDATE modules_registry_searchword AS row SET n_modules = stat.ndoc
FROM ts_stat($$
    SELECT search FROM modules_registry_module
    WHERE current_id IS NOT NULL AND deleted_at IS NULL AND hold = '' AND NOT private
$$) AS stat
WHERE stat.word = row.lexeme AND row.n_modules <> stat.ndoc
"""


def describe_for_search(module: Module) -> None:
    """Set the module's columns that the search and lists read, for the caller to save."""
    version = module.current
    tags = list(module.tags.values_list("name", flat=True))
    card = card_of(version) if version else None
    values = (
        facet_values(facts_of_module(module, version, tags, card.front_matter if card else {}))
        if version
        else []
    )
    module.search_text = search_text_of(module, tags, values)
    module.card_text = searched_card(card.body) if card else ""
    sample = sample_in(card) if card else None
    module.sample_input, module.sample_output = (sample.input, sample.output) if sample else ("", "")
    module.facets = sorted(facet_keys(values).values())
    module.indexed_at = Now()
    if version is not None and not module.is_hidden:
        FacetValue.objects.filter(pk__in=module.facets, n_modules=0).update(n_modules=1)
        words_add(words_in(f"{module.name} {module.search_text} {module.card_text}"))


def facts_of_module(
    module: Module, version: Version, tags: Sequence[str], front_matter: dict[str, object]
) -> FacetFacts:
    return FacetFacts(
        owner=module.namespace.name,
        licence=module.licence,
        tags=tags,
        base=version.base_name,
        architecture=architecture_of(version),
        task_type=version.task_type,
        rank=version.rank,
        alpha=version.alpha,
        scaling=version.scaling,
        has_own_ranks=version.has_own_ranks,
        targets=version.targets,
        size_bytes=version.size_bytes,
        is_composable=version.base_id is not None,
        has_evidence=module.has_evidence,
        front_matter=front_matter,
    )


def architecture_of(version: Version) -> str:
    """Of the base that it stands on, also where it is not composable here; empty: the library has none."""
    if version.base is not None:
        return version.base.architecture
    base = base_called(version.base_name)
    return base.architecture if base is not None else ""


def search_text_of(module: Module, tags: Iterable[str], values: Iterable[tuple[str, str]]) -> str:
    """Sentence, tags, base, its languages by their names, and its words with hyphens also without."""
    named = dict(values)
    base = named.get("base", "")
    spoken = [value for facet, value in values if facet == "language"]
    languages = " ".join(f"{LANGUAGES[value]} {OWN_NAMES.get(value, '')}" for value in spoken)
    text = fold("\n".join([module.sentence, " ".join(tags), base, base.replace("/", " "), languages]))
    joined = joined_words(f"{fold(module.name)}\n{text}")
    return "\n".join(filter(None, [text, " ".join(joined)]))


def searched_card(body: str) -> str:
    text = fold(plain_text(body))[:CARD_CHARACTERS_MAX]
    return "\n".join(filter(None, [text, " ".join(joined_words(text))]))


def facet_keys(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The keys of these values; those that are new get one."""
    known = stored_keys(pairs)
    missing = [pair for pair in pairs if pair not in known]
    if missing:
        FacetValue.objects.bulk_create(
            [FacetValue(facet=facet, value=value) for facet, value in sorted(missing)], ignore_conflicts=True
        )
        known = stored_keys(pairs)
    return {pair: known[pair] for pair in pairs}


def stored_keys(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    facets, values = {facet for facet, _ in pairs}, {value for _, value in pairs}
    rows = FacetValue.objects.filter(facet__in=facets, value__in=values)
    return {(facet, value): pk for facet, value, pk in rows.values_list("facet", "value", "pk")}


def index_waiting() -> int:
    """Describe modules for the search that are not described yet; return how many."""
    count = 0
    while batch := list(Module.objects.filter(indexed_at=None).values_list("pk", flat=True)[:AT_ONCE]):
        for pk in batch:
            index_module(pk)
        count += len(batch)
    return count


@transaction.atomic
def index_module(pk: int) -> None:
    """Describe a stored module anew for the search. That is no change of its own, which lists sort by."""
    rows = Module.objects.select_for_update(of=("self",)).select_related("namespace__user", "current__base")
    module = rows.get(pk=pk)
    describe_for_search(module)
    Module.objects.filter(pk=pk).update(
        search_text=module.search_text,
        card_text=module.card_text,
        sample_input=module.sample_input,
        sample_output=module.sample_output,
        facets=module.facets,
        indexed_at=module.indexed_at,
    )


def evidence_note(modules: Iterable[int]) -> None:
    """Note that something was measured with these modules: lists can be narrowed to them."""
    for pk in Module.objects.filter(pk__in=modules, has_evidence=False).values_list("pk", flat=True):
        Module.objects.filter(pk=pk).update(has_evidence=True)
        index_module(pk)


def count_values() -> None:
    """Count by how many modules each facet value is carried: suggestions and a large library's facets."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT_VALUES)


def count_words() -> None:
    """Count how many modules use each known word: the commonest is what a misspelled one is taken for."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT_WORDS)
