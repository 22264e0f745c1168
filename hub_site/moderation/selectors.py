"""What waits for staff, thing by thing: reads only."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet
from django.urls import reverse

from composer.models import Composition
from hub_site.accounts.models import User
from hub_site.accounts.selectors import people_of
from hub_site.audit.models import AuditEntry
from hub_site.audit.selectors import row_name
from hub_site.moderation.models import Report, ReportQuerySet
from modules_registry.models import Hold, Module, Version

KINDS = ("module", "composition")
MODULE_DECISIONS = {
    "dismiss": "Dismiss the reports",
    "quarantine": "Put it in quarantine",
    "release": "Release it",
    "takedown": "Take it down",
}
COMPOSITION_DECISIONS = {
    "dismiss": "Dismiss the reports",
    "block": "Block its link",
    "unblock": "Unblock its link",
}
ACCOUNT_DECISIONS = {"suspend": "Suspend the account", "restore": "End the suspension"}
NEEDS_REASON = frozenset({"quarantine", "takedown", "block", "suspend"})  # its owner is told
SAME_WEIGHTS_SHOWN = 100
AUDIT_SHOWN = 50  # newest entries about one thing


@dataclass(frozen=True)
class Thing:
    """What reports are about: a module, or a composition that is shared by a private link."""

    row: Module | Composition

    @property
    def kind(self) -> str:
        return "module" if isinstance(self.row, Module) else "composition"

    @property
    def key(self) -> str:
        return str(self.row.pk)

    @property
    def name(self) -> str:
        """What staff call it; a composition's own name is private."""
        return self.row.full_name if isinstance(self.row, Module) else f"shared report {self.key[:8]}"

    @property
    def url(self) -> str:
        """Where it can be looked at; empty where staff may not."""
        if isinstance(self.row, Module):
            return "" if self.row.private or self.row.deleted_at else self.row.get_absolute_url()
        link = getattr(self.row, "share", None)
        return link.get_absolute_url() if link is not None and not self.row.sharing_blocked else ""

    @property
    def state(self) -> str:
        """“held”, “taken down”, “blocked”, or empty."""
        if isinstance(self.row, Module):
            return Hold(self.row.hold).label if self.row.hold else ""
        return "Blocked" if self.row.sharing_blocked else ""

    @property
    def reason(self) -> str:
        return self.row.hold_reason if isinstance(self.row, Module) else self.row.sharing_blocked

    @property
    def owner(self) -> str:
        return self.row.namespace.name if isinstance(self.row, Module) else self.row.owner.username

    @property
    def decisions(self) -> dict[str, str]:
        """What can be decided about it as it stands."""
        if isinstance(self.row, Composition):
            left_out = "block" if self.row.sharing_blocked else "unblock"
            return {code: said for code, said in COMPOSITION_DECISIONS.items() if code != left_out}
        impossible = {
            "": {"release"},
            Hold.QUARANTINE: {"quarantine"},
            Hold.TAKEDOWN: {"quarantine", "release", "takedown"},
        }[self.row.hold]
        return {code: said for code, said in MODULE_DECISIONS.items() if code not in impossible}

    @property
    def same_weights(self) -> list["Thing"]:
        """Other modules that have these weights in any version: staff decide about each.

        The versions of a module that was taken down keep the hash of their weights, not the files.
        """
        if isinstance(self.row, Composition):
            return []
        weights = self.row.versions.exclude(weights_sha256="").values("weights_sha256")
        same = Version.objects.filter(weights_sha256__in=weights).values("module")
        others = Module.objects.existing().filter(pk__in=same).exclude(pk=self.row.pk)
        others = others.select_related("namespace__user").order_by("pk")
        return [Thing(module) for module in others[:SAME_WEIGHTS_SHOWN]]

    @property
    def page_of_owner(self) -> str:
        """Where its owner reads what was decided."""
        return self.row.get_absolute_url()

    @property
    def page(self) -> str:
        return reverse("moderation:thing", args=[self.kind, self.key])


@dataclass(frozen=True)
class Case:
    """A thing with all that was told about it and not yet decided."""

    thing: Thing
    reports: tuple[Report, ...]

    @property
    def first_at(self) -> datetime:
        return self.reports[0].created_at

    @property
    def reasons(self) -> list[str]:
        return list(dict.fromkeys(Report.Reason(report.reason).label for report in self.reports))


def reports_read() -> ReportQuerySet:
    related = ("module__namespace__user", "composition__owner", "composition__share", "reporter")
    return Report.objects.select_related(*related).defer("composition__report")


def cases_waiting() -> list[Case]:
    """The queue: the thing with most reports first, then the one that waits longest."""
    by_thing: dict[tuple[int | None, UUID | None], list[Report]] = {}
    for report in reports_read().waiting().order_by("created_at"):
        by_thing.setdefault((report.module_id, report.composition_id), []).append(report)
    cases = [Case(thing_of(reports[0]), tuple(reports)) for reports in by_thing.values()]
    return sorted(cases, key=lambda case: (-len(case.reports), case.first_at))


def thing_of(report: Report) -> Thing:
    row = report.module or report.composition
    assert row is not None  # the table promises it
    return Thing(row)


def thing_find(kind: str, key: str) -> Thing | None:
    """The thing of a kind by its row's key; None for anything that is none."""
    if kind == "module" and key.isascii() and key.isdecimal() and len(key) < 19:
        module = Module.objects.select_related("namespace__user").filter(pk=int(key)).first()
        return Thing(module) if module else None
    if kind == "composition":
        try:
            pk = UUID(key)
        except ValueError:
            return None
        composition = Composition.objects.select_related("owner", "share").filter(pk=pk).first()
        return Thing(composition) if composition else None
    return None


def reports_about(thing: Thing) -> ReportQuerySet:
    about = {"module": thing.row} if isinstance(thing.row, Module) else {"composition": thing.row}
    return reports_read().filter(**about)


def things_held() -> list[Thing]:
    """All that staff hold now: modules, then links."""
    modules = Module.objects.existing().exclude(hold="").select_related("namespace").order_by("-held_at")
    blocked = Composition.objects.exclude(sharing_blocked="").select_related("owner", "share").defer("report")
    return [*map(Thing, modules), *map(Thing, blocked)]


def accounts_suspended() -> QuerySet[User]:
    return User.objects.filter(suspended_at__isnull=False).order_by("-suspended_at")


def account_find(name: str) -> User | None:
    return User.objects.filter(username__iexact=name, deleted_at=None).select_related("namespace").first()


def account_decisions(account: User) -> dict[str, str]:
    left_out = "suspend" if account.suspended_at else "restore"
    return {code: said for code, said in ACCOUNT_DECISIONS.items() if code != left_out}


def entries_about(row: Module | Composition | User) -> Iterable[AuditEntry]:
    """What the audit has about a thing, newest first."""
    entries = AuditEntry.objects.filter(thing=row_name(row)).select_related("actor")
    return entries.order_by("-at", "-pk")[:AUDIT_SHOWN]


def people_to_tell(thing: Thing) -> list[User]:
    """Whose it is: of an organization, those who administer it."""
    return [thing.row.owner] if isinstance(thing.row, Composition) else people_of(thing.row.namespace)
