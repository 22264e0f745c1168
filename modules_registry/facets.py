"""By what the library can be narrowed: the facets, and a module's values of each."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modules_registry.core.languages import LANGUAGES, language_code, language_codes
from modules_registry.core.licenses.combining import allows_commercial_use, allows_derivatives
from modules_registry.core.licenses.names import LICENSES, license_label

YES = "yes"
FITS = "composes_on"  # the base that a module can be composed on; no filter of its own
PIPELINES = {  # what peft calls a task, as the Hub names it
    "SEQ_2_SEQ_LM": "text2text-generation",
    "CAUSAL_LM": "text-generation",
    "SEQ_CLS": "text-classification",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "FEATURE_EXTRACTION": "feature-extraction",
}
SIZES = (  # value, label, smaller than so many bytes
    ("under-1mb", "under 1 MB", 10**6),
    ("1-10mb", "1 to 10 MB", 10**7),
    ("10-100mb", "10 to 100 MB", 10**8),
    ("100mb-1gb", "100 MB to 1 GB", 10**9),
    ("over-1gb", "1 GB and more", math.inf),
)
SCALINGS = {"standard": "alpha / r", "rslora": "alpha / √r (rsLoRA)", "per-layer": "by layer"}
ALLOWS = {"commercial": "Commercial use", "derivatives": "Derivatives"}
VALUE = re.compile(r"[^\s,&?#\x00]{1,80}")
TARGETS_MAX = 24  # of one module
QUOTED = re.compile(r'("[^"]*")')
# What is typed for a filter among the words of a search; never a part of “owner/name”.
RANK_SAID = re.compile(
    r"(?<![\w/-])(?:(?:rank|r)\s*[=:]\s*|rank[\s-]?|r)(?P<value>[0-9]{1,6})(?![\w/]|\.\d)", re.IGNORECASE
)
SCALING_SAID = re.compile(
    r"(?<![\w/-])(?:rs-?lora|rank[\s-]stabili[sz]ed(?:\s+lora)?)(?![\w/-])", re.IGNORECASE
)
# Licenses of model families are no way to say a license: “gemma” is a base.
OF_MODELS = re.compile(
    r"llama|gemma|grok|openrail|bigscience|apple|deepfloyd|fair|h-|intel|cc\Z|other|unknown"
)
LICENSES_SAID = {
    "apache2": "apache-2.0",
    "apache-2": "apache-2.0",
    "apache": "apache-2.0",
    "cc0": "cc0-1.0",
    "agpl": "agpl-3.0",
    "mpl": "mpl-2.0",
    **{licence: licence for licence in LICENSES if not OF_MODELS.search(licence)},
}


def one_of(names: Iterable[str]) -> str:
    """A pattern for any of these names, the longest first, with spaces for hyphens too."""
    longest_first = sorted(names, key=len, reverse=True)
    return "|".join(re.escape(name).replace(r"\-", r"[\s-]") for name in longest_first)


# A license's name with its number anywhere, or beside the word “license”; any other name where it is alone.
LICENSE = one_of(LICENSES_SAID)
NUMBERED = one_of(name for name in LICENSES_SAID if re.search(r"\d", name))
LICENSE_SAID = re.compile(
    rf"(?<![\w/.-])(?:licen[sc]ed?\s*(?:[=:]|under\b)?\s*(?P<after>{LICENSE})"
    rf"|(?P<before>{LICENSE})[\s-]licen[sc]ed?|(?P<numbered>{NUMBERED}))(?![\w/]|[.-]\w)",
    re.IGNORECASE,
)
LICENSE_ALONE = re.compile(rf"\s*(?P<alone>{LICENSE})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class FacetKind:
    """One way to narrow the library."""

    name: str  # of the filter in an address, and of its rows
    title: str
    label: Callable[[str], str] = str  # what a value is called on a page
    is_many: bool = False  # several values may be asked for together: a module must have all
    attribute: str = ""  # of ModuleFilters; empty: as the name
    read: Callable[[str], str] = str  # the value that is meant by what an address says

    @property
    def key(self) -> str:
        return self.attribute or self.name


FACETS = (
    FacetKind("tag", "Tags", is_many=True, attribute="tags"),
    FacetKind("base", "Base model"),
    FacetKind("task", "Task", is_many=True),
    FacetKind(
        "language", "Language", lambda code: LANGUAGES.get(code, code), is_many=True, read=language_code
    ),
    FacetKind("licence", "License", license_label),
    FacetKind("allows", "License allows", lambda value: ALLOWS.get(value, value), is_many=True),
    FacetKind("author", "Owner"),
    FacetKind("rank", "Rank"),
    FacetKind("size", "Size", lambda value: {name: label for name, label, _ in SIZES}.get(value, value)),
    FacetKind("target", "Target layers", is_many=True),
    FacetKind("scaling", "Scaling", lambda value: SCALINGS.get(value, value)),
    FacetKind("architecture", "Architecture"),
    FacetKind("composable", "Composable here"),
    FacetKind("evidence", "Measured evidence"),
)
BY_NAME = {kind.name: kind for kind in FACETS}
BY_KEY = {kind.key: kind for kind in FACETS}


@dataclass(frozen=True)
class SaidFacet:
    """A filter that somebody typed among the words of a search, such as “rank 4”."""

    text: str
    kind: FacetKind
    value: str

    @property
    def label(self) -> str:
        return self.kind.label(self.value)


def rank_said(found: re.Match[str]) -> str:
    return found["value"].lstrip("0") or "0"


def scaling_said(found: re.Match[str]) -> str:
    return "rslora"


def licence_said(found: re.Match[str]) -> str:
    name = next(filter(None, found.groupdict().values()))
    return LICENSES_SAID["-".join(name.casefold().split())]


SAID: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    ("rank", RANK_SAID, rank_said),
    ("scaling", SCALING_SAID, scaling_said),
    ("licence", LICENSE_SAID, licence_said),
)


def facets_said(q: str) -> tuple[str, list[SaidFacet]]:
    """The words of a search without the filters among them, and those. Words in quotation marks are words."""
    said: dict[str, SaidFacet] = {}
    parts = QUOTED.split(q)
    for name, pattern, value in SAID:
        for i in range(0, len(parts), 2):
            found = pattern.search(parts[i])
            if found is not None and name not in said:
                said[name] = SaidFacet(found[0], BY_NAME[name], value(found))
                parts[i] = f"{parts[i][: found.start()]} {parts[i][found.end() :]}"
    alone = LICENSE_ALONE.fullmatch("".join(parts))
    if alone is not None and "licence" not in said:
        said["licence"] = SaidFacet(alone["alone"], BY_NAME["licence"], licence_said(alone))
        parts = []
    return (" ".join("".join(parts).split()) if said else q), list(said.values())


@dataclass(frozen=True)
class FacetFacts:
    """What a module's values are read from."""

    owner: str
    licence: str
    tags: Iterable[str]
    base: str
    architecture: str
    task_type: str
    rank: int
    alpha: float
    scaling: float
    has_own_ranks: bool
    targets: Iterable[str]
    size_bytes: int
    is_composable: bool
    has_evidence: bool
    front_matter: Mapping[str, Any] = field(default_factory=dict)


def facet_values(facts: FacetFacts) -> list[tuple[str, str]]:
    """Pairs of facet and value, each once."""
    one = {
        "base": facts.base,
        "licence": facts.licence,
        "author": facts.owner,
        "rank": str(facts.rank),
        "size": next(name for name, _, most in SIZES if facts.size_bytes < most),
        "scaling": scaling_kind(facts),
        "architecture": facts.architecture,
        "composable": YES if facts.is_composable else "",
        "evidence": YES if facts.has_evidence else "",
        FITS: facts.base if facts.is_composable else "",
    }
    several = {
        "tag": facts.tags,
        "task": tasks_of(facts.task_type, facts.front_matter),
        "language": language_codes(facts.front_matter.get("language"), facts.tags),
        "allows": licence_allows(facts.licence),
        "target": [name for name in facts.targets if VALUE.fullmatch(name)][:TARGETS_MAX],
    }
    pairs = [(facet, value) for facet, value in one.items() if value]
    pairs += [(facet, value) for facet, values in several.items() for value in values]
    return list(dict.fromkeys(pairs))


def scaling_kind(facts: FacetFacts) -> str:
    if facts.has_own_ranks:
        return "per-layer"
    is_rooted = facts.rank > 1 and math.isclose(
        facts.scaling, facts.alpha / math.sqrt(facts.rank), rel_tol=1e-6
    )
    return "rslora" if is_rooted and facts.alpha else "standard"


def tasks_of(task_type: str, front_matter: Mapping[str, Any]) -> list[str]:
    """What the card says that it is for, and what peft's task type is called on the Hub."""
    said = front_matter.get("pipeline_tag")
    named = [said if isinstance(said, str) else "", PIPELINES.get(task_type, "")]
    return list(dict.fromkeys(name for name in named if VALUE.fullmatch(name)))


def in_order_of_tasks(tasks: Iterable[str], task_type: str) -> list[str]:
    """The same values in the order of `tasks_of`, where they come in any."""
    return sorted(tasks, key=lambda task: task == PIPELINES.get(task_type))


def licence_allows(licence: str) -> list[str]:
    """What a license is known to allow; of one whose terms nobody here can read: nothing."""
    allowed = {"commercial": allows_commercial_use(licence), "derivatives": allows_derivatives(licence)}
    return [name for name, is_allowed in allowed.items() if is_allowed]
