"""The verdict: what the figures on held-out or left-out examples advise.

There is one function for each kind of evidence, from held-out examples down to none.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from composer.core.spec.choices import as_list
from composer.core.spec.counting import count_noun
from composer.core.spec.examples import Example
from composer.core.spec.metrics import accuracy, is_exact_match
from composer.core.spec.verdict_rule import (
    ABOUT_AS_WELL_POINTS,
    BASELINE_NAMES,
    COMPOSITIONS,
    FAR_LEFT_OUT,
    HELD_AGAINST,
    LUCK_LEVEL,
    SURE_LEFT_OUT,
    TUNED,
    WITH_EXAMPLES,
    WORTH_LEFT_OUT,
)

FORM_NAMES = {  # the simplest form first
    "composed": "The composition",
    TUNED: "The composition tuned on the examples",
    WITH_EXAMPLES: "The composition with the examples in its prompt",
}


@dataclass(frozen=True)
class Verdict:
    """The advice of a report.

    Attributes:
        decision: `use` the composition, `prompt` it with the examples in its prompt, `tune` it further, take
            a `single` module, `train` a LoRA, or `none` of these. `unsure` where a form of the composition
            leads, but that may be luck.
            `unmeasured` where nothing was compared, which is no advice against the composition.
        text: the advice and its figures in words.
        advised: the key of the row that the reader should use, for `unsure` of the one that leads; None
            if no row is better than the base alone, or if nothing was compared.
    """

    decision: str
    text: str
    advised: str | None = None


def sign_test(n_better: int, n_worse: int) -> float:
    """Return the probability, 0 to 1, of at least so many better answers by chance alone.

    One-sided and exact. Only answers that differ count: exactly one of the two is right.

    Args:
        n_better: examples that only the first answers correctly.
        n_worse: examples that only the second answers correctly.

    Source: McNemar, Psychometrika 12 (1947), in its exact form.
    """
    n = n_better + n_worse
    favourable = sum(math.comb(n, k) for k in range(n_better, n + 1))
    return favourable / float(2**n)


def is_surely_better(
    answers: Sequence[str], others: Sequence[str], examples: Sequence[Example], level: float = LUCK_LEVEL
) -> bool:
    """Return whether `answers` are right more often than `others`, by a sign test at `level`, 0 to 1.

    Raises:
        ValueError: the three sequences have different lengths.
    """
    pairs = [
        (is_exact_match(ours, example.output), is_exact_match(theirs, example.output))
        for ours, theirs, example in zip(answers, others, examples, strict=True)
    ]
    return sign_test(pairs.count((True, False)), pairs.count((False, True))) <= level


def verdict_on_held_out(
    answers: Mapping[str, Sequence[str]], examples: Sequence[Example], single_name: str
) -> Verdict:
    """Compare the exact match on the held-out examples.

    "use" needs the composition to be right more often than every other baseline, by a sign test. The
    uniform average and the composition with the examples in its prompt are compositions themselves: they
    must only not be right more often. "prompt" needs the same of the latter.

    Args:
        answers: of "composed", "zero_shot" and the other measured baselines, one per held-out example.
        examples: the held-out examples.
        single_name: the name of the best single module.
    """
    baselines = [key for key in BASELINE_NAMES if key in answers]
    percent = {key: accuracy(answers[key], examples).percent for key in answers}
    low, high = accuracy(answers["composed"], examples).interval_percent
    figures = (
        f"On {count_noun(len(examples), 'held-out example')} the composition answers "
        f"{percent['composed']:.0f} % correctly (95 % interval {low:.0f} to {high:.0f}), "
        + ", ".join(f"{BASELINE_NAMES[key]} {percent[key]:.0f} %" for key in baselines)
        + "."
    )

    def is_ahead(ours: str, theirs: str) -> bool:
        return is_surely_better(answers[ours], answers[theirs], examples)

    if is_to_use(baselines, is_ahead):
        return Verdict("use", f"Use the composition. {figures}", "composed")
    if is_to_prompt(baselines, is_ahead):
        words = "Use the composition with the examples in its prompt."
        return Verdict("prompt", f"{words} {figures}", WITH_EXAMPLES)
    if is_to_tune(baselines, is_ahead):
        return Verdict("tune", f"Tune the composition on the examples. {figures}", TUNED)
    return verdict_without_sure_lead(
        percent, baselines, is_ahead, figures, single_name, better="answers more of them", where=""
    )


def is_to_use(baselines: Sequence[str], is_ahead: Callable[[str, str], bool]) -> bool:
    """Return whether the composition is ahead of every baseline that one could take instead.

    The uniform average is a composition too, only without searched weights, and does about as well if a
    few modules were picked by hand. So it must only not be ahead of the composition. The same holds for
    the composition with the examples in its prompt, and for the tuned one.

    Args:
        baselines: keys of the measured baselines.
        is_ahead: whether the first key is ahead of the second.
    """
    return is_best_of_all("composed", baselines, is_ahead)


def is_to_prompt(baselines: Sequence[str], is_ahead: Callable[[str, str], bool]) -> bool:
    """Return whether the composition with the examples in its prompt is ahead as `is_to_use` asks of one."""
    return WITH_EXAMPLES in baselines and is_best_of_all(WITH_EXAMPLES, baselines, is_ahead)


def is_to_tune(baselines: Sequence[str], is_ahead: Callable[[str, str], bool]) -> bool:
    """Return whether the tuned composition is ahead as `is_to_use` asks of one."""
    return TUNED in baselines and is_best_of_all(TUNED, baselines, is_ahead)


def is_best_of_all(ours: str, baselines: Sequence[str], is_ahead: Callable[[str, str], bool]) -> bool:
    """Return whether a composition is ahead of all that is none, and no other composition is ahead of it."""
    others = [key for key in (*baselines, "composed") if key != ours]
    compositions = (*COMPOSITIONS, "composed")
    return all(
        not is_ahead(other, ours) if other in compositions else is_ahead(ours, other) for other in others
    )


def verdict_without_sure_lead(
    points: Mapping[str, float],
    baselines: Sequence[str],
    is_ahead: Callable[[str, str], bool],
    figures: str,
    single_name: str,
    *,
    better: str,
    where: str,
) -> Verdict:
    """Return the verdict where no form of the composition is ahead of all that is none.

    Where one of them leads, its lead may be luck, but it is no reason against it: `unsure`. A baseline is
    advised instead where it does about as well or better, and is itself ahead of the base alone.

    Args:
        points: 0 to 100 by the key of the row, the more the better.
        baselines: keys of the measured baselines.
        is_ahead: whether the first key is ahead of the second.
        figures: sentences on what was measured.
        single_name: the name of the best single module.
        better: what a baseline does that is better.
        where: behind "does about as well".
    """
    forms = [key for key in FORM_NAMES if key in points]
    most = max(points[key] for key in forms)
    form = next(key for key in forms if points[key] >= most - ABOUT_AS_WELL_POINTS)
    other = max((key for key in baselines if key in HELD_AGAINST), key=lambda key: points[key])
    lead = points[form] - points[other]
    form_helps, other_helps = (key != "zero_shot" and is_ahead(key, "zero_shot") for key in (form, other))
    if not (form_helps or other_helps):
        return Verdict("none", f"No {'clear' if where else 'sure'} gain over the base alone. {figures}")
    if other_helps and lead <= ABOUT_AS_WELL_POINTS:
        is_level = form == "composed" and abs(lead) <= ABOUT_AS_WELL_POINTS
        if is_level and other == "lora_on_shots":
            text = f"Either will do: a LoRA trained on the examples does about as well{where}. {figures}"
            return Verdict("train", text, other)
        reason = better if lead < 0 else f"does about as well{where}"
        return verdict_for_baseline(other, reason, figures, single_name)
    words = "is better than the base alone" if form_helps else "leads"
    unsure = f"but these examples cannot tell whether it is better than {BASELINE_NAMES[other]}"
    return Verdict("unsure", f"{FORM_NAMES[form]} {words}, {unsure}. {figures}", form)


def verdict_for_baseline(best: str, reason: str, figures: str, single_name: str) -> Verdict:
    """Return the advice to take the baseline `best` instead.

    The decision is `train` for a trained LoRA, `single` for the best single module, else `none`.
    """
    if best == "lora_on_shots":
        return Verdict("train", f"Train a LoRA instead: it {reason}. {figures}", best)
    if best == "best_single":
        return Verdict("single", f"Use {single_name} by itself: it {reason}. {figures}", best)
    if best == "uniform":
        return Verdict("none", f"No search is needed: {BASELINE_NAMES[best]} {reason}. {figures}", best)
    return Verdict("none", f"No composition is needed: {BASELINE_NAMES[best]} {reason}. {figures}", best)


def verdict_without_baselines(answers: Sequence[str], examples: Sequence[Example]) -> Verdict:
    """Return the verdict where only the composition answered the held-out examples."""
    found = accuracy(answers, examples)
    low, high = found.interval_percent
    return Verdict(
        "unmeasured",
        f"No baseline was measured. On {count_noun(len(examples), 'held-out example')} the composition "
        f"answers {found.percent:.0f} % correctly (95 % interval {low:.0f} to {high:.0f}). "
        "Compare it with the baselines to know whether it is needed.",
    )


def verdict_cut_short(
    answers: Mapping[str, Sequence[str]], examples: Sequence[Example], missing: Sequence[str]
) -> Verdict:
    """Return the verdict where the comparison ended before everything was measured that could be advised.

    Args:
        answers: of what was measured, one per held-out example; empty if there are no held-out examples.
        examples: the held-out examples.
        missing: keys of the baselines that were not measured.
    """
    named = as_list([BASELINE_NAMES[key] for key in missing])
    text = f"The time was up before {named} could be measured, so nothing is advised."
    measured = [key for key in ("composed", *BASELINE_NAMES) if key in answers]
    if measured:
        names = {**BASELINE_NAMES, "composed": "the composition"}
        shares = [f"{names[key]} {accuracy(answers[key], examples).percent:.0f} %" for key in measured]
        text += f" Right of {count_noun(len(examples), 'held-out example')}: {', '.join(shares)}."
    return Verdict("unmeasured", text)


def verdict_without_evidence(reason: str) -> Verdict:
    """Return the verdict where there are no held-out and no left-out examples."""
    return Verdict(
        "unmeasured",
        f"{reason} The examples that the weights were fitted on prove nothing. "
        "Add some held-out examples to know whether this adapter helps.",
    )


@dataclass(frozen=True)
class LeftOutLosses:
    """n examples, each scored under something that was made without it.

    Attributes:
        nats: (n,) cross entropy of each example, summed over its label tokens.
        label_tokens: (n,) label tokens of each example.
    """

    nats: tuple[float, ...]
    label_tokens: tuple[float, ...]

    @property
    def loss_nats(self) -> float:
        """Return the loss over all n examples, in nats per label token."""
        return sum(self.nats) / sum(self.label_tokens)

    @property
    def chances(self) -> tuple[float, ...]:
        """Return (n,) probabilities, 0 to 1: the geometric mean over each example's label tokens."""
        return tuple(math.exp(-x / n) for x, n in zip(self.nats, self.label_tokens, strict=True))

    @property
    def mean_chance_percent(self) -> float:
        """Return the mean chance of a right token, 0 to 100."""
        return 100 * statistics.fmean(self.chances)

    @property
    def chance_interval_percent(self) -> tuple[float, float] | None:
        """Return the 95 % interval of that mean, within 0 to 100; None for a single example."""
        if len(self.nats) < 2:
            return None
        low, high = mean_interval(self.chances, 0.975)
        return max(0.0, 100 * low), min(100.0, 100 * high)

    @property
    def whole_chances(self) -> tuple[float, ...]:
        """Return (n,) probabilities, 0 to 1, of each whole output."""
        return tuple(math.exp(-x) for x in self.nats)


def mean_interval(values: Sequence[float], level: float) -> tuple[float, float]:
    """Return the lower and upper bound of the mean of n values, n at least 2.

    The mean is above the lower bound with the probability `level`, and below the upper one with the same.

    Source: Student, The probable error of a mean, Biometrika 6 (1908).
    """
    n, mean = len(values), statistics.fmean(values)
    spread = t_quantile(level, n - 1) * statistics.stdev(values) / math.sqrt(n)
    return mean - spread, mean + spread


def t_quantile(p: float, freedom: int) -> float:
    """Return the quantile of Student's t at the probability `p`, 0.5 to 0.99.

    It is exact for one and two degrees of freedom, and accurate to 1 % for more.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    z = statistics.NormalDist().inv_cdf(p)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


# Mean lead in the probability of a right token. A smaller lead does not count, even with a much lower loss:
# then both get almost everything right, or almost nothing.
LEAST_LEAD = 0.01


def is_ahead_left_out(ours: LeftOutLosses, others: LeftOutLosses) -> bool:
    """Return whether left-out examples favor `ours` over `others`, as surely as so few examples can.

    Both hold the same n examples in the same order, n at least 2. The mean lead in probability must be at
    least LEAST_LEAD. Then the loss must be below WORTH_LEFT_OUT of the other one if the lead is sure, else
    below FAR_LEFT_OUT of it.
    """
    leads = [mine - theirs for mine, theirs in zip(ours.chances, others.chances, strict=True)]
    if statistics.fmean(leads) < LEAST_LEAD:
        return False
    surely, _ = mean_interval(leads, SURE_LEFT_OUT)
    share = WORTH_LEFT_OUT if surely > 0 else FAR_LEFT_OUT
    return ours.loss_nats < share * others.loss_nats


def verdict_left_out(left_out: Mapping[str, LeftOutLosses], single_name: str) -> Verdict:
    """Compare the probabilities of the right tokens on left-out examples.

    Used without held-out examples; the text says that this is weaker evidence.

    Args:
        left_out: of "composed", "zero_shot" and the other measured baselines; the same n examples in each.
        single_name: the name of the best single module.
    """
    composed = left_out["composed"]
    baselines = [key for key in BASELINE_NAMES if key in left_out]
    chance = {key: one.mean_chance_percent for key, one in left_out.items()}
    best = max(baselines, key=lambda key: chance[key])
    low, high = (100 * bound for bound in mean_interval(composed.chances, 0.975))
    leads = [mine - theirs for mine, theirs in zip(composed.chances, left_out[best].chances, strict=True)]
    least, most = (100 * bound for bound in mean_interval(leads, 0.975))
    figures = (
        f"There are no held-out examples, so each of the {len(composed.nats)} was left out of a fit once: "
        f"there the composition gives the right token a probability of {chance['composed']:.0f} % "
        f"(95 % interval {max(0.0, low):.0f} to {min(100.0, high):.0f}), "
        + ", ".join(f"{BASELINE_NAMES[key]} {chance[key]:.0f} %" for key in baselines)
        + f"; its lead over {BASELINE_NAMES[best]} is "
        f"{count_noun(round(chance['composed'] - chance[best]), 'point')} "
        f"(95 % interval {round(max(-100.0, least))} to {round(min(100.0, most))}). "
        "So few examples tell little: add held-out examples to know how often it is right."
    )

    def is_ahead(ours: str, theirs: str) -> bool:
        return is_ahead_left_out(left_out[ours], left_out[theirs])

    if is_to_use(baselines, is_ahead):
        return Verdict("use", f"The composition looks useful. {figures}", "composed")
    if is_to_tune(baselines, is_ahead):
        return Verdict("tune", f"Tuning the composition looks useful. {figures}", TUNED)
    return verdict_without_sure_lead(
        chance, baselines, is_ahead, figures, single_name, better="does better there", where=" there"
    )
