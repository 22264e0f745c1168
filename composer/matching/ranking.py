"""Which modules promise most for a task, before it is composed: by what was measured, else by words."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

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
    prompt_template: str = ""  # that its version states

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
    rows = candidate_rows(fitting, set(nats), matches, limit)

    def place(row: CandidateRow) -> tuple[bool, float, float, str]:
        """Those that were tried come first, by their loss; then by words, and then by name."""
        loss = nats.get(row.weights_sha256)
        similarity = matches[row.module_id].similarity if row.module_id in matches else 0.0
        is_known = loss is not None or similarity > 0
        return loss is None, loss or 0.0, -similarity, row.name if is_known else ""

    rows.sort(key=place)  # stable: the others keep their order
    if fitting.count > limit:
        firsts = first_of_copies({row.version_id: row.sketch_id for row in rows})
        rows.sort(key=lambda row: row.version_id not in firsts)
    return [
        RankedModule(
            FittingModule(row.name, row.module_id, row.version_id),
            similarity=matches[row.module_id].similarity if row.module_id in matches else 0.0,
            shared=matches[row.module_id].shared[:SHARED_SHOWN_MAX] if row.module_id in matches else (),
            nats=nats.get(row.weights_sha256),
            size_bytes=row.size_bytes,
            tried_place=places.get(row.weights_sha256),
            prompt_template=row.prompt_template,
        )
        for row in rows[:limit]
    ]


class CandidateRow(NamedTuple):
    """What is read of a candidate to rank it."""

    name: str
    module_id: int
    version_id: int
    weights_sha256: str
    size_bytes: int
    sketch_id: int | None
    prompt_template: str


def candidate_rows(
    fitting: FittingModules, tried: Collection[str], matches: Collection[int], limit: int
) -> list[CandidateRow]:
    """Those of these hashes, those of these modules, and others while there are fewer than `limit`."""
    fields = ("name", "module_id", "version_id", "weights_sha256", "size_bytes")
    of_version = ("version__sketch_id", "version__prompt_template")

    def read(candidates: QuerySet[Candidate]) -> list[CandidateRow]:
        return [CandidateRow(*row) for row in candidates.values_list(*fields, *of_version)]

    rows = read(fitting.candidates.filter(weights_sha256__in=tried)) if tried else []
    known = {row.module_id for row in rows}
    if matches:
        rows += read(fitting.candidates.filter(pk__in=set(matches) - known))
    if len(rows) < min(limit, fitting.count):
        others = fitting.candidates.order_by("weights_sha256", "pk")[: 2 * limit]  # some will be copies
        known = {row.module_id for row in rows}
        rows += [row for row in read(others) if row.module_id not in known]
    return rows


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
