"""What can be chosen for a composition: names, a line about each, and where it comes from.

Standard library only, so that forms and services can read it without loading torch.
Only what works is listed here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """One thing to choose: its stable name, one line for a reader, and its source."""

    name: str
    line: str
    source: str


METHODS = (
    Choice(
        "exact",
        "The weighted sum of the modules' own updates, with nothing mixed between them.",
        "Prabhakar et al., LoRA Soups, arXiv:2410.13025, with one weight per module",
    ),
    Choice(
        "lorahub",
        "LoraHub as released: factors summed before they are multiplied, weights by NGOpt.",
        "Huang et al., LoraHub, arXiv:2307.13269, and the code published with it",
    ),
    Choice(
        "linear",
        "peft's linear: factors summed with the root of the weight on each, then multiplied.",
        "peft, add_weighted_adapter(combination_type='linear')",
    ),
    Choice(
        "magnitude",
        "Each module keeps the larger half of its values; then as linear.",
        "peft, add_weighted_adapter(combination_type='magnitude_prune')",
    ),
    Choice(
        "ties",
        "Each module keeps its largest fifth, signs are elected factor by factor; then as linear.",
        "Yadav et al., TIES-Merging, arXiv:2306.01708, factor by factor as in peft",
    ),
    Choice(
        "dare_linear",
        "Half of the values dropped at random, the rest doubled; then as linear.",
        "Yu et al., DARE, arXiv:2311.03099, factor by factor as in peft",
    ),
    Choice(
        "dare_ties",
        "Half of the values dropped at random, signs elected; then as linear.",
        "Yu et al., DARE, arXiv:2311.03099, factor by factor as in peft",
    ),
)

SEARCHES = (
    Choice(
        "auto",
        "What measured best for the method: a blend of gradient fits for exact, NGOpt for the others.",
        "benchmarks/results/demo_world.md",
    ),
    Choice(
        "adam",
        "Gradient descent on the weights, from zero, with a pull toward zero.",
        "Kingma and Ba, Adam, arXiv:1412.6980",
    ),
    Choice(
        "greedy",
        "The best module alone, then one partner after another while the few-shot loss falls.",
        "Caruana et al., Ensemble selection from libraries of models, ICML 2004",
    ),
    Choice(
        "ngopt",
        "The gradient-free search LoraHub uses; at a budget of 40 it runs COBYLA.",
        "Bennet, Doerr et al., Nevergrad, SIGEVOlution 14(1), 2021",
    ),
    Choice(
        "cma",
        "CMA-ES: a population of candidates whose spread follows the loss; worth it from a budget of 200.",
        "Hansen and Ostermeier, Evolutionary Computation 9(2), 2001",
    ),
)
NEVERGRAD = "nevergrad:"  # before the name of any optimiser that nevergrad registers, for those who know it
OPTIMIZER_OF_SEARCH = {"auto": "NGOpt", "ngopt": "NGOpt", "cma": "CMA"}  # nevergrad's names

SEARCHES_OF_METHOD = {
    method.name: ("auto", "adam", "greedy", "ngopt", "cma")
    if method.name == "exact"
    else ("auto", "ngopt", "cma")
    for method in METHODS
}

SELECTORS = (
    Choice("all", "Every module given.", "no choice is made"),
    Choice(
        "random:K",
        "K modules drawn at random with the seed.",
        "Huang et al., LoraHub, arXiv:2307.13269, section 3",
    ),
    Choice(
        "screen:K",
        "The K modules with the lowest few-shot loss when each is used alone.",
        "measured here: benchmarks/results/demo_world.md",
    ),
)

OBJECTIVES = (
    Choice(
        "loss",
        "Cross entropy on the examples plus 0.05 times the mean size of the weights.",
        "Huang et al., LoraHub, arXiv:2307.13269, eq. 2",
    ),
)

PRECISIONS = (Choice("fp32", "32-bit floating point throughout.", "IEEE 754"),)

BASELINES = (
    Choice(
        "always",
        "The base alone, the best single module, the uniform average, the examples in the prompt, "
        "and a LoRA trained on the examples.",
        "benchmarks/results/demo_world.md",
    ),
    Choice("none", "No comparison, only the composition.", "no measurement is made"),
)

DEFAULT_METHOD = "exact"
DEFAULT_SEED = 42
DEFAULT_TEMPLATE = "{input}"
DEFAULT_MAX_NEW_TOKENS = 256  # as the LoraHub reference generates
MAX_NEW_TOKENS_LIMIT = 1024

# A scored candidate costs 1, a gradient step 3 (a backward costs about two forwards more).
GRADIENT_STEP_COST = 3
# exact: as measured to be enough; the others: as in LoraHub's own example.
BUDGET_OF_METHOD = {method.name: 2000 if method.name == "exact" else 40 for method in METHODS}
BUDGET_LIMIT = 10_000

WEIGHT_BOUND = 1.5  # every weight stays within ±1.5, as in LoraHub's code
RANK_LIMIT = 1024  # of an adapter that is made smaller
SHOTS_LIMIT = 64  # examples that a search may read; few-shot means few
HELD_OUT_LIMIT = 2000


def names(choices: tuple[Choice, ...]) -> tuple[str, ...]:
    """The stable names, in the order they are offered."""
    return tuple(choice.name for choice in choices)
