"""What can be composed on a base, by thousands: counted, and found by words, without reading every module."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from hashlib import sha256
from operator import or_

from django.core.cache import caches
from django.db import connection
from django.db.models import Count, Min, Q, QuerySet
from django.db.models.expressions import RawSQL

from hub_site.accounts.selectors import namespaces_readable_by
from modules_registry.core.compatibility import Shape, most_common_shape
from modules_registry.models import BaseModel, Candidate, CandidateWord

WORD = re.compile(r"[^\W\d_]{4,}")  # shorter ones are mostly “the” and “in”
SAYING_NOTHING = frozenset(
    {"from", "with", "them", "that", "this", "into", "between", "your", "have", "each"}
)
COUNTED_AT_ONCE, COUNTS_KEPT_S, COUNTS_KEY = 10_000, 60, "candidates-by-base"
SHAPES_AT_ONCE = 1_000
WORDS_MAX = 300  # of a text that is compared
MATCHES_MAX = 6000  # rows of words that are compared, the rarest words first
SHARED_TOLD = 50  # candidates of which the words are told


STEMS = "SELECT unnest(tsvector_to_array(to_tsvector('english', %s)))"

MATCH_WORDS = """
WITH asked AS MATERIALIZED (
    SELECT stem, (array_agg(typed ORDER BY position))[1] AS typed
    FROM unnest(%s::text[]) WITH ORDINALITY AS words (typed, position),
        unnest(tsvector_to_array(to_tsvector('english', typed))) AS stem
    GROUP BY stem
), counted AS MATERIALIZED (
    SELECT stem, typed, (
        SELECT count(*) FROM modules_registry_candidateword w WHERE w.base_id = %s AND w.word = stem
    ) AS n
    FROM asked
), rare AS MATERIALIZED (
    SELECT stem, typed, ln(total::float8 / n) AS rarity, sum(n) OVER (ORDER BY n, stem) - n AS before
    FROM counted, (SELECT count(*) AS total FROM modules_registry_candidate WHERE base_id = %s) AS base
    WHERE n BETWEEN 1 AND total - 1
), taken AS MATERIALIZED (
    SELECT stem, typed, rarity FROM rare WHERE before <= %s
), scored AS MATERIALIZED (
    SELECT w.module_id, sum(rarity) AS sum
    FROM taken JOIN modules_registry_candidateword w ON w.base_id = %s AND w.word = stem
    GROUP BY w.module_id
), best AS MATERIALIZED (
    SELECT module_id, row_number() OVER (ORDER BY sum / sqrt(n_words) DESC, name) AS place,
        sum / sqrt(n_words * (SELECT sum(rarity * rarity) FROM taken)) AS similarity
    FROM scored JOIN ({candidates}) AS fitting USING (module_id)
    ORDER BY place
    LIMIT %s
)
SELECT module_id, similarity, coalesce(shared, '{{}}')
FROM best LEFT JOIN LATERAL (
    SELECT array_agg(typed ORDER BY rarity DESC, typed) AS shared
    FROM taken JOIN modules_registry_candidateword w ON w.word = stem
    WHERE w.module_id = best.module_id AND rarity > 1
) AS words ON place <= %s
ORDER BY place
"""


@dataclass(frozen=True)
class ShapeCount:
    """How many candidates have this rank, scaling and these targets."""

    rank: int
    scaling: float
    targets: tuple[str, ...]
    has_own_ranks: bool
    count: int

    @property
    def shape(self) -> Shape:
        return self.rank, self.scaling, tuple(sorted(self.targets))


@dataclass(frozen=True)
class WordMatch:
    """A candidate that has words of a text."""

    module_id: int
    similarity: float  # from 0 to 1
    shared: tuple[str, ...]  # of the text's words the rare ones, as they are written there; only of the best


def candidates_of(base: BaseModel, viewer: object = None) -> QuerySet[Candidate]:
    """What this visitor may compose on the base: as ModuleQuerySet.visible_to."""
    own = list(namespaces_readable_by(viewer).values_list("pk", flat=True))
    visible = Q(private=False) | Q(namespace__in=own) if own else Q(private=False)
    return Candidate.objects.filter(visible, base=base)


def counts_by_base() -> dict[int, int]:
    """How many modules everybody may compose, by the key of their base.

    Of more than COUNTED_AT_ONCE modules the counts are kept for a minute.
    """
    counts: dict[int, int] | None = caches["process"].get(COUNTS_KEY)
    if counts is None:
        rows = Candidate.objects.filter(private=False).order_by().values_list("base")
        counts = dict(rows.annotate(count=Count("pk")))
        if sum(counts.values()) > COUNTED_AT_ONCE:
            caches["process"].set(COUNTS_KEY, counts, COUNTS_KEPT_S)
    return counts


def shapes_counted(candidates: QuerySet[Candidate]) -> list[ShapeCount]:
    """Each shape among them with its number; that of the oldest module is the first one.

    Of more than SHAPES_AT_ONCE candidates these are kept for a minute.
    """
    key = f"shapes-{sha256(str(candidates.query).encode()).hexdigest()}"
    counted: list[ShapeCount] | None = caches["process"].get(key)
    if counted is None:
        counted = shapes_counted_now(candidates)
        if sum(row.count for row in counted) > SHAPES_AT_ONCE:
            caches["process"].set(key, counted, COUNTS_KEPT_S)
    return counted


def shapes_counted_now(candidates: QuerySet[Candidate]) -> list[ShapeCount]:
    rows = candidates.order_by().values("rank", "scaling", "targets", "has_own_ranks")
    counted = rows.annotate(count=Count("pk"), first=Min("pk")).order_by("first")
    return [
        ShapeCount(row["rank"], row["scaling"], tuple(row["targets"]), row["has_own_ranks"], row["count"])
        for row in counted
    ]


def common_shape(counted: Iterable[ShapeCount]) -> Shape | None:
    """The shape that a method which adds factors takes: that of most modules; None without any."""
    counts: dict[Shape, int] = {}
    for row in counted:
        if not row.has_own_ranks:
            counts[row.shape] = counts.get(row.shape, 0) + row.count
    return most_common_shape(counts)


def of_shapes(candidates: QuerySet[Candidate], counted: Iterable[ShapeCount]) -> QuerySet[Candidate]:
    """Those that are counted in one of these rows."""
    alike = [
        Q(rank=row.rank, scaling=row.scaling, targets=list(row.targets), has_own_ranks=row.has_own_ranks)
        for row in counted
    ]
    return candidates.filter(reduce(or_, alike)) if alike else candidates.none()


def words_of(text: str) -> list[str]:
    """The words that a text is compared by, each once, in their order."""
    found = dict.fromkeys(word.lower() for word in WORD.findall(text))
    return [word for word in found if word not in SAYING_NOTHING][:WORDS_MAX]


def match_words(
    base: BaseModel, candidates: QuerySet[Candidate], words: Sequence[str], limit: int
) -> list[WordMatch]:
    """The candidates that have most in common with these words, best first.

    The similarity is a cosine: each word of a candidate counts one, each word asked for log(candidates of the
    base / those with the word). Of words that many have, the rarest are compared, up to MATCHES_MAX rows.

    Args:
        base: of the candidates.
        candidates: which ones count.
        words: as they are written; they are compared in their English stems.
        limit: how many are returned at most.
    """
    if not words:
        return []
    fitting, params = candidates.order_by().values("module_id", "n_words", "name").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            MATCH_WORDS.format(candidates=fitting),
            [list(words), base.pk, base.pk, MATCHES_MAX, base.pk, *params, limit, SHARED_TOLD],
        )
        return [WordMatch(pk, similarity, tuple(shared)) for pk, similarity, shared in cursor.fetchall()]


def found_by(base: BaseModel, candidates: QuerySet[Candidate], text: str) -> QuerySet[Candidate]:
    """Those of which the name holds each word of a text, or the sentence or a tag a word that begins so."""
    for typed in text.lower().split():
        stems = CandidateWord.objects.filter(base=base).filter(
            Q(word__startswith=typed) | Q(word__in=RawSQL(STEMS, [typed]))
        )
        candidates = candidates.filter(Q(name__icontains=typed) | Q(module__in=stems.values("module")))
    return candidates
