"""A private link to a report: made, renewed, withdrawn, followed; and what its reader is told."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction

from composer.models import Composition, ResultFile, ShareLink, share_key
from composer.report.exports import as_json
from composer.run.results import REPORT_FILE
from composer.selectors import result_open
from composer.services import require_own
from hub_site.accounts.models import User
from hub_site.audit.services import audit_record
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal
from modules_registry.models import Module

DAYS_MAX = 3650
EXAMPLE_FILES = ("examples.jsonl", "held_out.jsonl")


@transaction.atomic
def share_renew(
    *, owner: User, composition_id: UUID, shows_answers: bool = True, days: int | None = None
) -> ShareLink:
    """Make a link to a finished composition's report; the one before it leads nowhere from now on.

    Args:
        days: how long it stands; None: until it is withdrawn.
    """
    composition = require_own(owner, composition_id)
    if not composition.is_done:
        message = "There is no report to share yet: this composition is not done."
        raise Refusal("not_done", message, status=409)
    require_shareable(composition)
    if days is not None and not 1 <= days <= DAYS_MAX:
        message = f"A link can last from 1 to {DAYS_MAX} days."
        raise Refusal("bad_expiry", message, fields={"days": [message]})
    now = database_now()
    link, _ = ShareLink.objects.update_or_create(
        composition=composition,
        defaults={
            "key": uuid4(),
            "shows_answers": shows_answers,
            "made_at": now,
            "expires_at": now + timedelta(days=days) if days else None,
        },
    )
    return link


def share_withdraw(*, owner: User, composition_id: UUID) -> None:
    """The link leads nowhere any more; harmless when there is none."""
    ShareLink.objects.filter(composition=require_own(owner, composition_id)).delete()


def share_of(composition: Composition) -> ShareLink | None:
    return ShareLink.objects.filter(composition=composition).first()


def share_find(token: str) -> ShareLink | None:
    """The link with this token, as long as it stands, has not expired, and its owner may still sign in."""
    key = share_key(token)
    if key is None:
        return None
    links = ShareLink.objects.filter(
        key=key, composition__owner__is_active=True, composition__sharing_blocked=""
    )
    link: ShareLink | None = links.select_related("composition__base", "composition__owner").first()
    return None if link is None or link.has_expired else link


@transaction.atomic
def sharing_block(*, staff: User, composition: Composition, reason: str) -> None:
    """Close a composition's private link, and let it have no other until staff allow it."""
    row = Composition.objects.select_for_update(of=("self",)).get(pk=composition.pk)
    if row.sharing_blocked:
        raise Refusal("blocked_already", f"It is blocked already. Reason: {row.sharing_blocked}", status=409)
    Composition.objects.filter(pk=row.pk).update(sharing_blocked=reason)
    audit_record(actor=staff, action="share.block", subject=str(row), thing=row, reason=reason)


@transaction.atomic
def sharing_unblock(*, staff: User, composition: Composition, reason: str = "") -> None:
    """Let the private link lead to the report again."""
    row = Composition.objects.select_for_update(of=("self",)).get(pk=composition.pk)
    if not row.sharing_blocked:
        raise Refusal("not_blocked", "Its private link is not blocked.", status=409)
    Composition.objects.filter(pk=row.pk).update(sharing_blocked="")
    audit_record(actor=staff, action="share.unblock", subject=str(row), thing=row, reason=reason)


def require_shareable(composition: Composition) -> None:
    if composition.sharing_blocked:
        message = (
            f"The staff of this site have blocked its private link. Reason: {composition.sharing_blocked}"
        )
        raise Refusal("sharing_blocked", message, status=403)


def redacted_report(link: ShareLink) -> dict[str, Any]:
    """The report as the link's reader may have it: without what is private to its owner or to others.

    Modules that not everybody can see any more go by a number, and the examples stay away unless the
    owner wants them shown.
    """
    report: dict[str, Any] = link.composition.report or {}
    hidden = hidden_names(link.composition)
    told = numbered(hidden)
    answers = report["predictions"] if link.shows_answers else []
    rest: dict[str, Any] = replace_names(report | {"predictions": []}, told)
    for row in named_rows(rest):
        if row["name"] in told.values():
            row |= {"revision": "", "sha256": ""}
    left_out = (*EXAMPLE_FILES, *(f"modules/{name}/" for name in hidden))
    sums = {name: sha256 for name, sha256 in report["inputs_sha256"].items() if not name.startswith(left_out)}
    for name in ("prompt_shown", "examples_in_prompt"):  # they hold the owner's examples
        rest.pop(name, None)
    notes = link.composition.example_notes  # they name the columns of the owner's file
    rest["warnings"] = [text for text in rest.get("warnings", ()) if text not in notes]
    return rest | {"predictions": answers, "inputs_sha256": sums}


def named_rows(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a report that name a module by its revision and its weights."""
    for row in (*report["modules"], *report.get("modules_pruned", ())):
        yield row
        yield from row.get("copies", ())


def shared_text(link: ShareLink, file: ResultFile) -> str:
    """A text beside the adapter of a composition or a baseline, as the link's reader may have it."""
    composition = link.composition
    if file.path == REPORT_FILE:
        return as_json(composition, redacted_report(link))
    with result_open(file) as stored:
        return in_text(stored.read().decode(), hidden_in_card(composition))


def hidden_in_card(composition: Composition) -> dict[str, str]:
    """What stands in a card instead of the names and the revisions that the public does not see now."""
    told = numbered(hidden_names(composition))
    rows = named_rows(composition.report or {"modules": ()})
    revisions = {row["revision"]: "-" for row in rows if row["name"] in told and row["revision"]}
    return told | revisions


def numbered(names: Sequence[str]) -> dict[str, str]:
    return {name: f"private module {number}" for number, name in enumerate(names, start=1)}


def hidden_names(composition: Composition) -> list[str]:
    """The modules, by the names they went by, that the public does not see now."""
    public = Module.objects.visible_to(None).values("pk")
    hidden = composition.modules.exclude(version__module__in=public)
    return list(hidden.values_list("name", flat=True))


def replace_names(value: Any, names: Mapping[str, str]) -> Any:
    """The same report with these names replaced wherever they stand, also within a sentence."""
    if isinstance(value, str):
        return in_text(value, names)
    if isinstance(value, Mapping):
        return {in_text(key, names): replace_names(each, names) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [replace_names(each, names) for each in value]
    return value


def in_text(text: str, names: Mapping[str, str]) -> str:
    """Whole names only: a/b is not a part of a/b-c, but a full stop may follow it."""
    for name, instead in names.items():
        text = re.sub(rf"(?<![\w./-]){re.escape(name)}(?![\w/-]|\.\w)", literal(instead), text)
    return text


def literal(text: str) -> str:
    """The replacement for re.sub that stands for just this text."""
    return text.replace("\\", r"\\")
