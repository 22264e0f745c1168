"""Telling staff, and what staff decide: about a thing, and about an account."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.template.loader import render_to_string
from django.utils.crypto import salted_hmac

from composer.models import Composition
from composer.playground.models import TryOut
from composer.playground.services import tryouts_end
from composer.services import compositions_end
from composer.share.services import sharing_block, sharing_unblock
from hub_site.accounts.models import User
from hub_site.accounts.selectors import suspension_text
from hub_site.accounts.services import account_restore, account_suspend
from hub_site.audit.services import audit_record
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal, field_refusal, log_refusals
from hub_site.moderation.models import NOTE_MAX, REASON_MAX, Report
from hub_site.moderation.selectors import (
    NEEDS_REASON,
    Thing,
    account_decisions,
    people_to_tell,
    reports_about,
)
from hub_site.notifications.models import ABOUT_MAX, Kind, Notice
from hub_site.notifications.services import notify
from modules_registry.holds import module_quarantine, module_release, module_takedown
from modules_registry.importing.models import ModuleImport
from modules_registry.importing.services import imports_end
from modules_registry.models import Module

TOLD_REPORTERS = {
    "dismiss": "the staff of this site found nothing to act on",
    "quarantine": "it is out of the library while the staff of this site look into it",
    "release": "it stays in the library",
    "takedown": "it was taken down",
    "block": "its link was blocked",
    "unblock": "its link works again",
}
STAYS = frozenset({"dismiss", "release", "unblock"})  # it can still be looked at
HOUR = timedelta(hours=1)
REPORTS_AN_HOUR = 20  # of one account
VISITORS_REPORTS_AN_HOUR = 5  # from one address without an account
MODULE_ENDED = (
    "The staff of this site have taken a module of it out of the library. Compose again without it."
)


def report_file(
    *,
    thing: Thing,
    reason: str,
    note: str = "",
    reporter: User | None,
    email: str = "",
    address: str = "",
) -> Report:
    """Tell staff what is wrong with a thing. A visitor without an account leaves a mail address.

    Args:
        address: where the request comes from; kept as a keyed hash, to count by.
    """
    if reason not in Report.Reason.values:
        raise field_refusal("bad_reason", "reason", f"“{reason[:20]}” is no reason.", Report.Reason.values)
    if len(note) > NOTE_MAX:
        raise field_refusal(
            "too_long", "note", f"It has {len(note):,} characters; {NOTE_MAX:,} are the most."
        )
    if reporter is None:
        require_email(email)
    hashed = "" if reporter else salted_hmac("report", address, algorithm="sha256").hexdigest()
    with log_refusals(reporter and reporter.pk):
        require_not_too_often(reporter, hashed)
    row = thing.row
    report = Report(
        module=row if isinstance(row, Module) else None,
        composition=row if isinstance(row, Composition) else None,
        reporter=reporter,
        email="" if reporter else email,
        address_hash=hashed,
        reason=reason,
        note=note.replace("\x00", ""),
    )
    try:
        with transaction.atomic():
            report.save()
    except IntegrityError as error:
        message = "You have already reported this. Staff will look at it."
        raise Refusal("reported_already", message, status=409) from error
    return report


def require_email(email: str) -> None:
    try:
        validate_email(email)
    except ValidationError as error:
        problem = "Enter your e-mail address, so that staff can ask you, or sign in."
        raise field_refusal("email_needed", "email", problem) from error


def require_not_too_often(reporter: User | None, address_hash: str) -> None:
    mine = Report.objects.filter(reporter=reporter) if reporter else Report.objects.filter(reporter=None)
    if reporter is None:
        mine = mine.filter(address_hash=address_hash)
    most = REPORTS_AN_HOUR if reporter else VISITORS_REPORTS_AN_HOUR
    now = database_now()
    recent = mine.filter(created_at__gt=now - HOUR).order_by("-created_at")
    oldest_of_most = recent.values_list("created_at", flat=True)[most - 1 : most].first()
    if oldest_of_most is not None:
        wait_s = max(1, round((oldest_of_most + HOUR - now).total_seconds()))
        message = f"You have sent {most} reports within an hour, the most here. Try again later."
        raise Refusal("too_often", message, status=429, retry_after_s=wait_s)


@transaction.atomic
def thing_decide(*, staff: User, thing: Thing, decision: str, reason: str = "") -> None:
    """Do what staff decided about a thing; every report about it is settled by that.

    Args:
        reason: a sentence for its owner, needed unless it goes well for them.
    """
    require_staff(staff)
    require_decision(decision, thing.decisions, reason)
    decide = {
        "dismiss": dismiss,
        "quarantine": quarantine,
        "release": release,
        "takedown": take_down,
        "block": block,
        "unblock": unblock,
    }[decision]
    decide(staff, thing, reason.strip())
    waiting = list(reports_about(thing).waiting())
    settled = Report.objects.filter(pk__in=[report.pk for report in waiting])
    settled.update(settled_at=database_now(), outcome=decision)
    tell_reporters(thing, waiting, decision)


def dismiss(staff: User, thing: Thing, reason: str) -> None:
    count = reports_about(thing).waiting().count()
    if not count:
        raise Refusal("nothing_waits", "No report about it waits.", status=409)
    audit_record(
        actor=staff, action="report.dismiss", subject=thing.name, thing=thing.row, reason=reason, count=count
    )


def quarantine(staff: User, thing: Thing, reason: str) -> None:
    hold_module(staff, thing, reason, module_quarantine, "is in quarantine")


def take_down(staff: User, thing: Thing, reason: str) -> None:
    hold_module(staff, thing, reason, module_takedown, "was taken down")


def hold_module(staff: User, thing: Thing, reason: str, service: Callable[..., None], happened: str) -> None:
    module = as_module(thing)
    service(staff=staff, module=module, reason=reason)
    end_work_with(module)
    tell_owner(people_to_tell(thing), f"{thing.name} {happened}", thing.page_of_owner, reason)


def end_work_with(module: Module) -> None:
    used = Composition.objects.filter(modules__version__module=module)
    compositions_end(used, code="module_held", message=MODULE_ENDED)
    tryouts_end(TryOut.objects.filter(version__module=module), code="module_held", message=MODULE_ENDED)
    made = TryOut.objects.filter(composition__modules__version__module=module)
    tryouts_end(made, code="module_held", message=MODULE_ENDED)


def release(staff: User, thing: Thing, reason: str) -> None:
    module_release(staff=staff, module=as_module(thing), reason=reason)
    tell_owner(people_to_tell(thing), f"{thing.name} is released", thing.page_of_owner, reason)


def block(staff: User, thing: Thing, reason: str) -> None:
    sharing_block(staff=staff, composition=as_composition(thing), reason=reason)
    tell_owner(people_to_tell(thing), "A private link of yours is blocked", thing.page_of_owner, reason)


def unblock(staff: User, thing: Thing, reason: str) -> None:
    sharing_unblock(staff=staff, composition=as_composition(thing), reason=reason)
    tell_owner(people_to_tell(thing), "A private link of yours works again", thing.page_of_owner, reason)


def as_module(thing: Thing) -> Module:
    assert isinstance(thing.row, Module), "its decisions are those of modules"
    return thing.row


def as_composition(thing: Thing) -> Composition:
    assert isinstance(thing.row, Composition), "its decisions are those of compositions"
    return thing.row


@transaction.atomic
def account_decide(*, staff: User, account: User, decision: str, reason: str = "") -> None:
    """Suspend an account, which ends its work and hides its modules, or end its suspension."""
    require_staff(staff)
    require_decision(decision, account_decisions(account), reason)
    reason = reason.strip()
    if decision == "restore":
        account_restore(staff=staff, account=account, reason=reason)
        mail_owner([account], "Your account works again", "/", reason)
        return
    account_suspend(staff=staff, account=account, reason=reason)
    ends = {"code": "account_suspended", "message": suspension_text(account)}
    compositions_end(Composition.objects.filter(owner=account), **ends)
    imports_end(ModuleImport.objects.filter(owner=account), **ends)
    tryouts_end(TryOut.objects.filter(owner=account), **ends)
    for module in Module.objects.existing().filter(namespace__user=account):
        end_work_with(module)
    mail_owner([account], "Your account is suspended", "/", reason)


def require_staff(user: User) -> None:
    if not (user.is_staff and user.is_active):
        raise Refusal("staff_only", "Only the staff of this site decide this.", status=403)


def require_decision(decision: str, possible: dict[str, str], reason: str) -> None:
    if decision not in possible:
        raise field_refusal("bad_decision", "decision", "This decision is not possible now.", possible)
    if decision in NEEDS_REASON and not reason.strip():
        raise field_refusal("reason_needed", "reason", "Write the reason: its owner is told.")
    if len(reason) > REASON_MAX:
        raise field_refusal("too_long", "reason", f"{REASON_MAX:,} characters are the most.")


def tell_reporters(thing: Thing, reports: Sequence[Report], decision: str) -> None:
    """Tell the accounts that reported it what was decided; visitors left no account to tell."""
    text = f"Your report about {thing.name} was handled: {TOLD_REPORTERS[decision]}."
    path = thing.url if decision in STAYS else ""
    notify(
        Notice(report.reporter_id, Kind.REPORT, f"report:{report.pk}", text, path)
        for report in reports
        if report.reporter_id is not None
    )


def tell_owner(people: Sequence[User], what: str, path: str, reason: str) -> None:
    """Tell whose it is: on their page of notifications, and by mail."""
    about = f"{path}@{database_now():%Y-%m-%dT%H:%M:%S.%f}"[-ABOUT_MAX:]  # each decision is told
    text = f"{what}. {reason}".strip()
    notify(Notice(person.pk, Kind.STAFF, about, text, path) for person in people)
    mail_owner(people, what, path, reason)


def mail_owner(people: Sequence[User], what: str, path: str, reason: str) -> None:
    """Mail whose it is, once the decision is committed. A mail that cannot be sent undoes nothing."""
    to = [person.email for person in people if person.email]
    if not to:
        return
    context = {"what": what, "reason": reason, "address": f"{settings.PUBLIC_ADDRESS}{path}"}
    body = render_to_string("moderation/owner_mail.txt", context)
    # Blind copies: the people of an organization need not know each other's addresses.
    mail = EmailMessage(subject=" ".join(what.split()), body=body, bcc=to)
    transaction.on_commit(partial(mail.send), robust=True)
