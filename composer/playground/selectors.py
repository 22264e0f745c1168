"""What can be tried and by whom, and how a question stands. Reads only."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet, prefetch_related_objects
from django.db.models.functions import Now
from django.urls import reverse

from composer.core.spec.templates import AUTO
from composer.matching.templates import composition_template, site_template
from composer.models import Composition, Example
from composer.playground.models import SILENT_AFTER, TryOut, TryOutQuerySet
from composer.selectors import composition_find, result_files, withheld_because
from hub_site.accounts.models import User
from hub_site.common.clock import database_now
from hub_site.common.quotas import Quota
from hub_site.jobs.models import Status
from modules_registry import selectors as registry
from modules_registry.comparison import COMPARED_MAX, COMPARED_MIN
from modules_registry.core.cards import Card
from modules_registry.models import BaseModel, Version

MINUTE = timedelta(minutes=1)
EXAMPLES_MAX = 4
EXAMPLE_CHARACTERS_MAX = 400  # longer ones make no button
PICKED_UP = timedelta(seconds=5)  # a free worker takes a question well within this
MOST_ARE_ANSWERED_IN = timedelta(seconds=8)
NOT_PICKED_UP = (
    "Nobody has picked your question up yet: the worker that answers seems to be away. "
    "It is kept for two minutes and answered when the worker is back."
)
UUID_TEXT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TABLE_LINE = re.compile(r"^\s*\|(?P<first>[^|]*)\|(?P<second>[^|]*)\|\s*$")


@dataclass(frozen=True)
class Requester:
    """Who asks: an account, or a browser without one."""

    user: User | None
    session_hash: str = ""
    address_hash: str = ""


@dataclass(frozen=True)
class Target:
    """What can be tried: an adapter, the base it is for, and how its prompts are made.

    `examples` maps inputs that suit it to the outputs they should have, where these are known.
    `cannot`: why it answers nothing here; empty when it does.
    """

    name: str
    base: BaseModel | None
    template: str
    version: Version | None = None
    composition: Composition | None = None
    cannot: str = ""
    examples: Mapping[str, str] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """Where it is described."""
        if self.composition is not None:
            return self.composition.get_absolute_url()
        assert self.version is not None  # one of the two is there
        return self.version.module.get_absolute_url()

    @property
    def address(self) -> str:
        """Where it is asked."""
        if self.composition is not None:
            return reverse("trying:composition", args=[self.composition.pk])
        assert self.version is not None  # one of the two is there
        module = self.version.module
        return reverse("trying:version", args=[module.namespace.name, module.name, self.version.revision])


def target_module(namespace: str, name: str, viewer: object, revision: str = registry.MAIN) -> Target | None:
    """A version of a module, for someone who may see it."""
    module = registry.module_find(namespace, name, viewer)
    version = registry.version_find(module, revision) if module else None
    if version is None or not version.is_complete:
        return None
    return target_of_version(version)


def target_of_version(version: Version) -> Target:
    stated = {version.module.full_name: version.prompt_template}
    return Target(
        name=version.module.full_name,
        base=version.base,
        template=site_template(version.base, AUTO, stated).template if version.base else AUTO,
        version=version,
        cannot=registry.not_composable_because(version),
        examples=examples_of_card(registry.card_of(version)),
    )


def targets_compared(names: Sequence[str], viewer: object) -> list[Target] | None:
    """Two to four modules, each once, for someone who may see them all; None: these are not."""
    wanted = list(dict.fromkeys(name.strip() for name in names))
    if not COMPARED_MIN <= len(wanted) <= COMPARED_MAX:
        return None
    found = registry.current_versions(wanted, viewer)
    versions = list(dict.fromkeys(found.values()))
    if len(found) < len(wanted) or len(versions) < COMPARED_MIN:
        return None
    prefetch_related_objects(versions, "files")
    return [target_of_version(found[name]) for name in wanted]


def not_comparable_because(targets: Sequence[Target]) -> str:
    """Why these are not asked together, as a sentence; empty when they are."""
    cannot = [f"{target.name} cannot answer here. {target.cannot}" for target in targets if target.cannot]
    if cannot:
        return " ".join(cannot)
    if len({target.base for target in targets}) > 1:
        bases = ", ".join(f"{target.name} for {target.base}" for target in targets)
        return f"They are for different base models: {bases}. Only modules of one base are asked together."
    return ""


def target_composition(owner: object, composition_id: UUID) -> Target | None:
    """A composition of this owner's that has an adapter."""
    composition = composition_find(owner, composition_id) if isinstance(owner, User) else None
    return target_of_composition(composition) if composition and composition.has_adapter else None


def target_of_composition(composition: Composition) -> Target:
    # What it was measured on says more than what it was made from.
    held_out = composition.examples.filter(role=Example.Role.HELD_OUT)
    rows = held_out[:EXAMPLES_MAX] or composition.examples.all()[:EXAMPLES_MAX]
    withheld = withheld_because(composition)
    return Target(
        name=composition.name,
        base=None if withheld else composition.base,
        cannot=withheld,
        template=composition_template(composition),
        composition=composition,
        examples={row.input: row.output for row in rows if is_short(row.input)},
    )


def target_of(tryout: TryOut) -> Target:
    if tryout.version is not None:
        return target_of_version(tryout.version)
    assert tryout.composition is not None  # the table promises it
    return target_of_composition(tryout.composition)


def examples_of_card(card: Card) -> dict[str, str]:
    """Inputs that the card shows: its `widget`, as Hubs have it, else its first table of them."""
    found = dict(list(widget_examples(card.front_matter))[:EXAMPLES_MAX])
    return found or dict(list(table_examples(card.body))[:EXAMPLES_MAX])


def widget_examples(front_matter: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rows = front_matter.get("widget")
    for row in rows if isinstance(rows, list) else []:
        text = row.get("text") if isinstance(row, dict) else None
        output = row.get("output") if isinstance(row, dict) else None
        expected = output.get("text", "") if isinstance(output, dict) else ""
        if isinstance(text, str) and is_short(text):
            yield text, expected if isinstance(expected, str) else ""


def table_examples(body: str) -> Iterator[tuple[str, str]]:
    """The rows of a two-column Markdown table that is headed “input | output”."""
    in_table = False
    for line in body.splitlines():
        match = TABLE_LINE.match(line)
        if match is None:
            if in_table:
                return
            continue
        first, second = match["first"].strip(), match["second"].strip()
        if (first.lower(), second.lower()) == ("input", "output"):
            in_table = True
        elif in_table and not set(first) <= set(":- ") and is_short(first):
            yield first.strip("`"), second.strip("`")


def is_short(text: str) -> bool:
    return 0 < len(text) <= EXAMPLE_CHARACTERS_MAX


def tryout_of(requester: Requester, tryout_id: UUID) -> TryOut | None:
    """The asker's own question; a stranger's does not exist."""
    return tryouts_by_requester(requester).filter(pk=tryout_id).first()


def tryouts_by_requester(requester: Requester) -> TryOutQuerySet:
    """What this account asked, or this browser."""
    rows = TryOut.objects.select_related(
        "base", "version__module__namespace", "version__base", "composition__base"
    )
    if requester.user is not None:
        return rows.filter(owner=requester.user)
    if not requester.session_hash:
        return rows.none()
    return rows.filter(owner=None, session_hash=requester.session_hash)


def tryouts_named(requester: Requester, ids: Sequence[str]) -> list[TryOut] | None:
    """Questions of the asker's by their ids, in this order; None: one of them is none of theirs."""
    if not 0 < len(ids) <= COMPARED_MAX or not all(map(UUID_TEXT.fullmatch, ids)):
        return None
    rows = tryouts_by_requester(requester).filter(pk__in=ids)
    found = {str(tryout.pk): tryout for tryout in rows}
    return [found[key] for key in ids] if all(key in found for key in ids) else None


def tryouts_of(requester: Requester) -> TryOutQuerySet:
    """Everything this asker has asked in the last day; without an account: this address."""
    if requester.user is not None:
        return TryOut.objects.filter(owner=requester.user)
    return TryOut.objects.filter(owner=None, address_hash=requester.address_hash)


def tries_quota(requester: Requester) -> Quota:
    """How often this asker may try something within a minute."""
    return minute_quota(requester, tryouts_of(requester), "tries", "Questions to modules, in a minute")


def minute_quota(requester: Requester, asked: QuerySet[Any], name: str, label: str) -> Quota:
    """A limit of what this asker asks within a minute, of rows that have `created_at`.

    Rows of one time were asked together, and count once.
    """
    most = settings.HUB_TRY_PER_MINUTE if requester.user else settings.HUB_TRY_VISITORS_PER_MINUTE
    now = database_now()
    recent = asked.filter(created_at__gt=now - MINUTE).order_by("-created_at")
    times = list(recent.values_list("created_at", flat=True).distinct()[:most])
    resets_s = max(1, round((times[-1] + MINUTE - now).total_seconds())) if times else 0
    return Quota(name, label, len(times), most, window_s=round(MINUTE.total_seconds()), resets_s=resets_s)


def in_line() -> int:
    """How many questions wait or are being answered."""
    return TryOut.objects.waiting().count() + TryOut.objects.running().count()


def ahead_of(tryout: TryOut) -> int:
    """How many questions come before this one; 0 once it is its turn."""
    if tryout.status != Status.QUEUED:
        return 0
    earlier = TryOut.objects.waiting().filter(created_at__lt=tryout.created_at)
    return earlier.count() + TryOut.objects.running().count()


def is_worker_missing(tryout: TryOut) -> bool:
    """Whether it has waited too long for that while nothing is being answered."""
    waited = database_now() - tryout.created_at
    return tryout.status == Status.QUEUED and waited > PICKED_UP and not is_anybody_answering()


def missing_worker_text(tryout: TryOut) -> str:
    """Return that no worker has picked it up, in words; empty otherwise."""
    return NOT_PICKED_UP if is_worker_missing(tryout) else ""


def is_nobody_coming() -> bool:
    """Whether the queue stands still."""
    first = TryOut.objects.waiting().first()
    return first is not None and is_worker_missing(first)


def is_slow(tryout: TryOut) -> bool:
    """Whether its answer takes longer than most, its base having been in memory."""
    if tryout.status != Status.RUNNING or tryout.is_cold or tryout.started_at is None:
        return False
    return database_now() - tryout.started_at > MOST_ARE_ANSWERED_IN


def is_anybody_answering() -> bool:
    recently = Now() - SILENT_AFTER
    return (
        TryOut.objects.running().exists()
        or TryOut.objects.filter(status=Status.DONE, finished_at__gt=recently).exists()
    )


def to_answer(tryout_id: UUID) -> TryOut | None:
    """The question, if it still waits for an answer and somebody waits with it."""
    return (
        TryOut.objects.waiting()
        .select_related("base", "version__module__namespace", "composition")
        .filter(Q(version=None) | Q(version__module__hold=""), pk=tryout_id)
        .first()
    )


def adapter_files(tryout: TryOut) -> dict[str, str]:
    """Path -> sha256 of what its adapter is made of."""
    if tryout.version is not None:
        return dict(tryout.version.files.values_list("path", "sha256"))
    assert tryout.composition is not None  # the table promises it
    return dict(result_files(tryout.composition).values_list("path", "sha256"))


def adapter_name(tryout: TryOut) -> str:
    return tryout.version.module.full_name if tryout.version else "of this composition"
