"""Likes, downloads by day, and the order “trending”: what they are, counted here alone.

A module's `trending` is log2 of the sum of what happened to it, where everything counts half as much for
each week that has passed since: a download 1, a like `LIKE_IN_DOWNLOADS`, and that it was made 1. In weeks
since 1970 (t), with n downloads:

    trending = log2(2^t_made + Σ_days n · 2^t_day + LIKE_IN_DOWNLOADS · Σ_likes 2^t_like)

All sums halve at the same pace, so that the order of two modules changes only when something happens to one
of them, and nothing has to be counted anew as time passes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from hub_site.accounts.models import User
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal
from modules_registry.models import DownloadDay, Like, Module, Version, VersionDownload

WEEKS_SHOWN = 26
LIKES_LISTED_MAX = 1000  # in one answer
LIKE_IN_DOWNLOADS = 5  # likes are rarer, and each is an account's own decision

# 2^t overflows, so that every term is 2^(t - now); below 2^-1000 it is nothing, and PostgreSQL would refuse.
RECOUNT = """
UPDATE modules_registry_module AS module
SET likes = (SELECT count(*) FROM modules_registry_like AS liked WHERE liked.module_id = module.id),
    trending = now.week + ln(
        power(2::float8, greatest(extract(epoch FROM module.created_at)::float8 / 604800 - now.week, -1000))
        + coalesce((
            SELECT sum(counted.downloads * power(
                2::float8, greatest(extract(epoch FROM counted.day)::float8 / 604800 - now.week, -1000)))
            FROM modules_registry_downloadday AS counted WHERE counted.module_id = module.id), 0)
        + %(like)s * coalesce((
            SELECT sum(power(
                2::float8, greatest(extract(epoch FROM liked.created_at)::float8 / 604800 - now.week, -1000)))
            FROM modules_registry_like AS liked WHERE liked.module_id = module.id), 0)
    ) / ln(2::float8)
FROM (SELECT extract(epoch FROM statement_timestamp())::float8 / 604800 AS week) AS now
WHERE module.id = ANY(%(modules)s)
"""


def recount(modules: Iterable[int]) -> None:
    """Set `likes` and `trending` of these modules, by id, from the rows they stand for."""
    with connection.cursor() as cursor:
        cursor.execute(RECOUNT, {"like": LIKE_IN_DOWNLOADS, "modules": list(modules)})


@transaction.atomic
def download_count(*, version: Version, client: str) -> None:
    """Count a download once per version, day and client. The client is kept as a keyed hash, for a day."""
    today = database_now().date()
    client_hash = salted_hmac("download", f"{today} {client}", algorithm="sha256").hexdigest()
    of_version = VersionDownload.objects.filter(version=version)
    _, is_first = of_version.get_or_create(version=version, day=today, client=client_hash)
    if is_first:
        Module.objects.filter(pk=version.module_id).update(downloads=F("downloads") + 1)
        DownloadDay.objects.get_or_create(module_id=version.module_id, day=today)
        DownloadDay.objects.filter(module=version.module_id, day=today).update(downloads=F("downloads") + 1)
        recount([version.module_id])
        of_version.filter(day__lt=today).delete()


@transaction.atomic
def module_like(*, user: User, module: Module) -> Module:
    """Like a module; once per account, however often it is asked for.

    Raises:
        Refusal: it is a draft, which has nothing to like yet; 409.
    """
    row = locked(module)
    if row.current_id is None:
        raise Refusal("is_draft", "This module is not published yet, so it cannot be liked.", status=409)
    Like.objects.get_or_create(user=user, module=row)
    return recounted(row)


@transaction.atomic
def module_unlike(*, user: User, module: Module) -> Module:
    """Take a like back; without one nothing changes."""
    row = locked(module)
    Like.objects.filter(user=user, module=row).delete()
    return recounted(row)


def likes_delete(*, user: User) -> None:
    """Take back all likes of an account that is deleted."""
    liked = sorted(Like.objects.filter(user=user).values_list("module", flat=True))
    list(Module.objects.select_for_update().filter(pk__in=liked).order_by("pk").values_list("pk"))
    Like.objects.filter(user=user).delete()
    recount(liked)


def is_liked(module: Module, user: object) -> bool:
    """Whether this visitor likes it; nobody's answer is no."""
    return isinstance(user, User) and Like.objects.filter(module=module, user=user).exists()


def likers_of(module: Module) -> QuerySet[Like]:
    """Who likes a module, the newest first."""
    active = Like.objects.filter(module=module, user__is_active=True)
    return active.select_related("user").order_by("-created_at")[:LIKES_LISTED_MAX]


def likes_of(user: User, viewer: object) -> QuerySet[Like]:
    """What an account likes, of what the viewer may see: the newest first."""
    visible = Like.objects.filter(user=user, module__in=Module.objects.visible_to(viewer).published())
    return visible.select_related("module__namespace").order_by("-created_at")[:LIKES_LISTED_MAX]


def likes_lately(count: int) -> QuerySet[Like]:
    """The last likes, of modules that everybody may see; not of the module's own owner."""
    visible = Module.objects.visible_to(None).published()
    likes = Like.objects.filter(user__is_active=True, module__in=visible)
    of_others = likes.exclude(module__namespace__user=F("user"))
    newest = of_others.select_related("user", "module__namespace").order_by("-pk")  # as they were made
    return newest.defer(*(f"module__{name}" for name in Module.WIDE_COLUMNS))[:count]


def download_days(module: Module) -> QuerySet[DownloadDay]:
    """The days with downloads, newest first."""
    return DownloadDay.objects.filter(module=module).order_by("-day")


@dataclass(frozen=True)
class DownloadWeek:
    """The downloads of one week, and how a chart draws them."""

    begins: date
    downloads: int
    x: float  # percent of the chart's width
    width: float
    height: float  # percent of the fullest week


def downloads_by_week(module: Module) -> list[DownloadWeek]:
    """The last WEEKS_SHOWN weeks, oldest first; none where nobody downloaded it in them."""
    recent = download_days(module).filter(day__gt=Now() - timedelta(weeks=WEEKS_SHOWN))
    rows = list(recent.values_list("day", "downloads", Now()))
    if not rows:
        return []
    today = rows[0][2].date()
    first = today - timedelta(days=today.weekday(), weeks=WEEKS_SHOWN - 1)
    counts = [0] * WEEKS_SHOWN
    for day, downloads, _ in rows:
        if day >= first:
            counts[(day - first).days // 7] += downloads
    most = max(1, *counts)
    width = 100 / WEEKS_SHOWN
    return [
        DownloadWeek(
            begins=first + timedelta(weeks=week),
            downloads=count,
            x=round(week * width, 3),
            width=round(width * 0.8, 3),
            height=round(100 * count / most, 2),
        )
        for week, count in enumerate(counts)
    ]


def locked(module: Module) -> Module:
    return Module.objects.select_for_update().get(pk=module.pk)


def recounted(module: Module) -> Module:
    recount([module.pk])
    module.refresh_from_db(fields=["likes", "trending"])
    return module
