"""How long a composition would take: from those that ran here on the same base, else from the base's size."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, log, sqrt
from statistics import fmean, median
from typing import Any, NamedTuple

from django.db.models import Avg, Count, F, Func, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Length

from composer.core.spec.choices import (
    BASELINES_OF_CHOICE,
    DEFAULT_LEVEL,
    NEVERGRAD,
    OPTIMIZER_OF_SEARCH,
    Baseline,
    level_budget,
    most_scored,
    search_of,
)
from composer.core.spec.errors import STOPPED_FOR_TIME
from composer.core.spec.examples import Example as Pair
from composer.core.spec.job_spec import FittedWork
from composer.core.spec.selection import MANY, SURVIVORS, kept_at_most
from composer.core.spec.stages import EVALUATE, EXPORT, LOAD, PRUNE, SCREEN, SEARCH, STAGES
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
REFIT_CANDIDATES = 150  # ten gradient steps of five fits
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


class Seconds(NamedTuple):
    """How long something takes, when it is known from another amount of it."""

    least: float
    likely: float
    most: float

    def times(self, factor: float) -> "Seconds":
        return Seconds(self.least * factor, self.likely * factor, self.most * factor)


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
        return "a rough guess from the base's size: nothing has been measured here on it yet"


def estimate(base: BaseModel, method: str, workload: Amounts) -> Estimate:
    (found,) = estimate_all(base, method, [workload])
    return found


def estimate_all(base: BaseModel, method: str, workloads: Sequence[Amounts]) -> list[Estimate]:
    """Several of one request that differ in their budgets, comparisons and modules only."""
    earlier = read_earlier(base, method, workloads[0])
    return [estimate_by(earlier, base, method, workload) for workload in workloads]


def estimate_by(earlier: "Earlier", base: BaseModel, method: str, workload: Amounts) -> Estimate:
    by_stage, n_measured = seconds_by(earlier, base, method, workload)
    if n_measured == 0:
        low, high = SPREAD_FROM_SIZE
    else:
        low, high = SPREAD_MEASURED if n_measured >= FEW else SPREAD_OF_FEW
    return Estimate(
        low * sum(seconds.least for seconds in by_stage.values()),
        high * sum(seconds.most for seconds in by_stage.values()),
        sum(seconds.likely for seconds in by_stage.values()),
        n_measured,
    )


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


def seconds_by_stage(base: BaseModel, method: str, workload: Amounts) -> tuple[dict[str, Seconds], int]:
    """How long each of the core's stages would take, and from how many compositions that was taken."""
    return seconds_by(read_earlier(base, method, workload), base, method, workload)


class Earlier(NamedTuple):
    """What earlier compositions tell of the time."""

    rows: Sequence[MeasuredRun]
    slowness: float  # of this machine, where there are no rows


def read_earlier(base: BaseModel, method: str, workload: Amounts) -> Earlier:
    rows = list(measured_of(base, method, workload)[:EARLIER_READ])
    return Earlier(rows, 1.0 if rows else slowness(base))


def seconds_by(
    earlier: Earlier, base: BaseModel, method: str, workload: Amounts
) -> tuple[dict[str, Seconds], int]:
    """The same by earlier compositions.

    Those that were asked for with as much searching and comparing tell most, so they are taken alone; as
    long as there are none, the others are.
    """
    asked_alike = (workload.budget, workload.baselines)
    alike = [row for row in earlier.rows if (row["budget"], row["baselines"]) == asked_alike]
    rows = alike or earlier.rows or [guessed_from_size(base, method, workload, earlier.slowness)]
    each = [seconds_of_stages(row, base, method, workload) for row in rows]
    by_stage = {
        stage: Seconds(*(median(values) for values in zip(*(one[stage] for one in each), strict=True)))
        for stage in each[0]
    }
    return by_stage, len(alike or earlier.rows)


def measured_of(base: BaseModel, method: str, workload: Amounts) -> QuerySet[Composition, MeasuredRun]:
    """How long finished ones took, stage by stage, and of how much. Whose they are is nobody's business.

    Only those of the same search that went to their end and were compared in the same way: without held-out
    examples every baseline is fitted anew for each example that it leaves out, which takes far longer than an
    answer.
    """
    ran = search_of(method, workload.search)
    names = [name for name in ("auto", ran) if search_of(method, name) == ran]
    rows = Composition.objects.filter(status=Status.DONE, base=base, method=method, stop_requested=False)
    rows = rows.filter(search__in=names, objective=workload.objective)
    with_held_out = Q(report__n_held_out__gt=0)
    rows = rows.filter(with_held_out if workload.n_held_out else ~with_held_out)
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


def seconds_of_stages(
    row: MeasuredRun, base: BaseModel, method: str, workload: Amounts
) -> dict[str, Seconds]:
    """How long this would take, going by one that took so long."""
    amounts = {name: value for name, value in row.items() if name not in ("seconds", "budget_fitted")}
    had = Amounts(**amounts | {"budget": row.get("budget_fitted") or row["budget"]})
    took = dict.fromkeys((stage.name for stage in STAGES), 0.0) | row["seconds"]
    took[EVALUATE.name] -= searches_repeated(method, had) * took[SEARCH.name]  # told apart
    before, now = (units(base, method, amounts) for amounts in (had, workload))
    ratios = {name: unit / (before[name] or 1.0) for name, unit in now.items()}
    steady = stages_in_proportion(method, workload.search)
    stages = {
        stage: scale_seconds(max(0.0, took[stage]), ratio, in_proportion=stage in steady)
        for stage, ratio in ratios.items()
    }
    searches = stages[SEARCH.name].times(searches_repeated(method, workload))
    stages[EVALUATE.name] = Seconds(*(a + b for a, b in zip(stages[EVALUATE.name], searches, strict=True)))
    limit_s = search_limit_s(base, method, workload.budget)
    stages[SEARCH.name] = Seconds(*(min(limit_s, seconds) for seconds in stages[SEARCH.name]))
    return stages


def units(base: BaseModel, method: str, workload: Amounts) -> dict[str, float]:
    """How much the core's stages do; each in a unit of its own, `search` in seconds by the base's size."""
    length = workload.tokens / TOKENS_OF_EXAMPLE
    n_answering = 1 + len(baselines_of(workload.baselines))
    scored = most_scored(search_of(method, workload.search), workload.budget)
    return {
        LOAD.name: load_s(base, workload),
        SCREEN.name: workload.n_screened * length,
        SEARCH.name: scored * candidate_s(base, method, workload),
        PRUNE.name: workload.n_modules * workload.n_shots * length,
        EXPORT.name: 1.0,
        EVALUATE.name: n_answering * (workload.n_held_out + workload.n_shots) * length,
    }


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


def pruning_candidates(method: str, workload: Amounts) -> int:
    """How many candidates it takes to remove modules: one without each, and mostly one fit anew."""
    return workload.n_modules + (
        0 if is_by_nevergrad(search_of(method, workload.search)) else REFIT_CANDIDATES
    )


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


def stages_in_proportion(method: str, search: str) -> set[str]:
    """Those that take as long as there is to do.

    Fits that go by the gradient or the logits end when nothing moves any more, most often long before their
    budget; and of the comparisons, training the LoRA takes equally long for any number of answers.
    """
    return {SCREEN.name, SEARCH.name} if is_by_nevergrad(search_of(method, search)) else {SCREEN.name}


def scale_seconds(seconds: float, ratio: float, *, in_proportion: bool) -> Seconds:
    """From so long for one amount, for `ratio` of it: between as long again and in proportion."""
    if in_proportion:
        return Seconds(*[seconds * ratio] * 3)
    return Seconds(seconds * min(1.0, ratio), seconds * sqrt(ratio), seconds * max(1.0, ratio))


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


def guessed_from_size(base: BaseModel, method: str, workload: Amounts, slowness: float) -> MeasuredRun:
    """As if one of the usual budget had been measured: by what so many parameters cost an example."""
    usual = replace(workload, budget=level_budget(DEFAULT_LEVEL, method))
    done = units(base, method, usual)
    passed = slowness * pass_s(base, usual.tokens)
    candidate = slowness * candidate_s(base, method, usual)
    fitted = work_that_fits(base, method, usual.budget, candidate_s=candidate)
    trained = training_passes(usual, fitted, base.parameters) * workload.n_shots * passed
    n_answers = done[EVALUATE.name] * TOKENS_OF_EXAMPLE / usual.tokens
    searched = slowness * done[SEARCH.name]
    searches = searches_repeated(method, usual) * searched
    seconds = {
        LOAD.name: done[LOAD.name],
        SCREEN.name: workload.n_screened * passed,
        SEARCH.name: searched,
        PRUNE.name: pruning_candidates(method, usual) * workload.n_shots * passed,
        EXPORT.name: base_loaded_s(base),
        EVALUATE.name: slowness * n_answers * answer_s(base, usual.tokens) + trained + searches,
    }
    return asdict(usual) | {"seconds": seconds}


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
