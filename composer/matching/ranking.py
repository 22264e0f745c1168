"""Which modules promise most for a task, before it is composed: by what was measured, else by words."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from composer.core.spec.examples import Example, example_sha256
from composer.matching.compatibility import ModuleCompatibility
from composer.matching.leakage import find_compatible_modules
from composer.models import ScreenedLoss
from modules_registry.models import BaseModel, Module, Version

MODULES_MAX = 200  # composed at once
MODULES_NAMED_MAX = 500  # in one request
QUICK_MAX = 40  # so many are tried in a quick composition
WORD = re.compile(r"[^\W\d_]{4,}")  # shorter ones are mostly “the” and “in”
SAYING_NOTHING = frozenset(
    {"from", "with", "them", "that", "this", "into", "between", "your", "have", "each"}
)
SHARED_SHOWN_MAX = 3


@dataclass(frozen=True)
class RankedModule:
    """A module that fits, and why it stands where it stands."""

    fit: ModuleCompatibility
    similarity: float  # from 0 to 1, of its words to the task's
    shared: tuple[str, ...]  # words it has in common with the task, the rarest first
    nats: float | None  # its mean loss alone on these very examples; None: not tried yet

    @property
    def reason(self) -> str:
        if self.nats is not None:
            return f"tried alone: {self.nats:.1f} nats for a whole answer"
        return f"shares your words: {', '.join(self.shared)}" if self.shared else ""

    @property
    def is_known(self) -> bool:
        """Something speaks for or against it; otherwise it only has its place in the alphabet."""
        return self.nats is not None or self.similarity > 0

    @property
    def rank(self) -> tuple[bool, float, float, str]:
        """Those that were tried come first, by their loss; then by words; then by name."""
        tried = self.nats is not None
        return (not tried, self.nats or 0.0, -self.similarity, self.fit.name)


def rank_modules(
    base: BaseModel,
    method: str,
    task_text: str,
    examples: Sequence[Example],
    *,
    held_out: Sequence[Example] = (),
    owner: object = None,
) -> list[RankedModule]:
    """Every module to choose among, the most promising first."""
    return rank_compatible(
        find_compatible_modules(base, method, [*examples, *held_out], owner).clean, task_text, examples, owner
    )


def rank_compatible(
    compatible: Sequence[ModuleCompatibility], task_text: str, examples: Sequence[Example], owner: object
) -> list[RankedModule]:
    texts = dict(zip((fit.name for fit in compatible), module_words(compatible), strict=True))
    rarity = rarity_of(texts.values())
    task = words_of(" ".join([task_text, *(f"{pair.input} {pair.output}" for pair in examples)]))
    losses = losses_known([fit.version for fit in compatible], examples, owner)
    found = [
        rank_module(fit, texts[fit.name], task, rarity, losses.get(fit.version.weights_sha256))
        for fit in compatible
    ]
    return sorted(found, key=lambda candidate: candidate.rank)


def rank_module(
    fit: ModuleCompatibility, words: set[str], task: set[str], rarity: Mapping[str, float], nats: float | None
) -> RankedModule:
    shared = sorted(words & task, key=lambda word: (-rarity[word], word))
    # A word that most modules have says nothing: its rarity is about zero.
    weight = sum(rarity[word] for word in shared)
    size = math.sqrt(sum(rarity[word] ** 2 for word in words)) or 1.0
    telling = tuple(word for word in shared if rarity[word] > 1.0)[:SHARED_SHOWN_MAX]
    return RankedModule(fit, weight / size, telling, nats)


def module_words(fits: Sequence[ModuleCompatibility]) -> list[set[str]]:
    """What each module's author says of it in few words: name, sentence, tags."""
    tags: dict[int, list[str]] = {}
    carried = Module.tags.through.objects.filter(module__in=[fit.version.module_id for fit in fits])
    for module, tag in carried.values_list("module_id", "tag__name"):
        tags.setdefault(module, []).append(tag)
    modules = [fit.version.module for fit in fits]
    return [words_of(" ".join([it.name, it.sentence, *tags.get(it.pk, [])])) for it in modules]


def words_of(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text)} - SAYING_NOTHING


def rarity_of(texts: Iterable[set[str]]) -> dict[str, float]:
    """log(modules / modules with the word)."""
    texts = list(texts)
    counts = Counter(word for words in texts for word in words)
    return {word: math.log(len(texts) / count) for word, count in counts.items()}


def losses_known(versions: Sequence[Version], examples: Sequence[Example], owner: object) -> dict[str, float]:
    """Mean nats an example by a module's hash, of those that this owner tried on all of these examples.

    Of several ways to try (a template, a precision), the one that tells of most modules.
    """
    hashes = {example_sha256(example) for example in examples}
    modules = [version.weights_sha256 for version in versions]
    rows = ScreenedLoss.objects.known_to(owner).filter(example_sha256__in=hashes, module_sha256__in=modules)
    nats: dict[str, dict[str, list[float]]] = {}
    for context, module, value in rows.values_list("context", "module_sha256", "nats"):
        nats.setdefault(context, {}).setdefault(module, []).append(value)
    means = [
        {module: sum(values) / len(values) for module, values in of.items() if len(values) == len(hashes)}
        for of in nats.values()
    ]
    return max(means, key=len, default={})


def select_automatically(
    compatible: Sequence[ModuleCompatibility],
    level: str,
    task_text: str,
    examples: Sequence[Example],
    owner: object,
) -> tuple[str, list[ModuleCompatibility]]:
    """The selection that “choose for me” means, and its modules: all that fit, or the best."""
    most = most_for_me(level)
    if len(compatible) <= most:
        return "all", list(compatible)
    return "chosen", [
        candidate.fit for candidate in rank_compatible(compatible, task_text, examples, owner)[:most]
    ]


def most_for_me(level: str) -> int:
    """How many modules “choose for me” takes at most."""
    return QUICK_MAX if level == "quick" else MODULES_MAX
