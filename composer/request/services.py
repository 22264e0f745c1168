"""Asking for a composition: check what was asked, store it with its modules, queue it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Any, NotRequired, TypedDict, Unpack

from django.conf import settings
from django.db import IntegrityError, transaction

from composer import selectors
from composer.core.spec import choices
from composer.core.spec.choices import DEFAULT_MAX_NEW_TOKENS, DEFAULT_TEMPLATE, TEXT_LIMIT
from composer.core.spec.counting import count_noun, is_or_are
from composer.core.spec.errors import InvalidJobError
from composer.core.spec.examples import Example, exclude_examples, notes_on_repeats, without_repeats
from composer.core.spec.job_spec import (
    read_batch_size,
    read_choice,
    read_integer,
    read_objective,
    read_rank,
    read_search,
)
from composer.core.spec.selection import kept_at_most
from composer.core.spec.templates import CHAT, require_asked_template
from composer.guests import require_guest_quota, require_quick
from composer.matching.compatibility import FittingModule
from composer.matching.ranking import MODULES_NAMED_MAX
from composer.matching.selection import modules_selected
from composer.matching.workers import missing_worker, needs_of, require_worker
from composer.models import NAME_MAX, SEED_MAX, SENTENCE_MAX, Composition, CompositionModule
from composer.models import Example as ExampleRow
from composer.run.tasks import wake_worker
from composer.task.examples import EXAMPLES_MAX, HELD_OUT_MAX, NO_EXAMPLES
from composer.timing.estimates import Amounts, estimate, mean_characters
from composer.timing.queue import is_quick
from hub_site.accounts.models import User
from hub_site.common.clock import database_now
from hub_site.common.disk import require_disk_space
from hub_site.common.errors import Refusal, field_refusal, log_refusals
from hub_site.common.site_faults import RETRY_AFTER_S
from hub_site.jobs.models import WorkerRequest
from hub_site.notifications.models import Kind
from hub_site.notifications.selectors import wants_mail
from modules_registry.models import BaseModel, Module, Version
from modules_registry.quotas import require_room_for_a_result
from modules_registry.selectors import current_versions

DAY = timedelta(days=1)

# What decides whether the core takes a value, by field; each raises InvalidJobError if it does not.
READ_BY_THE_CORE: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "search": lambda asked: read_search(asked, asked["method"]),
    "objective": lambda asked: read_objective(asked, asked["method"], asked["search"]),
    "budget": lambda asked: read_integer(asked, "budget", 1, choices.BUDGET_LIMIT),
    "batch_size": lambda asked: read_batch_size(asked, asked["method"]),
    "precision": lambda asked: read_choice(
        asked, "precision", choices.choice_names(choices.PRECISIONS), "auto"
    ),
    "device": lambda asked: read_choice(asked, "device", choices.choice_names(choices.DEVICES), "auto"),
    "rank": read_rank,
    "max_new_tokens": lambda asked: read_integer(asked, "max_new_tokens", 1, choices.MAX_NEW_TOKENS_LIMIT),
    "baselines": lambda asked: read_choice(
        asked, "baselines", choices.choice_names(choices.BASELINES), "always"
    ),
}


class SearchOptions(TypedDict):
    """How to search and to compare, field by field as the core takes it."""

    method: str
    budget: int
    seed: int
    search: NotRequired[str]
    objective: NotRequired[str]
    batch_size: NotRequired[int | None]
    precision: NotRequired[str]
    device: NotRequired[str]
    rank: NotRequired[int | str | None]
    template: NotRequired[str]
    max_new_tokens: NotRequired[int]
    baselines: NotRequired[str]


UNLESS_CHOSEN: Mapping[str, Any] = {
    "search": "auto", "objective": "loss", "batch_size": None, "precision": "auto", "device": "auto",
    "rank": choices.SMALL_RANK, "template": DEFAULT_TEMPLATE, "max_new_tokens": DEFAULT_MAX_NEW_TOKENS,
    "baselines": "always",
}  # fmt: skip


def composition_request(
    *,
    owner: User,
    name: str,
    sentence: str = "",
    base: str | None = None,
    selection: str = "all",
    modules: Sequence[str] = (),
    level: str = choices.DEFAULT_LEVEL,
    examples: Sequence[Example],
    held_out: Sequence[Example] = (),
    notes: Sequence[str] = (),
    idempotency_key: str | None = None,
    **chosen: Unpack[SearchOptions],
) -> Composition:
    """Store what was asked, with its modules pinned, and queue it once the rows are committed.

    The same key with the same request gives the same row; with another request it is refused. Names are
    looked up, and what was left to us is decided, only for a new row: the library may have changed since
    the same was asked before.

    Args:
        base: its name; none: the one most modules are made for.
        modules: their names, where they are chosen by hand.
        notes: what is not used of the examples that were brought.
        selection: “auto” takes all modules that fit, or the best of many; how many that is, `level` says.
    """
    choice = complete_choice(chosen)
    notes = [*notes, *notes_on_repeats(examples, held_out)]
    examples, held_out = without_repeats(examples), without_repeats(held_out)
    asked = {
        "name": name, "sentence": sentence, "base": base, "selection": selection, "modules": sorted(modules),
        "shots": pair_lists(examples), "held_out": pair_lists(held_out), **choice,
    }  # fmt: skip
    if selection == "auto":  # of anything else the level says nothing
        asked["level"] = level
    digest = request_digest(asked)
    if known := requested_before(owner, idempotency_key, digest):
        return known
    base_row, unseen = require_request(name, sentence, base, examples, held_out, choice)
    versions = require_versions(modules, owner)
    selected = modules_selected(
        base_row, choice["method"], selection, level, versions, choice["seed"], f"{name} {sentence}",
        examples, held_out, owner,
    )  # fmt: skip
    composition = Composition(
        owner=owner, name=name, sentence=sentence, base=base_row, selection=selected.selection,
        idempotency_key=idempotency_key or None, request_digest=digest, example_notes=list(notes),
        mail_when_done=wants_mail(owner, Kind.COMPOSITION), **choice,
    )  # fmt: skip
    try:
        return composition_insert(composition, selected.modules, examples, unseen)
    except IntegrityError:  # the same key, sent twice at the same moment
        if known := requested_before(owner, idempotency_key, digest):
            return known
        raise


@transaction.atomic
def composition_insert(
    composition: Composition,
    modules: Sequence[FittingModule],
    examples: Sequence[Example],
    held_out: Sequence[Example],
) -> Composition:
    with log_refusals(composition.owner_id):
        require_disk_space()
        require_worker(composition.base, composition.device)
        require_quota(composition.owner)
    choose_lane(composition, len(modules), examples, held_out)
    if composition.owner.is_guest:
        require_quick(composition)
    composition.save()
    CompositionModule.objects.bulk_create(
        CompositionModule(
            composition=composition, version_id=fit.version_id, name=fit.name, position=position
        )
        for position, fit in enumerate(modules)
    )
    require_still_visible(modules, composition.owner)
    ExampleRow.objects.bulk_create(
        ExampleRow(
            composition=composition, role=role, position=position, input=pair.input, output=pair.output
        )
        for role, pairs in ((ExampleRow.Role.SHOT, examples), (ExampleRow.Role.HELD_OUT, held_out))
        for position, pair in enumerate(pairs)
    )
    # robust: with the broker away the row waits, and the sweeper queues it again
    transaction.on_commit(lambda: wake_worker.delay(), robust=True)
    return composition


def worker_request(*, owner: User, base: str | None, device: str) -> WorkerRequest:
    """Ask staff for a worker that can take compositions of this kind; harmless twice.

    Raises:
        Refusal: there is such a worker already (409), or no such base (400).
    """
    base_row = require_base(base)
    if missing_worker(base_row, device) is None:
        raise Refusal("worker_exists", "A worker of this site can take it already. Send it.", status=409)
    needs = needs_of(base_row, device)
    asked, _ = WorkerRequest.objects.update_or_create(
        owner=owner,
        has_cuda=needs.has_cuda,
        base_name=base_row.name,
        defaults={"memory_mb": needs.memory_mb},
    )
    return asked


def choose_lane(
    composition: Composition, n_tried: int, examples: Sequence[Example], held_out: Sequence[Example]
) -> None:
    """Set what the queue goes by: how long it will take, and what its worker must have."""
    workload = Amounts(
        n_shots=len(examples),
        n_held_out=len(held_out),
        n_modules=kept_at_most(composition.selection, n_tried),
        n_tried=n_tried,
        budget=composition.budget,
        baselines=composition.baselines,
        search=composition.search,
        objective=composition.objective,
        characters=mean_characters([*examples, *held_out]),
    )
    found = estimate(composition.base, composition.method, workload)
    composition.estimated_s, composition.is_quick = found.likely_s, is_quick(found)
    composition.memory_mb = needs_of(composition.base, composition.device).memory_mb


def pair_lists(pairs: Sequence[Example]) -> list[list[str]]:
    return [[pair.input, pair.output] for pair in pairs]


def request_digest(asked: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def requested_before(owner: User, key: str | None, digest: str) -> Composition | None:
    known = Composition.objects.filter(owner=owner, idempotency_key=key).first() if key else None
    if known is not None and known.request_digest != digest:
        message = (
            "This Idempotency-Key was used for another request. Send a new key, or the same request again."
        )
        raise Refusal("idempotency_key_reused", message, status=422)
    return known


def complete_choice(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The options with those that were left open, as the columns have them."""
    choice: dict[str, Any] = {**UNLESS_CHOSEN, **chosen}
    choice["template"] = choice["template"] or DEFAULT_TEMPLATE
    choice["rank"] = str(choice["rank"] or choices.SMALL_RANK)
    return choice


def require_request(
    name: str,
    sentence: str,
    base: str | None,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    choice: Mapping[str, Any],
) -> tuple[BaseModel, list[Example]]:
    """Refuse what no composition can be asked for, whether it is asked for or only estimated.

    Args:
        choice: as `complete_choice` returns it.

    Returns:
        The base model, and the held-out examples that are not among the shots.
    """
    require_choice(choice)
    require_texts(name, sentence, choice["template"])
    require_examples(examples, held_out)
    unseen = require_unseen(held_out, examples)
    base_row = require_base(base)
    require_template(base_row, choice["template"])
    return base_row, unseen


def require_choice(choice: Mapping[str, Any]) -> None:
    require_search_of_method(choice["method"], choice["search"])
    require_as_the_core(choice)
    require_seed(choice["seed"])


def require_search_of_method(method: str, search: str) -> None:
    searches = choices.SEARCHES_OF_METHOD.get(method)
    if searches is None:
        raise field_refusal(
            "unknown_method", "method", f"There is no method “{method[:40]}”.", choices.SEARCHES_OF_METHOD
        )
    if not choices.has_search(method, search):
        problem = f"The method {method} has no search “{search[:40]}”."
        raise field_refusal("unknown_search", "search", problem, searches)


def require_as_the_core(choice: Mapping[str, Any]) -> None:
    """Refuse now, at its field, what the core would refuse when the job's turn has come."""
    for field, read in READ_BY_THE_CORE.items():
        try:
            read(choice)
        except InvalidJobError as error:
            raise field_refusal(f"bad_{field}", field, str(error)) from error


def require_seed(seed: int) -> None:
    if not 0 <= seed <= SEED_MAX:
        raise field_refusal("bad_seed", "seed", f"The seed is a number from 0 to {SEED_MAX}.")


def require_texts(name: str, sentence: str, template: str) -> None:
    if not name.strip() or len(name) > NAME_MAX:
        raise field_refusal("bad_name", "name", f"Give the task a name of 1 to {NAME_MAX} characters.")
    if len(sentence) > SENTENCE_MAX:
        raise field_refusal("bad_sentence", "sentence", f"Use at most {SENTENCE_MAX} characters.")
    if len(template) > TEXT_LIMIT:
        raise field_refusal("bad_template", "template", f"Use at most {TEXT_LIMIT:,} characters.")
    for field, text in (("name", name), ("sentence", sentence), ("template", template)):
        if "\0" in text:
            raise field_refusal(f"bad_{field}", field, "Remove the characters that are not text.")


def require_examples(examples: Sequence[Example], held_out: Sequence[Example]) -> None:
    if not examples:
        raise field_refusal("no_examples", "examples", NO_EXAMPLES)
    if len(examples) > EXAMPLES_MAX:
        problem = (
            f"These are {len(examples)} examples; at most {EXAMPLES_MAX} are composed from. "
            "Move the rest to the held-out examples."
        )
        raise field_refusal("too_many_examples", "examples", problem)
    if len(held_out) > HELD_OUT_MAX:
        problem = f"These are {len(held_out)} held-out examples; at most {HELD_OUT_MAX} are measured on."
        raise field_refusal("too_many_held_out", "held_out", problem)


def require_unseen(held_out: Sequence[Example], examples: Sequence[Example]) -> list[Example]:
    """The held-out examples that are not among the shots."""
    unseen = exclude_examples(held_out, examples)
    if held_out and not unseen:
        problem = (
            "Every held-out example has an input that is also among your examples, "
            "so nothing would be measured. "
            "Give others, or none."
        )
        raise field_refusal("held_out_seen", "held_out", problem)
    return unseen


def require_base(name: str | None) -> BaseModel:
    """The base model of this name; without a name, the one that most modules are made for."""
    base = selectors.base_default() if name is None else selectors.base_find(name)
    if base is not None:
        return base
    if name is None:
        raise field_refusal("no_base_model", "base", "The library has no base model yet.")
    raise field_refusal("invalid", "base", f"The library has no base model “{name[:80]}”.")


def require_template(base: BaseModel, template: str) -> None:
    """Refuse a template without a place for the input, and the chat template of a base known to have none."""
    try:
        require_asked_template(template)
    except InvalidJobError as error:
        raise field_refusal("bad_template", "template", str(error)) from error
    if template == CHAT and base.chat_prompt == "":
        problem = f"{base.name} has no chat template. Use “auto”, or a text with {{input}} in it."
        raise field_refusal("no_chat_template", "template", problem)


def require_versions(names: Sequence[str], owner: User) -> list[Version]:
    """The current versions of the modules of these names, as far as the owner may see them."""
    if len(names) > MODULES_NAMED_MAX:
        message = f"These are {len(names):,} modules; at most {MODULES_NAMED_MAX} can be named."
        raise Refusal("too_many_modules", message, fields={"modules": [message]})
    versions = current_versions(names, owner)
    unknown = [name for name in dict.fromkeys(names) if name not in versions]
    if unknown:
        problems = [f"There is no module “{name[:80]}” any more. Leave it out." for name in unknown[:10]]
        raise Refusal("invalid", problems[0], fields={"modules": problems})
    return [versions[name] for name in dict.fromkeys(names)]


def require_still_visible(modules: Sequence[FittingModule], owner: User) -> None:
    """Look once more, now that the rows hold the versions: staff may have taken one meanwhile."""
    chosen = {fit.module_id for fit in modules}
    if Module.objects.visible_to(owner).filter(pk__in=chosen).count() < len(chosen):
        message = "A module was just removed from the library. Choose modules again."
        raise Refusal("modules_changed", message, fields={"modules": [message]})


def require_quota(owner: User) -> None:
    """Refuse what would be more than this owner may have composed now."""
    User.objects.select_for_update().get(pk=owner.pk)  # one request of an owner at a time
    if owner.is_guest:
        require_guest_quota(owner)
        return
    require_queue_quota(owner)
    require_room_for_a_result(owner.namespace)
    require_cpu_quota(owner)


def require_queue_quota(owner: User) -> None:
    most = settings.HUB_COMPOSITIONS_UNFINISHED_MAX
    if selectors.unfinished_count(owner) >= most:
        message = (
            f"You have {most} compositions waiting or running, the most at once. "
            "Cancel one, or wait for one to end."
        )
        raise Refusal("too_many_running", message, status=429, retry_after_s=RETRY_AFTER_S)


def require_cpu_quota(owner: User) -> None:
    """Refuse while an account's compositions have computed too long within a day; staff have no limit."""
    most_s = settings.HUB_CPU_MINUTES_A_DAY * 60
    if not most_s or owner.is_staff:
        return
    now = database_now()
    uses = list(selectors.cpu_uses(owner, since=now - DAY))
    used_s = sum(cpu_s for _, cpu_s in uses)
    if used_s < most_s:
        return
    again_at = when_below(uses, used_s - most_s) + DAY
    used, most = round(used_s / 60), settings.HUB_CPU_MINUTES_A_DAY
    message = (
        f"Your compositions have computed for {count_noun(used, 'minute')} of CPU time within a day; "
        f"{most:,} {is_or_are(most)} the most. "
        f"It is possible again on {again_at:%-d %B at %H:%M} UTC."
    )
    wait_s = max(1, ceil((again_at - now).total_seconds()))
    raise Refusal("cpu_quota", message, status=429, retry_after_s=wait_s)


def when_below(uses: Sequence[tuple[datetime, float]], excess_s: float) -> datetime:
    """Return the time of the use, oldest first, with which more than the excess is a day old."""
    for used_at, cpu_s in uses:
        excess_s -= cpu_s
        if excess_s < 0:
            return used_at
    return uses[-1][0]
