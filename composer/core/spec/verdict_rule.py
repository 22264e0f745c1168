"""The numbers of the verdict's rule, and what the baselines are called in its sentences."""

from composer.core.spec.choices import USUAL_BASELINES

# Rows that are compositions themselves: the composition must only not be behind them.
COMPOSITIONS = ("uniform", "composed_in_context")
BASELINE_NAMES = {baseline.key: baseline.in_words for baseline in USUAL_BASELINES}

LUCK_LEVEL = 0.05  # probability; a lead that chance gives more often does not count

# Chosen on other tasks and draws than those of benchmarks/results; docs/decisions/0016 has the figures.
SURE_LEFT_OUT = 0.86  # probability that the mean lead is above zero; with five examples 1.25 standard errors
WORTH_LEFT_OUT = 0.9  # of the other loss; a smaller lead is not worth acting on, even if it is sure
FAR_LEFT_OUT = 0.4  # of the other loss; such a lead is not chance, even if one example disagrees
