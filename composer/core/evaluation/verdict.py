"""How good an adapter is on examples it never saw, and what to make of it."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from composer.core.spec.choices import USUAL_BASELINES
from composer.core.spec.examples import Example
from composer.core.spec.metrics import accuracy, count_noun, is_exact_match

LUCK_LEVEL = 0.05  # a lead that luck alone gives more often than this is none


@dataclass(frozen=True)
class Verdict:
    """What we advise: `use` it, take a `single` module, `train` a LoRA, or `none` of these.

    Where nothing was compared it is `unmeasured`: that is no advice against it.
    """

    decision: str
    text: str


def sign_test(n_better: int, n_worse: int) -> float:
    """How likely so many wins among the answers that differ would be by luck alone, 0 to 1.

    One-sided and exact; answers on which both are right or both wrong say nothing.
    Source: McNemar, Psychometrika 12 (1947), in its exact form.
    """
    n = n_better + n_worse
    favourable = sum(math.comb(n, k) for k in range(n_better, n + 1))
    return favourable / float(2**n)


def is_surely_better(
    answers: Sequence[str], others: Sequence[str], examples: Sequence[Example], level: float = LUCK_LEVEL
) -> bool:
    """Whether `answers` are right more often than `others`, beyond luck."""
    pairs = [
        (is_exact_match(ours, example.output), is_exact_match(theirs, example.output))
        for ours, theirs, example in zip(answers, others, examples, strict=True)
    ]
    return sign_test(pairs.count((True, False)), pairs.count((False, True))) <= level


BASELINE_NAMES = {baseline.key: baseline.in_words for baseline in USUAL_BASELINES}


def verdict_on_held_out(
    answers: Mapping[str, Sequence[str]], examples: Sequence[Example], single_name: str
) -> Verdict:
    """Compare exact match on the held-out examples.

    "use" needs the composition to be right more often than every rival, beyond luck; the uniform average,
    a composition itself, must only not be right more often.

    Args:
        answers: of "composed" and of the measured keys of RIVALS, one per example.
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
    if is_to_use(baselines, lambda ours, theirs: is_surely_better(answers[ours], answers[theirs], examples)):
        return Verdict("use", f"Use the composition. {figures}")
    best = max(baselines, key=lambda key: percent[key])
    if best == "zero_shot" or not is_surely_better(answers[best], answers["zero_shot"], examples):
        return Verdict("none", f"No sure gain over the base alone. {figures}")
    reason = "answers more of them" if percent[best] > percent["composed"] else "does about as well"
    return verdict_for_baseline(best, reason, figures, single_name)


def is_to_use(baselines: Sequence[str], is_ahead: Callable[[str, str], bool]) -> bool:
    """Whether the composition is ahead of whatever else one could take.

    The uniform average is no such thing: it is a composition too, only without weights that were searched,
    and does about as well where a few modules were picked by hand.
    """
    if "uniform" in baselines and is_ahead("uniform", "composed"):
        return False
    return all(is_ahead("composed", baseline) for baseline in baselines if baseline != "uniform")


def verdict_for_baseline(best: str, reason: str, figures: str, single_name: str) -> Verdict:
    """The advice to take `best` of RIVALS, or, of those that are no adapter, none."""
    if best == "lora_on_shots":
        return Verdict("train", f"Train a LoRA instead: it {reason}. {figures}")
    if best == "best_single":
        return Verdict("single", f"Use {single_name} by itself: it {reason}. {figures}")
    if best == "uniform":
        return Verdict("none", f"No search is needed: {BASELINE_NAMES[best]} {reason}. {figures}")
    return Verdict("none", f"No composition is needed: {BASELINE_NAMES[best]} {reason}. {figures}")


def verdict_without_baselines(answers: Sequence[str], examples: Sequence[Example]) -> Verdict:
    """What may be said of answers to held-out examples that nothing else was asked."""
    found = accuracy(answers, examples)
    low, high = found.interval_percent
    return Verdict(
        "unmeasured",
        f"No baseline was measured. On {count_noun(len(examples), 'held-out example')} the composition "
        f"answers {found.percent:.0f} % correctly (95 % interval {low:.0f} to {high:.0f}). "
        "Compare it with the baselines to know whether it is needed.",
    )


def verdict_without_evidence(reason: str) -> Verdict:
    """What may be said when there is nothing to say it by."""
    return Verdict(
        "unmeasured",
        f"{reason} The examples that the weights were fitted on prove nothing. "
        "Add some held-out examples to know whether this adapter helps.",
    )


@dataclass(frozen=True)
class LeftOutLosses:
    """A handful of examples, each scored under what was made without it.

    Attributes:
        nats: cross entropy of each, summed over its label tokens.
        label_tokens: how many it has.
    """

    nats: tuple[float, ...]
    label_tokens: tuple[float, ...]

    @property
    def loss_nats(self) -> float:
        """Per label token."""
        return sum(self.nats) / sum(self.label_tokens)

    @property
    def chances(self) -> tuple[float, ...]:
        """For each example the chance that a token of its answer is right, their geometric mean, 0 to 1."""
        return tuple(math.exp(-x / n) for x, n in zip(self.nats, self.label_tokens, strict=True))


def mean_interval(values: Sequence[float], level: float) -> tuple[float, float]:
    """Bounds of the mean of a few values, which lies above the lower one with a chance of `level`.

    Source: Student, The probable error of a mean, Biometrika 6 (1908).
    """
    n, mean = len(values), statistics.fmean(values)
    spread = t_quantile(level, n - 1) * statistics.stdev(values) / math.sqrt(n)
    return mean - spread, mean + spread


def t_quantile(p: float, freedom: int) -> float:
    """Student's t at the chance `p` of 0.5 to 0.99: exact for one and two degrees of freedom, else to 1 %.

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


# Chosen on other tasks and draws than those of benchmarks/results; docs/decisions/0016 has the figures.
SURE_LEFT_OUT = 0.86  # chance that the mean lead is above zero; at five examples 1.25 standard errors
WORTH_LEFT_OUT = 0.9  # of the other's loss: a lead of less, however sure, is nothing to act on
FAR_LEFT_OUT = 0.4  # of the other's loss: so much less is no luck even where one example disagrees
# Of the chance of a right token, in the mean: a lead of less is none, however much lower the loss, where
# neither gets anything right as where both do.
LEAST_LEAD = 0.01


def is_ahead_left_out(ours: LeftOutLosses, others: LeftOutLosses) -> bool:
    """Whether examples that were left out speak for `ours`, as surely as so few can."""
    leads = [mine - theirs for mine, theirs in zip(ours.chances, others.chances, strict=True)]
    if statistics.fmean(leads) < LEAST_LEAD:
        return False
    surely, _ = mean_interval(leads, SURE_LEFT_OUT)
    share = WORTH_LEFT_OUT if surely > 0 else FAR_LEFT_OUT
    return ours.loss_nats < share * others.loss_nats


def verdict_left_out(left_out: Mapping[str, LeftOutLosses], single_name: str) -> Verdict:
    """Compare the chances of right tokens on examples that each fit had left out.

    Used when there are no held-out examples; weaker evidence, and it says so.

    Args:
        left_out: of "composed", "zero_shot" and of further measured keys of RIVALS.
    """
    composed = left_out["composed"]
    baselines = [key for key in BASELINE_NAMES if key in left_out]
    chance = {key: 100 * statistics.fmean(one.chances) for key, one in left_out.items()}
    best = max(baselines, key=lambda key: chance[key])
    low, high = (100 * bound for bound in mean_interval(composed.chances, 0.975))
    leads = [mine - theirs for mine, theirs in zip(composed.chances, left_out[best].chances, strict=True)]
    least, most = (100 * bound for bound in mean_interval(leads, 0.975))
    figures = (
        f"There are no held-out examples, so each of the {len(composed.nats)} was left out of a fit once: "
        f"there the composition gives a right token a chance of {chance['composed']:.0f} % "
        f"(95 % interval {max(0.0, low):.0f} to {min(100.0, high):.0f}), "
        + ", ".join(f"{BASELINE_NAMES[key]} {chance[key]:.0f} %" for key in baselines)
        + f"; its lead over {BASELINE_NAMES[best]} is {round(chance['composed'] - chance[best])} points "
        f"(95 % interval {round(max(-100.0, least))} to {round(min(100.0, most))}). "
        "So few examples tell little: add held-out examples to know how often it is right."
    )
    if is_to_use(baselines, lambda ours, theirs: is_ahead_left_out(left_out[ours], left_out[theirs])):
        return Verdict("use", f"The composition looks useful. {figures}")
    if best == "zero_shot" or not is_ahead_left_out(left_out[best], left_out["zero_shot"]):
        return Verdict("none", f"No clear gain over the base alone. {figures}")
    reason = "does better there" if chance[best] > chance["composed"] else "does about as well there"
    return verdict_for_baseline(best, reason, figures, single_name)
