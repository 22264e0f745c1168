"""Asking a module or a composition something, and looking for the answer."""

import time
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from composer.core.spec.errors import InvalidJobError
from composer.core.spec.templates import require_asked_template
from composer.playground import selectors
from composer.playground.models import GIVEN_UP_AFTER, SILENT_AFTER, TryOut, TryOutQuerySet
from composer.playground.selectors import Requester, Target
from composer.playground.tasks import run_tryout
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal, log_refusals
from hub_site.jobs.models import Status
from modules_registry.comparison import COMPARED_MAX
from modules_registry.models import BaseModel
from modules_registry.selectors import is_storable

INPUT_CHARACTERS_MAX = 4000  # before anything is tokenised: a prompt of 4 MB takes 11 s, cut or not
TEMPLATE_CHARACTERS_MAX = 2000
MAX_NEW_TOKENS, MAX_NEW_TOKENS_LIMIT = 64, 256
UNFINISHED_MAX = COMPARED_MAX  # of one asker: a comparison is asked at once
LOOK_EVERY_S = 0.04
ASKING_LOCK = 0x7279  # any number that no other advisory lock has
BUSY_RETRY_S = 10
AWAY_RETRY_S = 120

NO_WORKER = (
    "The worker that answers has not come back for two minutes, so your question was dropped. "
    "Try again later; if this lasts, tell the site's operator."
)
INTERRUPTED = "The worker that was answering stopped. Ask again: another one starts within seconds."


def tryout_ask(
    *,
    requester: Requester,
    target: Target,
    text: str,
    template: str = "",
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> TryOut:
    """Store the question, and queue it once it is committed.

    Raises:
        Refusal: it cannot be asked (422, 409), too often (429), or too many ask at once (503).
    """
    return questions_store(requester, [target], text, template, max_new_tokens)[0]


def tryouts_ask(
    *,
    requester: Requester,
    targets: Sequence[Target],
    text: str,
    template: str = "",
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[TryOut]:
    """Put the same question to several that stand on one base: to all of them or to none.

    Together they count as one question within a minute. Without a template each is asked in its own.

    Raises:
        Refusal: as `tryout_ask`; they cannot be compared (409).
    """
    problem = selectors.not_comparable_because(targets)
    if problem:
        raise Refusal("not_comparable", problem, status=409)
    return questions_store(requester, targets, text, template, max_new_tokens)


def questions_store(
    requester: Requester, targets: Sequence[Target], text: str, template: str, max_new_tokens: int
) -> list[TryOut]:
    """Store one question to each of these, all with the same time: by it they count as one."""
    require_may_ask(requester)
    bases = [require_base(target) for target in targets]
    templates = [template or target.template for target in targets]
    for each in templates:
        require_texts(text, each)
    require_tokens(max_new_tokens)
    with transaction.atomic():
        one_at_a_time()
        with log_refusals(requester.user and requester.user.pk):
            require_not_too_often(requester, len(targets))
            require_queue_quota(len(targets))
        asked_at = database_now()
        return [
            question_store(
                owner=requester.user,
                session_hash=requester.session_hash,
                address_hash=requester.address_hash,
                version=target.version,
                composition=target.composition,
                base=base,
                input=text,
                template=its_template,
                max_new_tokens=max_new_tokens,
                created_at=asked_at,
            )
            for target, base, its_template in zip(targets, bases, templates, strict=True)
        ]


def question_store(**columns: Any) -> TryOut:
    tryout = TryOut.objects.create(**columns)
    # robust: with the broker away the row waits, and the sweeper queues it again
    transaction.on_commit(lambda: run_tryout.delay(str(tryout.pk)), robust=True)
    return tryout


def tryout_watch(tryout: TryOut) -> None:
    """Note that somebody looks for the answer, and end what will have none."""
    tryouts_watch([tryout.pk])
    tryout.refresh_from_db()


def tryouts_watch(keys: Iterable[UUID]) -> None:
    """The same of several at once; what is in memory of them is as before."""
    now = Now()
    rows = TryOut.objects.filter(pk__in=list(keys))
    rows.filter(status=Status.QUEUED).update(seen_at=now)
    if not selectors.is_anybody_answering():
        end(rows.filter(status=Status.QUEUED, created_at__lt=now - GIVEN_UP_AFTER), "no_worker", NO_WORKER)
    end(rows.filter(status=Status.RUNNING, alive_at__lt=now - SILENT_AFTER), "interrupted", INTERRUPTED)


def end(rows: TryOutQuerySet, code: str, message: str) -> None:
    rows.update(status=Status.FAILED, error_code=code, error_message=message, finished_at=Now())


def tryouts_end(rows: TryOutQuerySet, *, code: str, message: str) -> None:
    """End the questions among these rows that have no answer yet; a worker that is at one lets it go."""
    unfinished = rows.filter(status__in=(Status.QUEUED, Status.RUNNING))
    end(unfinished, code, message)


def tryout_wait(tryout: TryOut, *, seconds: float) -> None:
    """Wait a moment for the answer; whoever has others before them need not try."""
    deadline = time.monotonic() + seconds
    while not tryout.is_finished and time.monotonic() < deadline and not selectors.ahead_of(tryout):
        time.sleep(LOOK_EVERY_S)
        tryout.refresh_from_db()


def may_ask(requester: Requester) -> bool:
    """Whether this site lets visitors ask, or it is none."""
    return requester.user is not None or settings.HUB_TRY_VISITORS_PER_MINUTE > 0


def require_may_ask(requester: Requester) -> None:
    if not may_ask(requester):
        raise Refusal("sign_in_first", "Sign in to try modules on this site.", status=401)


def require_base(target: Target) -> BaseModel:
    """The library's base that it answers with."""
    if target.base is None:
        raise Refusal("not_composable", f"It cannot be tried here. {target.cannot}", status=409)
    return target.base


def require_texts(text: str, template: str) -> None:
    if not text.strip():
        raise field_refusal("empty", "input", "Enter an input.")
    if len(text) > INPUT_CHARACTERS_MAX:
        too_long = f"It has {len(text):,} characters; at most {INPUT_CHARACTERS_MAX:,} are read. Shorten it."
        raise field_refusal("too_long", "input", too_long)
    if len(template) > TEMPLATE_CHARACTERS_MAX:
        too_long = f"A template has at most {TEMPLATE_CHARACTERS_MAX:,} characters. Shorten it."
        raise field_refusal("too_long", "template", too_long)
    if not (is_storable(text) and is_storable(template)):
        raise field_refusal("unstorable_text", "input", "It holds a character that is not text. Remove it.")
    try:
        require_asked_template(template)
    except InvalidJobError as error:
        raise field_refusal(error.code, "template", str(error)) from error


def require_tokens(max_new_tokens: int) -> None:
    if not 1 <= max_new_tokens <= MAX_NEW_TOKENS_LIMIT:
        problem = f"It can be from 1 to {MAX_NEW_TOKENS_LIMIT}."
        raise field_refusal("out_of_range", "max_new_tokens", problem)


def field_refusal(code: str, name: str, message: str) -> Refusal:
    return Refusal(code, message, status=422, fields={name: [message]})


def one_at_a_time() -> None:
    """Until the transaction ends: what is counted next stays true until the row is there."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ASKING_LOCK])


def require_not_too_often(requester: Requester, n_asked: int) -> None:
    asked = selectors.tryouts_of(requester)
    unfinished = asked.waiting().count() + asked.running().count()
    if unfinished + n_asked > UNFINISHED_MAX:
        message = (
            f"{unfinished} of your questions still wait for their answers, and at most {UNFINISHED_MAX} may "
            "wait at once. Ask again when some are answered."
        )
        raise Refusal("too_many_waiting", message, status=429, retry_after_s=BUSY_RETRY_S)
    quota = selectors.tries_quota(requester)
    if quota.is_used_up:
        more = "" if requester.user else " With an account you can ask more often."
        times = "once" if quota.most == 1 else f"{quota.most} times"
        message = (
            f"You have asked {times} within a minute, the most here. Ask again in {quota.resets_s} s.{more}"
        )
        raise Refusal("too_often", message, status=429, retry_after_s=quota.resets_s)


def require_queue_quota(n_asked: int) -> None:
    in_line = selectors.in_line()
    if in_line + n_asked <= settings.HUB_TRY_WAITING_MAX:
        return
    waiting = "1 question waits" if in_line == 1 else f"{in_line} questions wait"
    if selectors.is_nobody_coming():
        message = (
            f"{waiting}, and the worker that answers seems to be away. "
            "Ask again in some minutes; if this lasts, tell the site's operator."
        )
        raise Refusal("no_worker", message, status=503, retry_after_s=AWAY_RETRY_S)
    message = f"Busy: {waiting} for an answer already. Ask again in {BUSY_RETRY_S} seconds."
    raise Refusal("busy", message, status=503, retry_after_s=BUSY_RETRY_S)
