"""What the home page shows: measured figures, what is used most, and what others did lately."""

from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any

from composer.guests import visitors_may_compose
from composer.selectors import bases_counted, compositions_finished
from composer.share.showcase import PublishedShown, example_shown, published_lately
from composer.task.demo_tasks import offers_english
from hub_site.accounts.models import User
from modules_registry.catalog import modules_trending
from modules_registry.models import Module
from modules_registry.popularity import likes_lately

TRENDING_COUNT = 6
BASES_COUNT = 6
HELPED_COUNT = 3
DEEDS_COUNT = 6
PUBLISHED_READ = 20  # of these those that helped are shown


@dataclass(frozen=True)
class Deed:
    """Something that somebody did, as everybody may see it; publishing an upload is none."""

    at: datetime
    by: str
    does: str  # "composed" or "likes"
    module: Module
    n_modules: int = 0  # that it was composed from


def home_view(user: object) -> dict[str, Any]:
    """Everything that the home page shows, in at most ten queries."""
    bases = bases_counted()
    published = published_lately(PUBLISHED_READ)
    return {
        "example": example_shown(),
        "n_modules": sum(base.modules_count for base in bases),
        "n_bases": len(bases),
        "n_compositions": compositions_finished(),
        "bases": bases[:BASES_COUNT],
        "modules": modules_trending(TRENDING_COUNT),
        "helped": [it for it in published if it.helped and it.figure][:HELPED_COUNT],
        "lately": deeds_lately(published),
        "is_open_to_visitors": visitors_may_compose(),
        "english_is_offered": isinstance(user, User) and user.is_staff and offers_english(),
    }


def deeds_lately(published: list[PublishedShown]) -> list[Deed]:
    """What others did, the last first."""
    composed = (Deed(it.at, it.by, "composed", it.module, it.n_modules) for it in published)
    likes = (
        Deed(like.created_at, like.user.username, "likes", like.module) for like in likes_lately(DEEDS_COUNT)
    )
    newest_first = merge(composed, likes, key=lambda deed: deed.at, reverse=True)
    return list(islice(newest_first, DEEDS_COUNT))
