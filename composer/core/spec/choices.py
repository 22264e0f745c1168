"""The options of a composition: methods, searches, selectors, objectives, baselines and limits.

Every option has a stable name, one line of text and its source. Forms, services and the core read
them from here. The module imports the standard library only, so reading it does not load torch. It
lists only options that work.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from composer.core.spec.templates import AUTO


@dataclass(frozen=True)
class Choice:
    """One option.

    Attributes:
        name: the stable name in job.json, in the API and on the command line.
        line: one sentence for the reader.
        source: the paper, package or measurement that the option comes from.
    """

    name: str
    line: str
    source: str


@dataclass(frozen=True)
class Baseline:
    """One baseline that a composition is compared with.

    Attributes:
        key: the stable name in reports and events.
        label: the name in a table.
        in_words: the name within a sentence.
        repeats_search: its weights are found by the composition's own search, run once more.
        is_composition: it is made of the same modules; the composition must only not be behind it.
        keeps_adapter: it can be downloaded; its files are in baselines/KEY beside the adapter.
    """

    key: str
    label: str
    in_words: str
    repeats_search: bool = False
    is_composition: bool = False
    keeps_adapter: bool = False


def as_list(parts: Sequence[str]) -> str:
    """Join the parts as words, such as `a, b and c`."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def as_sentence(names: Sequence[str]) -> str:
    """Join at least two names to one sentence, such as `The first, the second, and the third.`"""
    *first, last = names
    text = f"{', '.join(first)}, and {last}."
    return text[0].upper() + text[1:]


# LoraHub as released: Huang et al., arXiv:2307.13269, and the code published with it.
PUBLISHED_BUDGET = 40  # scored candidates, as in LoraHub's own example
LORAHUB_PENALTY = 0.05  # nats per unit of mean|w|, as in LoraHub's code; the paper (eq. 2) has the sum of |w|

METHODS = (
    Choice(
        "auto",
        "Measured best: an exact sum; weights by Gauss-Newton, then one per layer.",
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
        "As exact, with a weight for each module in every layer: more flexible, and overfits more easily.",
        "Prabhakar et al., LoRA Soups, arXiv:2410.13025, without the softmax",
    ),
    Choice(
        "svd",
        "As exact, then cut to the modules' own rank by an SVD.",
        "peft, add_weighted_adapter(combination_type='svd')",
    ),
    Choice(
        "ties_svd",
        "TIES on whole updates: keep each one's largest fifth, resolve signs by vote, cut to the rank.",
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
        "Keep each module's largest fifth, resolve signs by vote factor by factor; then as linear.",
        "Yadav et al., TIES-Merging, arXiv:2306.01708, factor by factor as in peft",
    ),
    Choice(
        "dare_linear",
        "Half of the values dropped at random, the rest doubled; then as linear.",
        "Yu et al., DARE, arXiv:2311.03099, factor by factor as in peft",
    ),
    Choice(
        "dare_ties",
        "Half of the values dropped at random, signs resolved by vote; then as linear.",
        "Yu et al., DARE, arXiv:2311.03099, factor by factor as in peft",
    ),
)

SEARCHES = (
    Choice(
        "auto",
        "Measured best for the method: Gauss-Newton, one gradient fit, or NGOpt.",
        "benchmarks/results/compose_quality.md",
    ),
    Choice(
        "gauss-newton",
        "Fits on a linear map of the logits, made from candidates alone; each fit leaves a part of the "
        "examples out.",
        "Levenberg, Quarterly of Applied Mathematics 2, 1944; docs/decisions/0021",
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
        "As adam, with no weight below zero: no module is subtracted.",
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
        f"The gradient-free search LoraHub uses; at a budget of {PUBLISHED_BUDGET} it runs COBYLA.",
        "Bennet, Doerr et al., Nevergrad, SIGEVOlution 14(1), 2021",
    ),
    Choice(
        "cma",
        "CMA-ES: a population of candidates whose spread follows the loss; worth it from a budget of 200.",
        "Hansen and Ostermeier, Evolutionary Computation 9(2), 2001",
    ),
)
NEVERGRAD = "nevergrad:"  # prefix of a search that names one of nevergrad's own optimizers
NEVERGRAD_NAME = re.compile(r"\A\w{1,60}\Z", re.ASCII)  # of one of them; only nevergrad knows it exists
ANY_OF_NEVERGRAD = Choice(
    f"{NEVERGRAD}NAME",
    "Any optimizer that nevergrad registers, by its name there, such as nevergrad:OnePlusOne.",
    "nevergrad.optimizers.registry",
)
OPTIMIZER_OF_SEARCH = {"auto": "NGOpt", "ngopt": "NGOpt", "cma": "CMA"}  # nevergrad's names
GRADIENT_SEARCHES = ("adam", "adam-sparse", "adam-positive", "lbfgs")

# They follow the logits or the gradient of the loss, so they have no other objective.
LOSS_SEARCHES = ("gauss-newton", *GRADIENT_SEARCHES)

WITHOUT_GRADIENT = ("auto", "greedy", "ngopt", "cma")
ALL_SEARCHES = tuple(search.name for search in SEARCHES)
# If the request names a search, the method auto becomes exact.
# lorahub's gradient is zero at w = 0, where a search starts. The rules of the factorwise methods have no
# useful gradient. Both therefore get searches without a gradient only. A softmax cannot give a coefficient
# of exactly zero or below zero, so cat has neither adam-sparse nor adam-positive. gauss-newton needs one
# weight per module, of which the deltas are a linear function.
SEARCHES_OF_METHOD = {
    "auto": ALL_SEARCHES,
    "exact": ALL_SEARCHES,
    "cat": ("auto", "adam", "lbfgs", "ngopt", "cma"),
    "cat-layers": ("auto", "adam", "adam-sparse", "adam-positive", "lbfgs", "ngopt", "cma"),
    "svd": ALL_SEARCHES,
    "ties_svd": tuple(search for search in ALL_SEARCHES if search != "gauss-newton"),
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
        "The K modules whose text is most similar to the task's; after screen:K, whose update is most "
        "similar to the best module's.",
        "iLoraComp, Findings of EMNLP 2024, 326; ranks joined as in Cormack et al., SIGIR 2009",
    ),
)

OBJECTIVES = (
    Choice(
        "loss",
        f"Cross entropy on the examples plus {LORAHUB_PENALTY:g} times the mean size of the weights.",
        "Huang et al., LoraHub, arXiv:2307.13269, eq. 2",
    ),
    Choice(
        "exact_match",
        "The error rate on the examples, ties decided by the loss. For searches without a gradient.",
        "strict exact match of greedy answers",
    ),
)

PRECISIONS = (
    Choice("auto", "bf16 where the base is large and bf16 measured faster, else fp32.", "measured"),
    Choice("fp32", "32-bit floating point throughout.", "IEEE 754"),
    Choice("bf16", "Matrix products in 16-bit brain floating point; the rest in fp32.", "arXiv:1905.12322"),
)

DEVICES = (
    Choice("auto", "The GPU if there is one, else the CPU.", "torch.cuda.is_available"),
    Choice("cpu", "The CPU.", "torch"),
    Choice("cuda", "The GPU.", "torch"),
)

USUAL_BASELINES = (
    Baseline("zero_shot", "Base alone", "the base alone"),
    Baseline("best_single", "Best single module", "the best single module"),
    Baseline("uniform", "Uniform average", "the uniform average", is_composition=True),
    Baseline("in_context", "Examples in the prompt", "the examples in the prompt"),
    Baseline(
        "composed_in_context",
        "Composition with the examples in its prompt",
        "the composition with the examples in its own prompt",
        is_composition=True,
    ),
    Baseline(
        "lora_on_shots",
        "LoRA trained on the examples",
        "a LoRA trained on the examples",
        keeps_adapter=True,
    ),
    Baseline(
        "tuned",
        "Composed, then tuned",
        "the composition tuned on the examples",
        is_composition=True,
        keeps_adapter=True,
    ),
)
SEARCHED_BASELINES = (
    Baseline(
        "random_loras",
        "Random modules, same search",
        "random LoRAs of the same size through the same search",
        repeats_search=True,
    ),
    Baseline("lorahub", "LoraHub as published", "LoraHub as published"),
)
LABEL_OF_BASELINE = {baseline.key: baseline.label for baseline in (*USUAL_BASELINES, *SEARCHED_BASELINES)}
KEPT_ADAPTERS = tuple(baseline.key for baseline in USUAL_BASELINES if baseline.keeps_adapter)
ADAPTERS_FOLDER = "baselines"  # in the folder of the result; their adapters lie in it, each in one of its own
LORA_ALPHA_OVER_RANK = 2.0  # alpha / r, as in most published modules

BASELINES = (
    Choice(
        "always",
        as_sentence([baseline.in_words for baseline in USUAL_BASELINES]),
        "benchmarks/results/compose_quality.md",
    ),
    Choice(
        "thorough",
        f"These, {', '.join(f'and {baseline.in_words}' for baseline in SEARCHED_BASELINES)}.",
        "arXiv:2602.12323 for the random ones; Huang et al., arXiv:2307.13269",
    ),
    Choice("none", "No comparison, only the composition.", "no measurement is made"),
)

# The baselines of each choice, in the order of measuring. The last one, LoraHub as published, is left out
# where the composition itself is by the method lorahub.
BASELINES_OF_CHOICE: dict[str, tuple[Baseline, ...]] = {
    "always": USUAL_BASELINES,
    "thorough": (*USUAL_BASELINES, *SEARCHED_BASELINES),
    "none": (),
}

# The search efforts that the form and the API offer instead of a budget. The core itself does not read them.
LEVELS = (
    Choice("quick", "A first look: 200 candidates.", "composer.core.spec.choices.level_budget"),
    Choice(
        "balanced",
        "The default: 400 candidates.",
        "benchmarks/results/compose_quality.md",
    ),
    Choice(
        "thorough",
        "1,000 candidates, and two more baselines: random modules and LoraHub.",
        "arXiv:2602.12323; Huang et al., arXiv:2307.13269",
    ),
)
DEFAULT_LEVEL = "balanced"
BASELINES_OF_LEVEL = {"quick": "always", "balanced": "always", "thorough": "thorough"}

DEFAULT_METHOD = "auto"
DEFAULT_SEED = 42
DEFAULT_TEMPLATE = AUTO  # then composer.core.spec.templates.choose_template decides
DEFAULT_MAX_NEW_TOKENS = 256  # as the LoraHub reference generates
MAX_NEW_TOKENS_LIMIT = 1024

# In scored candidates: a forward pass costs 1, a gradient step 3, as a backward pass costs about two more.
GRADIENT_STEP_COST = 3
ADAM_STEPS = 150  # of one fit, of L-BFGS too; more steps only overfit the examples
# The search that "auto" stands for; ngopt for a method that is not a key here.
SEARCH_OF_AUTO = {
    "auto": "gauss-newton",
    "exact": "gauss-newton",
    "svd": "gauss-newton",
    "cat": "adam",
    "cat-layers": "adam",
    "ties_svd": "adam",
}
# Methods that sum whole deltas. The others sum A with A and B with B, so their modules must agree in rank
# and target modules.
TAKES_ANY_SHAPE = frozenset({"auto", "exact", "cat", "cat-layers", "svd", "ties_svd"})

# As released, LoraHub gives each module a weight, copies too; all other methods take copies once.
TAKES_COPIES = frozenset({"lorahub"})

# In scored candidates. Measured to be enough; without a gradient it is the budget of LoraHub's own example.
BUDGET_OF_METHOD = {
    "auto": 400,
    "exact": 200,
    "svd": 200,
    "cat": 450,
    "cat-layers": 450,
    "ties_svd": 450,
} | {name: PUBLISHED_BUDGET for name, searches in SEARCHES_OF_METHOD.items() if searches == WITHOUT_GRADIENT}
BUDGET_LIMIT = 10_000
SHARE_OF_LEVEL = {
    "quick": 0.5,
    "balanced": 1.0,
    "thorough": 2.5,
}  # share of the method's budget in BUDGET_OF_METHOD
# Where modules are removed, the others are fitted again after a search of so many candidates; a smaller one
# gains more from as many candidates of its own.
BUDGET_TO_REFIT = 300
GRADIENT_FREE_BUDGET = {  # in scored candidates; a smaller budget would only probe one module after another
    "quick": PUBLISHED_BUDGET,
    "balanced": PUBLISHED_BUDGET,
    "thorough": 200,
}

WEIGHT_BOUND = 1.5  # every weight stays within ±1.5, as in LoraHub's code
SMALL_RANK = "auto"  # the request for an adapter without needless modules, layers and ranks; the default
FULL_RANK = "full"  # the request for the whole composition, as the search found it
RANK_LIMIT = 1024  # largest rank of a module, and of an adapter that is cut to a rank
EXAMPLES_LIMIT = 64  # most examples that a search may read; few-shot means few
HELD_OUT_LIMIT = 2000
ANSWERS_OF_FOUND = 10  # modules that answer, of those that a search by examples finds
TEXT_LIMIT = 20_000  # characters of a module's text and of a task's sentence


def level_budget(level: str, method: str) -> int:
    """Return the budget of a search effort for a method, in scored candidates.

    Args:
        level: a name in LEVELS.
        method: a name in METHODS.

    Raises:
        KeyError: the level or the method is unknown.
    """
    if SEARCHES_OF_METHOD[method] == WITHOUT_GRADIENT:
        return GRADIENT_FREE_BUDGET[level]
    return round(SHARE_OF_LEVEL[level] * BUDGET_OF_METHOD[method])


def level_of_budget(budget: int, method: str) -> str | None:
    """Return the search effort that has this budget for a method; None if it was asked for as a number."""
    return next((level for level in SHARE_OF_LEVEL if level_budget(level, method) == budget), None)


def has_search(method: str, search: str) -> bool:
    """Return whether a request may ask for this search: one of the method's, or `nevergrad:` and a name.

    Only nevergrad knows whether the name exists.
    """
    _, prefix, name = search.rpartition(NEVERGRAD)
    return search in SEARCHES_OF_METHOD[method] or bool(prefix and NEVERGRAD_NAME.match(name))


def search_of(method: str, search: str) -> str:
    """Return the name of the search that runs: one of SEARCHES but "auto", or `nevergrad:` and a name."""
    return SEARCH_OF_AUTO.get(method, "ngopt") if search == "auto" else search


def most_scored(search: str, budget: int) -> int:
    """Return the most candidates that a search scores with this budget.

    Args:
        search: as `search_of` returns it.
    """
    return min(budget, GRADIENT_STEP_COST * ADAM_STEPS) if search in GRADIENT_SEARCHES else budget


def choice_names(choices: tuple[Choice, ...]) -> tuple[str, ...]:
    """Return the stable names of the choices, in the order of the choices."""
    return tuple(choice.name for choice in choices)
