"""Reading imports and what became of their repositories. Reads only."""

from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Q, QuerySet

from hub_site.accounts.models import User
from hub_site.common.clock import database_now
from hub_site.common.quotas import Quota
from hub_site.jobs.models import FINISHED, LEASE, Status
from modules_registry.importing.models import ImportItem, ModuleImport

State = ImportItem.State
PICKED_UP_S = 4  # a free worker takes an import well within this


@dataclass(frozen=True)
class Counts:
    """How many repositories of an import stand how."""

    waiting: int
    imported: int
    unchanged: int
    refused: int

    @property
    def total(self) -> int:
        return self.waiting + self.settled

    @property
    def settled(self) -> int:
        return self.imported + self.unchanged + self.refused

    @property
    def left(self) -> int:
        """What another import may try."""
        return self.waiting + self.refused


def imports_of(owner: User) -> QuerySet[ModuleImport]:
    """The owner's imports, newest first, each with n_… for every state of its repositories."""
    counted = {f"n_{state}": Count("items", filter=Q(items__state=state)) for state in State.values}
    rows: QuerySet[ModuleImport] = (
        ModuleImport.objects.filter(owner=owner)
        .select_related("namespace")
        .annotate(**counted)
        .order_by("-created_at")
    )
    return rows


def import_find(owner: User, import_id: UUID) -> ModuleImport | None:
    """The owner's import; a stranger's does not exist."""
    return imports_of(owner).filter(pk=import_id).first()


def counts_of(job: ModuleImport) -> Counts:
    """Of an import that imports_of has read."""
    return Counts(**{state: getattr(job, f"n_{state}") for state in State.values})


def items_of(job: ModuleImport, state: str = "") -> QuerySet[ImportItem]:
    items = job.items.select_related("version__origin", "version__module__namespace")
    return items.filter(state=state) if state in State.values else items


def item_next(job: ModuleImport) -> ImportItem | None:
    """The one that is being brought in, or will be next."""
    return job.items.filter(state=State.WAITING).first()


def sources_left(job: ModuleImport) -> list[str]:
    """What did not come in, as it can be asked for again."""
    if not job.is_listed:
        return list(job.sources)
    left = job.items.filter(state__in=(State.REFUSED, State.WAITING))
    return [item.source for item in left]


def unfinished_count(owner: User) -> int:
    return ModuleImport.objects.filter(owner=owner).exclude(status__in=FINISHED).count()


def quiet_seconds(job: ModuleImport) -> int:
    """How long nobody has worked on an unfinished import; 0 while that is no wonder."""
    since = job.created_at
    if job.status == Status.RUNNING and job.lease_until:
        since = job.lease_until - LEASE  # its worker's last beat
    seconds = int((database_now() - since).total_seconds())
    return seconds if seconds > PICKED_UP_S else 0


def import_quota(user: User) -> Quota:
    return Quota(
        "imports",
        "Imports waiting or running",
        unfinished_count(user),
        settings.HUB_IMPORTS_UNFINISHED_MAX,
    )
