"""Which modules promise most for a task, before it is composed: by what was measured, else by words."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from django.contrib.humanize.templatetags.humanize import ordinal
from django.db import connection
from django.db.models import QuerySet

from composer.core.spec.examples import Example, example_sha256
from composer.matching.compatibility import FittingModule, FittingModules, fitting_module
from composer.matching.leakage import find_compatible_modules
from composer.models import ScreenedLoss
from modules_registry.candidates import match_words, words_of
from modules_registry.likeness import first_of_copies
from modules_registry.models import BaseModel, Candidate

MODULES_MAX = 200  # composed at once
MODULES_NAMED_MAX = 500  # in one request
QUICK_MAX = 40  # so many are composed in a quick composition
# Modules that are tried alone, of thousands that fit: so many of a small base, and fewer the larger it is.
# A pass of a module over an example of 64 tokens takes two operations for each parameter and token, and a
# core of a processor does 1e11 in a second: at most half a minute for all of them.
TRIED_MAX, TRIED_QUICK_MAX = 2000, 400
TRIED_PARAMETERS = 25_000_000_000  # of the base, times the modules that are tried
TRIED_BYTES = 512 * 1024 * 1024  # of the files of those that are tried beyond MODULES_MAX
# The same of a search by examples, which is to end in seconds.
FOUND_MIN, FOUND_MAX, FOUND_PARAMETERS = 20, 400, 5_000_000_000
SHARED_SHOWN_MAX = 3

LOSSES_KNOWN = """
SELECT context, module_sha256, mean FROM (
    SELECT context, module_sha256, avg(nats) AS mean, count(*) OVER (PARTITION BY context) AS n_modules
    FROM ({losses}) AS losses
    WHERE module_sha256 IN ({modules})
    GROUP BY context, module_sha256
    HAVING count(DISTINCT example_sha256) = %s
) AS tried
ORDER BY n_modules DESC, context, mean
LIMIT %s
"""


@dataclass(frozen=True)
class RankedModule:
    """A module that fits, and why it stands where it stands."""

    fit: FittingModule
    similarity: float  # from 0 to 1, of its words to the task's
    shared: tuple[str, ...]  # words it has in common with the task, the rarest first
    nats: float | None  # a whole answer, its mean loss alone on these very examples; None: not tried yet
    size_bytes: int = 0
    tried_place: int | None = None  # 1: the lowest loss of those that were tried

    @property
    def reason(self) -> str:
        if self.tried_place is not None:
            return f"tried alone on your examples: {ordinal(self.tried_place)}"
        if self.shared:
            return f"shares your words: {', '.join(self.shared)}"
        return "shares common words" if self.similarity else ""

    @property
    def is_known(self) -> bool:
        """Something speaks for or against it; otherwise its place says nothing."""
        return self.nats is not None or self.similarity > 0


def rank_modules(
    base: BaseModel,
    method: str,
    task_text: str,
    examples: Sequence[Example],
    *,
    held_out: Sequence[Example] = (),
    owner: object = None,
    limit: int = MODULES_MAX,
) -> list[RankedModule]:
    """The modules to choose among, the most promising first, at most `limit`."""
    clean = find_compatible_modules(base, method, [*examples, *held_out], owner).clean
    return rank_fitting(clean, task_text, examples, owner, limit)


def rank_fitting(
    fitting: FittingModules, task_text: str, examples: Sequence[Example], owner: object, limit: int
) -> list[RankedModule]:
    """Those that were tried on these examples, by their loss; then those with words of the task; then others.

    The others come in the order of their weights' hashes: it prefers no owner and no name. Where there are
    more than `limit`, copies and near-copies of those before come last: each takes part once.
    """
    nats = losses_known(fitting.candidates, examples, owner, limit)
    text = " ".join([task_text, *(f"{pair.input} {pair.output}" for pair in examples)])
    matches = {
        match.module_id: match
        for match in match_words(fitting.base, fitting.candidates, words_of(text), limit)
    }
    places = {module: n for n, module in enumerate(sorted(nats, key=nats.__getitem__), start=1)}
    candidates = fitting.candidates.only("name", "version", "weights_sha256", "size_bytes")
    rows = list(candidates.filter(weights_sha256__in=nats)) if nats else []
    tried = {row.pk for row in rows}
    rows += list(candidates.filter(pk__in=matches.keys() - tried)) if matches else []
    if len(rows) < min(limit, fitting.count):
        others = candidates.order_by("weights_sha256", "pk")[: 2 * limit]  # some will be copies
        known = {row.pk for row in rows}
        rows += [row for row in others if row.pk not in known]
    ranked = [
        RankedModule(
            fitting_module(row),
            similarity=matches[row.pk].similarity if row.pk in matches else 0.0,
            shared=matches[row.pk].shared[:SHARED_SHOWN_MAX] if row.pk in matches else (),
            nats=nats.get(row.weights_sha256),
            size_bytes=row.size_bytes,
            tried_place=places.get(row.weights_sha256),
        )
        for row in rows
    ]
    ranked.sort(key=place)  # stable: the others keep their order
    if fitting.count > limit:
        firsts = first_of_copies([each.fit.version_id for each in ranked])
        ranked.sort(key=lambda each: each.fit.version_id not in firsts)
    return ranked[:limit]


def place(ranked: RankedModule) -> tuple[bool, float, float, str]:
    """A sort key: those that were tried come first, by their loss; then by words, and then by name."""
    by_name = ranked.fit.name if ranked.is_known else ""
    return ranked.nats is None, ranked.nats or 0.0, -ranked.similarity, by_name


def losses_known(
    candidates: QuerySet[Candidate], examples: Sequence[Example], owner: object, limit: int
) -> dict[str, float]:
    """The lowest mean nats an example, by a module's hash, of those that this owner tried on all of these.

    Of several ways to try (a template, a precision), the one that tells of most modules.
    """
    hashes = {example_sha256(example) for example in examples}
    if not hashes:
        return {}
    rows = ScreenedLoss.objects.known_to(owner).filter(example_sha256__in=hashes)
    losses, of_losses = rows.values(
        "context", "module_sha256", "example_sha256", "nats"
    ).query.sql_with_params()
    modules, of_modules = candidates.order_by().values("weights_sha256").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            LOSSES_KNOWN.format(losses=losses, modules=modules), [*of_losses, *of_modules, len(hashes), limit]
        )
        found = cursor.fetchall()
    return {module: mean for context, module, mean in found if context == found[0][0]}


def most_composed(*, is_quick: bool = False) -> int:
    """How many modules are composed at most."""
    return QUICK_MAX if is_quick else MODULES_MAX


def most_tried(base: BaseModel, *, is_quick: bool = False) -> int:
    """How many modules are tried alone at most, of thousands that fit."""
    most = TRIED_QUICK_MAX if is_quick else TRIED_MAX
    return max(MODULES_MAX, min(most, TRIED_PARAMETERS // max(1, base.parameters)))


def most_found(base: BaseModel) -> int:
    """How many modules a search by examples tries at most."""
    return max(FOUND_MIN, min(FOUND_MAX, FOUND_PARAMETERS // max(1, base.parameters)))


def modules_to_try(
    fitting: FittingModules,
    task_text: str,
    examples: Sequence[Example],
    owner: object,
    *,
    is_quick: bool = False,
) -> list[FittingModule]:
    """The most promising modules, as many as are tried alone, by name."""
    most = most_tried(fitting.base, is_quick=is_quick)
    if fitting.count <= min(most, MODULES_MAX):
        return [fitting_module(row) for row in fitting.candidates.order_by("name")]
    kept, size_bytes = [], 0
    for position, module in enumerate(rank_fitting(fitting, task_text, examples, owner, most)):
        size_bytes += module.size_bytes if position >= MODULES_MAX else 0
        if size_bytes <= TRIED_BYTES:
            kept.append(module.fit)
    return sorted(kept, key=attrgetter("name"))
