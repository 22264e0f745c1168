"""How long a composition would take: from those that ran here on the same base, else from the base's size."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from statistics import fmean, median
from typing import Any, NamedTuple

from django.db.models import Avg, Count, F, Func, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Length

from composer.core.spec.choices import (
    BASELINES_OF_CHOICE,
    BUDGET_TO_REFIT,
    NEVERGRAD,
    OPTIMIZER_OF_SEARCH,
    Baseline,
    most_scored,
    search_of,
)
from composer.core.spec.errors import STOPPED_FOR_TIME
from composer.core.spec.examples import Example as Pair
from composer.core.spec.job_spec import FittedWork
from composer.core.spec.selection import MANY, SURVIVORS, kept_at_most
from composer.core.spec.stages import EVALUATE, EXPORT, LOAD, PRUNE, SCREEN, SEARCH
from composer.core.spec.training import FOLDS, plan_lora, plan_tuning
from composer.models import Composition, Example
from composer.timing.limits import search_limit_s, work_that_fits
from hub_site.jobs.models import Status
from modules_registry.models import BaseModel

EARLIER_READ = 20  # of the latest: a machine may have changed since older ones
# Without a measurement: a forward over one example, at what one core of a processor is known to do.
TOKENS_OF_EXAMPLE = 32  # at least: short texts come with a template, and cost as much
CHARACTERS_OF_TOKEN = 4
ANSWER_SHARE = 0.25  # of an example's tokens are its answer; each of them is another pass
FLOPS = 1e11  # benchmarks/results/compose_speed_L.json, one core: 0.9e11 in fp32, 1.5e11 in bf16
CALL_S = 0.0003  # of any example, however small the base
PRUNED_SETS = 10  # smaller sets of modules that are scored
REFIT_CANDIDATES = 150  # ten gradient steps of five fits
EXPORTED_S = 0.05
# What a stage takes of what it may at most, where fits and trainings end when nothing falls any more: the
# middle of thirteen compositions on bases of 1, 60 and 135 million parameters, on two cores.
USUAL_SHARES = {
    LOAD.name: 1.0,
    SCREEN.name: 1.5,
    SEARCH.name: 0.5,
    PRUNE.name: 1.0,
    EXPORT.name: 1.0,
    EVALUATE.name: 0.6,
}
LOADED_BYTES_S = 3e8
MODULE_LOADED_S = 0.03
# Measured on the demo world with 26 modules, and with 100 and 200 weights on a quadratic.
ASKED_S = 0.005  # for each candidate of an optimizer of nevergrad, which waits for a thread of its own,
ASKED_S_OF_SQUARE = 5e-6  # and for the square of how many weights there are: COBYLA solves as many equations
WHOLE_DELTA_S = 6e-10  # for each parameter of the base, module and candidate: signs elected on whole updates
WHOLE_DELTA_METHODS = ("ties_svd",)
# A base up to so many times as large, or as small, is as much slower here than by its size; from so many
# times on, that says nothing of the other.
ALIKE_IN_SIZE, UNLIKE_IN_SIZE = 3, 30
FEW = 3  # compositions tell less of how much others differ than more of them do
SPREAD_OF_FEW = (0.5, 2.0)
SPREAD_MEASURED = (0.7, 1.5)
SPREAD_FROM_SIZE = (0.4, 3.0)


@dataclass(frozen=True)
class Amounts:
    """What there is to do."""

    n_shots: int
    n_held_out: int
    n_modules: int  # that are composed, at most
    budget: int
    baselines: str
    n_tried: int = 0  # modules that are tried alone before, where these are more
    search: str = "auto"
    objective: str = "loss"
    characters: float = 0  # of an example's input and output together, on the mean

    @property
    def n_loaded(self) -> int:
        return max(self.n_tried, self.n_modules)

    @property
    def n_screened(self) -> float:
        """Passes of one module over one example: of many modules, most are tried on one example only."""
        survivors = self.n_loaded
        if self.n_loaded >= MANY:
            survivors = min(self.n_loaded, max(2 * self.n_modules, round(SURVIVORS * self.n_loaded)))
        return self.n_loaded + survivors * (self.n_shots - 1)

    @property
    def tokens(self) -> float:
        """Of an example."""
        return max(TOKENS_OF_EXAMPLE, self.characters / CHARACTERS_OF_TOKEN)


MeasuredRun = Mapping[str, Any]  # how long one took, stage by stage, and of how much


@dataclass(frozen=True)
class Estimate:
    """Between these, most likely; and what that rests on."""

    low_s: float
    high_s: float
    likely_s: float
    n_measured: int  # compositions it was taken from; 0: worked out from the base's size

    @property
    def words(self) -> str:
        return duration_words(self.low_s, self.high_s)

    @property
    def basis(self) -> str:
        if self.n_measured:
            plural = "" if self.n_measured == 1 else "s"
            return f"taken from {self.n_measured} composition{plural} measured here on this base"
        return "a rough guess from the base's size: nothing like this has been measured here yet"


def estimate(base: BaseModel, method: str, workload: Amounts) -> Estimate:
    (found,) = estimate_all(base, method, [workload])
    return found


def estimate_all(base: BaseModel, method: str, workloads: Sequence[Amounts]) -> list[Estimate]:
    """Several of one request that differ in their budgets, comparisons and modules only."""
    earlier = read_earlier(base, method, workloads[0])
    return [estimate_by(earlier, base, method, workload) for workload in workloads]


def estimate_by(earlier: "Earlier", base: BaseModel, method: str, workload: Amounts) -> Estimate:
    by_stage, n_measured = seconds_by(earlier, base, method, workload)
    likely_s = sum(by_stage.values())
    if n_measured == 0:
        low, high = SPREAD_FROM_SIZE
    else:
        low, high = SPREAD_MEASURED if n_measured >= FEW else SPREAD_OF_FEW
    return Estimate(low * likely_s, high * likely_s, likely_s, n_measured)


def amounts_of(composition: Composition) -> Amounts:
    n_tried = composition.modules.count()
    return Amounts(
        n_shots=composition.examples.filter(role=Example.Role.SHOT).count(),
        n_held_out=composition.examples.filter(role=Example.Role.HELD_OUT).count(),
        n_modules=kept_at_most(composition.selection, n_tried),
        n_tried=n_tried,
        budget=composition.budget,
        baselines=composition.baselines,
        search=composition.search,
        objective=composition.objective,
        characters=mean_characters(composition.examples.all()),
    )


def mean_characters(examples: "Iterable[Example | Pair]") -> float:
    """Of an example's input and output together; 0 without examples."""
    return fmean([len(one.input) + len(one.output) for one in examples] or [0])


def seconds_by_stage(base: BaseModel, method: str, workload: Amounts) -> tuple[dict[str, float], int]:
    """How long each of the core's stages would take, and from how many compositions that was taken."""
    return seconds_by(read_earlier(base, method, workload), base, method, workload)


class Earlier(NamedTuple):
    """What earlier compositions tell of the time."""

    rows: Sequence[MeasuredRun]
    slowness: float  # of this machine, where there are no rows


def read_earlier(base: BaseModel, method: str, workload: Amounts) -> Earlier:
    ran = search_of(method, workload.search)
    searches = tuple(name for name in ("auto", ran) if search_of(method, name) == ran)
    measured = measured_of(base.pk, method, searches, workload.objective, bool(workload.n_held_out))
    rows = list(measured[:EARLIER_READ])
    return Earlier(rows, 1.0 if rows else slowness(base))


def seconds_by(
    earlier: Earlier, base: BaseModel, method: str, workload: Amounts
) -> tuple[dict[str, float], int]:
    """The same by earlier compositions: what the size says, times what they took of what the size said."""
    guessed = seconds_from_size(base, method, workload, earlier.slowness)
    took = [shares_taken(row, base, method) for row in earlier.rows] or [usual_shares(method, workload)]
    by_stage = {
        stage: seconds * median(shares[stage] for shares in took) for stage, seconds in guessed.items()
    }
    by_stage[SEARCH.name] = min(by_stage[SEARCH.name], search_limit_s(base, method, workload.budget))
    return by_stage, len(earlier.rows)


def shares_taken(row: MeasuredRun, base: BaseModel, method: str) -> dict[str, float]:
    """What each stage of an earlier composition took of what the base's size says of it."""
    amounts = {name: value for name, value in row.items() if name not in ("seconds", "budget_fitted")}
    had = Amounts(**amounts | {"budget": row.get("budget_fitted") or row["budget"]})
    guessed = seconds_from_size(base, method, had, 1.0)
    return {stage: row["seconds"].get(stage, 0.0) / seconds for stage, seconds in guessed.items()}


@lru_cache(maxsize=256)
def measured_of(
    base: int, method: str, searches: tuple[str, ...], objective: str, has_held_out: bool
) -> QuerySet[Composition, MeasuredRun]:
    """How long finished ones took, stage by stage, and of how much. Whose they are is nobody's business.

    Only those of the same search that went to their end and were compared in the same way: without held-out
    examples every baseline is fitted anew for each example that it leaves out, which takes far longer than an
    answer. Not evaluated, and made once: making it takes longer than the database takes to find the rows.
    """
    rows = Composition.objects.filter(status=Status.DONE, base=base, method=method, stop_requested=False)
    rows = rows.filter(search__in=searches, objective=objective)
    with_held_out = Q(report__n_held_out__gt=0)
    rows = rows.filter(with_held_out if has_held_out else ~with_held_out)
    in_time = Q(report__stop_reason__isnull=True) | ~Q(report__stop_reason=STOPPED_FOR_TIME)
    rows = rows.filter(in_time, report__seconds__has_key=EVALUATE.name)
    examples = Example.objects.filter(composition=OuterRef("pk")).order_by().values("composition")
    characters = examples.annotate(mean=Avg(Length("input") + Length("output"))).values("mean")
    return rows.order_by("-finished_at").values(
        "budget",
        "budget_fitted",
        "baselines",
        "search",
        "objective",
        characters=Subquery(characters),
        seconds=F("report__seconds"),
        n_shots=F("report__n_shots"),
        n_held_out=F("report__n_held_out"),
        n_modules=Func(F("report__modules"), function="jsonb_array_length", output_field=IntegerField()),
        n_tried=Count("modules"),
    )


def load_s(base: BaseModel, workload: Amounts) -> float:
    """To read the base and the modules, by the base's size."""
    return base_loaded_s(base) + MODULE_LOADED_S * workload.n_loaded


def base_loaded_s(base: BaseModel) -> float:
    return 4 * base.parameters / LOADED_BYTES_S


def candidate_s(base: BaseModel, method: str, workload: Amounts) -> float:
    """To ask for one candidate, make its adapter and score it on the shots, by the base's size."""
    seconds = workload.n_shots * pass_s(base, workload.tokens)
    if workload.objective == "exact_match":
        seconds += workload.n_shots * answer_s(base, workload.tokens)
    if method in WHOLE_DELTA_METHODS:
        seconds += WHOLE_DELTA_S * base.parameters * workload.n_modules
    if is_by_nevergrad(search_of(method, workload.search)):
        n_weights = workload.n_modules * (len(base.layers) if method == "cat-layers" else 1)
        seconds += ASKED_S + ASKED_S_OF_SQUARE * min(n_weights, workload.budget) ** 2
    return seconds


def pass_s(base: BaseModel, tokens: float) -> float:
    """For one forward pass over so many tokens, by the base's size."""
    return CALL_S + 2 * base.parameters * tokens / FLOPS


def answer_s(base: BaseModel, tokens: float) -> float:
    """To answer an example of so many tokens, by the base's size."""
    return pass_s(base, tokens) + ANSWER_SHARE * tokens * pass_s(base, 1)


def answers(workload: Amounts) -> int:
    """How many answers the composition and all that it is compared with give."""
    return (1 + len(baselines_of(workload.baselines))) * (workload.n_held_out + workload.n_shots)


def pruning_candidates(workload: Amounts) -> int:
    """How many candidates it takes to remove modules: one without each, some sets, mostly one refit."""
    refits = int(workload.budget >= BUDGET_TO_REFIT)
    return workload.n_modules + PRUNED_SETS * (FOLDS + 1) + REFIT_CANDIDATES * refits


def is_by_nevergrad(search: str) -> bool:
    """Whether the search is an optimizer of nevergrad's, which takes all of its budget."""
    return search in OPTIMIZER_OF_SEARCH or search.startswith(NEVERGRAD)


def baselines_of(choice: str) -> Sequence[Baseline]:
    """What is measured beside the composition; a form may hold a choice that there is not."""
    return BASELINES_OF_CHOICE.get(choice, BASELINES_OF_CHOICE["always"])


def searches_repeated(method: str, workload: Amounts) -> int:
    """How often the comparison goes through the composition's own search.

    Some baselines do. Without held-out examples it is also made once without each fold of the examples;
    Gauss-Newton has fitted those by the way.
    """
    baselines = baselines_of(workload.baselines)
    by_fold = not workload.n_held_out and workload.n_shots > 1 and len(baselines) > 0
    has_folds = search_of(method, workload.search) == "gauss-newton"
    n_folds = min(FOLDS, workload.n_shots) if by_fold and not has_folds else 0
    return n_folds + sum(baseline.repeats_search for baseline in baselines)


def usual_shares(method: str, workload: Amounts) -> dict[str, float]:
    """What each stage takes of what it may at most; an optimizer of nevergrad's takes its whole budget."""
    takes_all = is_by_nevergrad(search_of(method, workload.search))
    return USUAL_SHARES | ({SEARCH.name: 1.0} if takes_all else {})


def slowness(base: BaseModel) -> float:
    """How many times as long as by its size a candidate takes here: measured on the base nearest in size.

    That says the less the more their sizes differ: a tiny base waits for other things than a large one.
    """
    measured = Composition.objects.filter(slowness__gt=0).order_by("-created_at")
    latest = list(measured.values_list("base__parameters", "slowness")[:EARLIER_READ])
    if not latest:
        return 1.0
    nearest = min((parameters for parameters, _ in latest), key=lambda size: abs(log(size / base.parameters)))
    measured_there = median(slowness for parameters, slowness in latest if parameters == nearest)
    times = exp(abs(log(nearest / base.parameters)))
    weight = log(UNLIKE_IN_SIZE / times) / log(UNLIKE_IN_SIZE / ALIKE_IN_SIZE)
    return float(measured_there ** min(1.0, max(0.0, weight)))


def usual_candidate_s(composition: Composition) -> float:
    """How long a candidate of this composition takes by the base's size, on the machine of the constants."""
    return candidate_s(composition.base, composition.method, amounts_of(composition))


def seconds_from_size(base: BaseModel, method: str, workload: Amounts, slowness: float) -> dict[str, float]:
    """How long each stage would take if it did all that it may: by what so many parameters cost an example.

    Args:
        slowness: of this machine, as `slowness` tells it.
    """
    passed = slowness * pass_s(base, workload.tokens)
    candidate = slowness * candidate_s(base, method, workload)
    fitted = work_that_fits(base, method, workload.budget, candidate_s=candidate)
    trained = training_passes(workload, fitted, base.parameters) * workload.n_shots * passed
    answered = answers(workload) * slowness * answer_s(base, workload.tokens)
    searched = most_scored(search_of(method, workload.search), workload.budget) * candidate
    length = workload.tokens / TOKENS_OF_EXAMPLE
    return {
        LOAD.name: load_s(base, workload),
        SCREEN.name: workload.n_screened * length * slowness * pass_s(base, TOKENS_OF_EXAMPLE),
        SEARCH.name: searched,
        PRUNE.name: pruning_candidates(workload) * workload.n_shots * passed,
        EXPORT.name: EXPORTED_S + base_loaded_s(base),
        EVALUATE.name: answered + trained + searches_repeated(method, workload) * searched,
    }


def training_passes(workload: Amounts, fitted: FittedWork, parameters: int) -> int:
    """Over the shots, at most, to train a LoRA on them and to tune the composition."""
    if workload.baselines == "none":
        return 0
    n_fits = min(FOLDS, workload.n_shots)
    plans = plan_lora(fitted.training, n_fits, parameters), plan_tuning(fitted.training, n_fits)
    return sum(plan.passes(n_fits) for plan in plans)


def duration_words(low_s: float, high_s: float) -> str:
    """“10–25 s”, “2–6 minutes”, “about 3 hours”: rounded as one would say it."""
    if high_s < 90:
        return span(low_s, high_s, "s")
    if high_s < 90 * 60:
        return span(low_s / 60, high_s / 60, "minutes")
    return span(low_s / 3600, high_s / 3600, "hours")


def span(low: float, high: float, unit: str) -> str:
    least, most = round_for_text(low), round_for_text(high)
    if least == most:
        one = unit.removesuffix("s") if most == 1 and unit != "s" else unit
        return f"about {most} {one}"
    return f"{least}–{most} {unit}"


def round_for_text(number: float) -> int:
    """At least 1; above ten in fives, above a hundred in tens."""
    step = 10 if number > 100 else 5 if number > 10 else 1
    return max(1, step * round(number / step))
