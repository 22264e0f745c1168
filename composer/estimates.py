"""How long a composition would take: from those that ran here on the same base, else from the base's size."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from django.db.models import Count, F, Q, QuerySet

from composer.models import Composition
from hub_site.jobs.models import Status
from modules_registry.models import BaseModel

EARLIER_READ = 20  # of the latest: a machine may have changed since older ones
# Without a measurement: a forward over one short example, at what one core of a processor is known to do.
TOKENS_OF_EXAMPLE = 32
FLOPS = 1e11  # in fp32
CALL_S = 0.0003  # of any example, however small the base
LOADED_BYTES_S = 3e8
MODULE_LOADED_S = 0.03
TOKENS_ANSWERED = 8  # each of them is another pass
LORA_PASSES = (
    40 * 3
)  # over the shots: as many steps as the trained rival takes, each a forward and a backward
RIVALS = {"none": 1, "always": 6, "thorough": 8}  # who answers the held-out examples
SEARCHES_OF_RIVALS = {"none": 0, "always": 0, "thorough": 1}  # random modules go through the same search
SPREAD_MEASURED = (0.7, 1.5)
SPREAD_FROM_SIZE = (0.4, 3.0)


@dataclass(frozen=True)
class Amounts:
    """What there is to do."""

    n_shots: int
    n_held_out: int
    n_modules: int
    budget: int
    baselines: str

    @property
    def units(self) -> dict[str, float]:
        """How often the core's stages do what they do; `search` is in scored examples."""
        search = self.budget * self.n_shots
        rivals = RIVALS.get(self.baselines, RIVALS["always"])
        return {
            "load": 1.0,
            "screen": self.n_modules * self.n_shots,
            "search": search,
            "export": 1.0,
            "evaluate": rivals * (self.n_held_out + self.n_shots),
            "rivals": search * SEARCHES_OF_RIVALS.get(self.baselines, 0),
        }


@dataclass(frozen=True)
class Estimate:
    """Between these, most likely; and what that rests on."""

    low_s: float
    high_s: float
    n_measured: int  # compositions it was taken from; 0: worked out from the base's size

    @property
    def words(self) -> str:
        return duration_words(self.low_s, self.high_s)

    @property
    def basis(self) -> str:
        if self.n_measured:
            plural = "" if self.n_measured == 1 else "s"
            return f"taken from {self.n_measured} composition{plural} measured here on this base"
        return "a rough guess from the base's size: nothing has been measured here on it yet"


def estimate(base: BaseModel, method: str, amounts: Amounts) -> Estimate:
    by_stage, n_measured = seconds_by_stage(base, method, amounts)
    seconds = sum(by_stage.values())
    low, high = SPREAD_MEASURED if n_measured else SPREAD_FROM_SIZE
    return Estimate(low * seconds, high * seconds, n_measured)


def seconds_by_stage(base: BaseModel, method: str, amounts: Amounts) -> tuple[dict[str, float], int]:
    """How long each of the core's stages would take, and from how many compositions that was taken."""
    earlier = list(measured_of(base, method, amounts)[:EARLIER_READ])
    each = seconds_of_units(earlier) if earlier else seconds_from_size(base, amounts)
    seconds = {stage: each[stage] * units for stage, units in amounts.units.items()}
    seconds["evaluate"] += seconds.pop("rivals")  # the core does both in one stage
    return seconds, len(earlier)


def measured_of(base: BaseModel, method: str, amounts: Amounts) -> QuerySet[Composition, Mapping[str, Any]]:
    """How long finished ones took, stage by stage, and of how much. Whose they are is nobody's business.

    Only those compared in the same way: without held-out examples every rival is fitted anew for each example
    that it leaves out, which takes far longer than an answer.
    """
    rows = Composition.objects.filter(status=Status.DONE, base=base, method=method, stop_requested=False)
    with_held_out = Q(report__n_held_out__gt=0)
    rows = rows.filter(with_held_out if amounts.n_held_out else ~with_held_out)
    return rows.order_by("-finished_at").values(
        "budget",
        "baselines",
        seconds=F("report__seconds"),
        n_shots=F("report__n_shots"),
        n_held_out=F("report__n_held_out"),
        n_modules=Count("modules"),
    )


def seconds_of_units(earlier: list[Mapping[str, Any]]) -> dict[str, float]:
    """The median seconds of one unit of each stage."""
    each: dict[str, list[float]] = {}
    for row in earlier:
        amounts = Amounts(
            row["n_shots"], row["n_held_out"], row["n_modules"], row["budget"], row["baselines"]
        )
        for stage, seconds in row["seconds"].items():
            if stage == "evaluate":  # without the searches in it, which are told apart
                seconds -= SEARCHES_OF_RIVALS.get(row["baselines"], 0) * row["seconds"].get("search", 0)
            each.setdefault(stage, []).append(max(seconds, 0.0) / max(amounts.units.get(stage, 1.0), 1.0))
    medians = {stage: median(values) for stage, values in each.items()}
    return (
        dict.fromkeys(Amounts(1, 1, 1, 1, "always").units, 0.0)
        | medians
        | {"rivals": medians.get("search", 0.0)}
    )


def seconds_from_size(base: BaseModel, amounts: Amounts) -> dict[str, float]:
    """Seconds of a unit of each stage, by what passing an example through so many parameters costs."""
    passed = CALL_S + 2 * base.parameters * TOKENS_OF_EXAMPLE / FLOPS
    trained = LORA_PASSES * amounts.n_shots * passed if amounts.baselines != "none" else 0.0
    return {
        "load": 4 * base.parameters / LOADED_BYTES_S + MODULE_LOADED_S * amounts.n_modules,
        "screen": passed,
        "search": passed,
        "export": 4 * base.parameters / LOADED_BYTES_S + trained,
        "evaluate": passed * (1 + TOKENS_ANSWERED / TOKENS_OF_EXAMPLE),
        "rivals": passed,
    }


def duration_words(low_s: float, high_s: float) -> str:
    """“10–25 s”, “2–6 minutes”, “about 3 hours”: rounded as one would say it."""
    if high_s < 90:
        return span(low_s, high_s, "s")
    if high_s < 90 * 60:
        return span(low_s / 60, high_s / 60, "minutes")
    return span(low_s / 3600, high_s / 3600, "hours")


def span(low: float, high: float, unit: str) -> str:
    least, most = said(low), said(high)
    if least == most:
        one = unit.removesuffix("s") if most == 1 and unit != "s" else unit
        return f"about {most} {one}"
    return f"{least}–{most} {unit}"


def said(number: float) -> int:
    """At least 1; above ten in fives, above a hundred in tens."""
    step = 10 if number > 100 else 5 if number > 10 else 1
    return max(1, step * round(number / step))
