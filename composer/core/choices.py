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
        "auto",
        "What measured best here: an exact sum, its weights found by a blend of fits and freed by layer.",
        "benchmarks/results/compose_quality.md",
    ),
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
        "cat",
        "CAT: in every layer a share for each module; the shares add up to one.",
        "Prabhakar et al., LoRA Soups, arXiv:2410.13025",
    ),
    Choice(
        "cat-layers",
        "As exact, with weights of its own for every layer: more to learn, and more to learn by heart.",
        "Prabhakar et al., LoRA Soups, arXiv:2410.13025, without the softmax",
    ),
    Choice(
        "svd",
        "As exact, then cut to the modules' own rank by an SVD.",
        "peft, add_weighted_adapter(combination_type='svd')",
    ),
    Choice(
        "ties_svd",
        "TIES on whole updates: each keeps its largest fifth, signs are elected; then cut to the rank.",
        "Yadav et al., TIES-Merging, arXiv:2306.01708, on updates as in peft",
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
        "What measured best for the method: a blend of gradient fits, one gradient fit, or NGOpt.",
        "benchmarks/results/compose_quality.md",
    ),
    Choice(
        "adam",
        "Gradient descent on the weights, with a pull toward zero.",
        "Kingma and Ba, Adam, arXiv:1412.6980",
    ),
    Choice(
        "adam-sparse",
        "As adam, with a pull so strong that most weights end at exactly zero.",
        "Beck and Teboulle, SIAM Journal on Imaging Sciences 2(1), 2009, in Adam's metric",
    ),
    Choice(
        "adam-positive",
        "As adam, with no weight below zero: modules are added, none is taken away.",
        "Kingma and Ba, arXiv:1412.6980, projected",
    ),
    Choice(
        "lbfgs",
        "A quasi-Newton method: fewer, longer steps along the gradient.",
        "Nocedal, Mathematics of Computation 35, 1980",
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
ANY_OF_NEVERGRAD = Choice(
    f"{NEVERGRAD}NAME",
    "Any optimiser that nevergrad registers, by its name there, such as nevergrad:OnePlusOne.",
    "nevergrad.optimizers.registry",
)
OPTIMIZER_OF_SEARCH = {"auto": "NGOpt", "ngopt": "NGOpt", "cma": "CMA"}  # nevergrad's names
GRADIENT_SEARCHES = ("adam", "adam-sparse", "adam-positive", "lbfgs")

WITHOUT_GRADIENT = ("auto", "greedy", "ngopt", "cma")
ALL_SEARCHES = tuple(search.name for search in SEARCHES)
# auto with a search of one's own is exact.
# The product of sums is flat at w = 0, where a search begins, and the other methods merge factor by factor
# by rules without a slope: no gradient leads anywhere. A softmax has no zero to be sparse at, and no sign.
SEARCHES_OF_METHOD = {
    "auto": ALL_SEARCHES,
    "exact": ALL_SEARCHES,
    "cat": ("auto", "adam", "lbfgs", "ngopt", "cma"),
    "cat-layers": ("auto", "adam", "adam-sparse", "adam-positive", "lbfgs", "ngopt", "cma"),
    "svd": ALL_SEARCHES,
    "ties_svd": ALL_SEARCHES,
    "lorahub": WITHOUT_GRADIENT,
    "linear": WITHOUT_GRADIENT,
    "magnitude": WITHOUT_GRADIENT,
    "ties": WITHOUT_GRADIENT,
    "dare_linear": WITHOUT_GRADIENT,
    "dare_ties": WITHOUT_GRADIENT,
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
        "measured here: docs/core/composing.md",
    ),
    Choice(
        "near:K",
        "The K modules whose text is nearest to the task's, and, after screen:K, whose change is nearest to "
        "the best module's.",
        "iLoraComp, Findings of EMNLP 2024, 326; ranks joined as in Cormack et al., SIGIR 2009",
    ),
)

OBJECTIVES = (
    Choice(
        "loss",
        "Cross entropy on the examples plus 0.05 times the mean size of the weights.",
        "Huang et al., LoraHub, arXiv:2307.13269, eq. 2",
    ),
    Choice(
        "exact_match",
        "The share of the examples that is answered wrong; the loss decides between equals. "
        "For searches without a gradient.",
        "strict exact match of greedy answers",
    ),
)

PRECISIONS = (
    Choice("auto", "bf16 where the processor computes it fast and the base is large, else fp32.", "measured"),
    Choice("fp32", "32-bit floating point throughout.", "IEEE 754"),
    Choice("bf16", "Matrix products in 16-bit brain floating point; the rest in fp32.", "arXiv:1905.12322"),
)

DEVICES = (
    Choice("auto", "The graphics card if there is one, else the processor.", "torch.cuda.is_available"),
    Choice("cpu", "The processor.", "torch"),
    Choice("cuda", "The graphics card.", "torch"),
)

BASELINES = (
    Choice(
        "always",
        "The base alone, the best single module, the uniform average, the examples in the prompt, "
        "and a LoRA trained on the examples.",
        "benchmarks/results/compose_quality.md",
    ),
    Choice(
        "thorough",
        "These, and random LoRAs of the same size through the same search, and LoraHub as published.",
        "arXiv:2602.12323 for the random ones; Huang et al., arXiv:2307.13269",
    ),
    Choice("none", "No comparison, only the composition.", "no measurement is made"),
)

# How far a composition goes, in words for who does not want to know of budgets; not a name of the core's.
LEVELS = (
    Choice("quick", "A first look: a fifth of the usual search.", "composer.core.choices.level_budget"),
    Choice(
        "balanced", "What measured best, against every usual rival.", "benchmarks/results/compose_quality.md"
    ),
    Choice(
        "thorough",
        "Twice the search, and two more rivals: random modules and LoraHub as published.",
        "arXiv:2602.12323; Huang et al., arXiv:2307.13269",
    ),
)
DEFAULT_LEVEL = "balanced"
BASELINES_OF_LEVEL = {"quick": "always", "balanced": "always", "thorough": "thorough"}

DEFAULT_METHOD = "auto"
DEFAULT_SEED = 42
DEFAULT_TEMPLATE = "{input}"
DEFAULT_MAX_NEW_TOKENS = 256  # as the LoraHub reference generates
MAX_NEW_TOKENS_LIMIT = 1024

# A scored candidate costs 1, a gradient step 3 (a backward costs about two forwards more).
GRADIENT_STEP_COST = 3
# What the search "auto" is; for a method that is not named here, ngopt.
SEARCH_OF_AUTO = {
    "auto": "blend",
    "exact": "blend",
    "svd": "blend",
    "cat": "adam",
    "cat-layers": "adam",
    "ties_svd": "adam",
}
# Methods that add updates; the others add A to A and B to B, so that ranks and targets must agree.
TAKES_ANY_SHAPE = frozenset({"auto", "exact", "cat", "cat-layers", "svd", "ties_svd"})

# As measured to be enough; without gradients as in LoraHub's own example.
BUDGET_OF_METHOD = {
    "auto": 3000,
    "exact": 2500,
    "svd": 2500,
    "cat": 450,
    "cat-layers": 450,
    "ties_svd": 450,
} | {name: 40 for name, searches in SEARCHES_OF_METHOD.items() if searches == WITHOUT_GRADIENT}
BUDGET_LIMIT = 10_000
SHARE_OF_LEVEL = {"quick": 0.2, "balanced": 1.0, "thorough": 2.0}  # of the usual budget
GRADIENT_FREE_BUDGET = {"quick": 40, "balanced": 40, "thorough": 200}  # fewer than 40 would only probe

WEIGHT_BOUND = 1.5  # every weight stays within ±1.5, as in LoraHub's code
RANK_LIMIT = 1024  # of an adapter that is made smaller
SHOTS_LIMIT = 64  # examples that a search may read; few-shot means few
HELD_OUT_LIMIT = 2000
TEXT_LIMIT = 20_000  # characters of what a module's author, or a task's, says in words


def level_budget(level: str, method: str) -> int:
    """The budget that a level means for a method."""
    if SEARCHES_OF_METHOD[method] == WITHOUT_GRADIENT:
        return GRADIENT_FREE_BUDGET[level]
    return round(SHARE_OF_LEVEL[level] * BUDGET_OF_METHOD[method])


def names(choices: tuple[Choice, ...]) -> tuple[str, ...]:
    """The stable names, in the order they are offered."""
    return tuple(choice.name for choice in choices)
