"""How long the choice and the search of a composition may take, and how much work fits into that."""

from django.conf import settings

from composer.core.spec.choices import PUBLISHED_BUDGET, SHARE_OF_LEVEL, level_of_budget
from composer.core.spec.job_spec import FittedWork
from composer.core.spec.training import LORA_SHARE, TUNED_SHARE, training_budget
from hub_site.accounts.models import User
from modules_registry.models import BaseModel

SEARCH_SHARE = 0.6  # of the deadline; a search that runs then ends with its best weights so far
LEAST_SEARCH_S = 180  # of a balanced job, on a base of up to so many parameters:
SMALL_BASE_PARAMETERS = 200_000_000
SEARCH_S_OF_PARAMETER = 1e-6  # and for each parameter beyond them, until HUB_COMPOSE_SEARCH_S is reached
FEWEST_CANDIDATES = PUBLISHED_BUDGET  # fewer find nothing; the deadline may still end such a search
LEAST_TRAINING_S = 600  # that trainings may take whatever the base: a baseline must be trained well
GUEST_DEADLINE_S = 300  # a guest's composition is quick by its estimate; this holds where that was wrong
SHORTEST_S = 1e-6  # a candidate takes longer; a clock may say 0
TRAININGS_SHARE = LORA_SHARE + TUNED_SHARE  # of the training budget, at most


def deadline_s(owner: User) -> int:
    """How long one composition of this owner may take, in whole seconds."""
    deadline: int = settings.HUB_COMPOSE_DEADLINE_S
    return min(deadline, GUEST_DEADLINE_S) if owner.is_guest else deadline


def search_limit_s(base: BaseModel, method: str, budget: int) -> float:
    """How long choice and search may take: what the level with this budget has, within the deadline.

    A budget that is no level's was asked for as such, so only the deadline bounds it.
    """
    most = SEARCH_SHARE * settings.HUB_COMPOSE_DEADLINE_S
    level = level_of_budget(budget, method)
    return min(most, SHARE_OF_LEVEL[level] * balanced_search_s(base)) if level else most


def balanced_search_s(base: BaseModel) -> float:
    """How long choice and search of a balanced job may take: longer for a larger base."""
    more = SEARCH_S_OF_PARAMETER * max(0, base.parameters - SMALL_BASE_PARAMETERS)
    return min(settings.HUB_COMPOSE_SEARCH_S, LEAST_SEARCH_S + more)


def work_that_fits(
    base: BaseModel, method: str, budget: int, *, candidate_s: float, taken_s: float = 0
) -> FittedWork:
    """How many candidates fit into the time of a composition, and how much training after them.

    Args:
        candidate_s: seconds that one candidate takes.
        taken_s: seconds that it has computed so far.
    """
    limit_s = search_limit_s(base, method, budget)
    candidate_s = max(candidate_s, SHORTEST_S)
    fitting = int((limit_s - taken_s) / candidate_s)
    trained = int(max(LEAST_TRAINING_S, limit_s) / candidate_s / TRAININGS_SHARE)
    return FittedWork(
        budget=min(budget, max(FEWEST_CANDIDATES, fitting)),
        training=min(training_budget(budget, method), max(1, trained)),
    )
