"""The numbers of the verdict's rule, and what the baselines are called in its sentences."""

from composer.core.spec.choices import USUAL_BASELINES

LUCK_LEVEL = 0.05  # a lead that luck alone gives more often than this is none


RIVALS = {baseline.key: baseline.in_words for baseline in USUAL_BASELINES}


# Chosen on other tasks and draws than those of benchmarks/results; docs/decisions/0016 has the figures.
SURE_LEFT_OUT = 0.86  # chance that the mean lead is above zero; at five examples 1.25 standard errors


WORTH_LEFT_OUT = 0.9  # of the other's loss: a lead of less, however sure, is nothing to act on


FAR_LEFT_OUT = 0.4  # of the other's loss: so much less is no luck even where one example disagrees
