"""What the page of an owner says beside the list of modules: numbers, and what happened."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any

from django.db.models import Count, QuerySet, Sum

from hub_site.accounts.models import Namespace
from modules_registry.models import Like, Module, Version

ACTIVITY_MAX = 100  # in one answer
# Wide columns that no list of deeds shows.
UNREAD = ("description", "prompt_template", "not_composable", "repairs", "targets", "module__search_text")


@dataclass(frozen=True)
class Deed:
    """One thing that an owner did, as everybody may see it."""

    at: datetime
    action: str  # stable: "publish", "version", "like"
    module: Module
    version: Version | None = None  # that was published
    by: str = ""  # who published it


@dataclass(frozen=True)
class OwnerNumbers:
    modules: int
    downloads: int
    likes: int


def owner_numbers(namespace: Namespace, viewer: object) -> OwnerNumbers:
    """Of the published modules that the viewer may see."""
    visible = Module.objects.visible_to(viewer).published().filter(namespace=namespace)
    sums = visible.aggregate(modules=Count("pk"), downloads=Sum("downloads"), likes=Sum("likes"))
    return OwnerNumbers(sums["modules"], sums["downloads"] or 0, sums["likes"] or 0)


def activity_of(
    namespace: Namespace, viewer: object, *, count: int, before: datetime | None = None
) -> list[Deed]:
    """What an owner did, newest first, of what the viewer may see.

    An account: the versions it published, in organizations too, and its likes. An organization: the versions
    of its modules.

    Args:
        count: at most so many.
        before: only what happened earlier.
    """
    sources = [published(namespace, viewer, count, before)]
    if namespace.user_id is not None:
        sources.append(liked(namespace, viewer, count, before))
    newest_first = merge(*sources, key=lambda deed: deed.at, reverse=True)
    return list(islice(newest_first, count))


def published(namespace: Namespace, viewer: object, count: int, before: datetime | None) -> Iterator[Deed]:
    of_owner = {"author": namespace.user_id} if namespace.user_id else {"module__namespace": namespace}
    versions = Version.objects.filter(
        **of_owner, number__isnull=False, module__in=Module.objects.visible_to(viewer)
    )
    rows = earlier(versions, before).select_related("module__namespace", "author").defer(*UNREAD)
    for version in rows[:count]:
        action = "publish" if version.number == 1 else "version"
        yield Deed(version.created_at, action, version.module, version, version.author.username)


def liked(namespace: Namespace, viewer: object, count: int, before: datetime | None) -> Iterator[Deed]:
    visible = Module.objects.visible_to(viewer).published()
    likes = earlier(Like.objects.filter(user=namespace.user_id, module__in=visible), before)
    for like in likes.select_related("module__namespace").defer("module__search_text")[:count]:
        yield Deed(like.created_at, "like", like.module)


def earlier(rows: QuerySet[Any], before: datetime | None) -> QuerySet[Any]:
    ordered = rows.order_by("-created_at", "-pk")
    return ordered.filter(created_at__lt=before) if before else ordered
