"""Asking for a composition, cancelling one, forgetting one."""

import hashlib
import json
import random
import re
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from composer import selectors
from composer.core.choices import BUDGET_LIMIT, SEARCHES_OF_METHOD
from composer.examples import HELD_OUT_MAX, NO_EXAMPLES, SHOTS_MAX, Pair, without_shots
from composer.models import Composition, CompositionModule, Example
from composer.tasks import run_composition
from hub_site.accounts.models import User
from hub_site.common.errors import Refusal
from hub_site.jobs import leases
from modules_registry.intake import blobs_forget
from modules_registry.models import BaseModel, Version

MODULES_MAX = 200  # composed at once
UNFINISHED_MAX = 5  # of one owner, so that nobody's queue is everybody's wait
NAME_MAX, SENTENCE_MAX = 80, 300  # characters, as the columns have it
SEED_MAX = 2**31 - 1
RANDOM_SELECTION = re.compile(r"random:([1-9][0-9]{0,3})")


def composition_request(
    *,
    owner: User,
    name: str,
    sentence: str = "",
    base: BaseModel,
    method: str,
    search: str = "auto",
    selection: str = "all",
    module_versions: Sequence[Version] = (),
    budget: int,
    seed: int,
    shots: Sequence[Pair],
    held_out: Sequence[Pair] = (),
    idempotency_key: str | None = None,
) -> Composition:
    """Store what was asked, with its modules pinned, and ring the queue once the rows are committed.

    The same key with the same request gives the same row; with another request it is refused.
    """
    asked = {
        "name": name, "sentence": sentence, "base": base.name, "method": method, "search": search,
        "selection": selection, "modules": sorted(version.commit_id for version in module_versions),
        "budget": budget, "seed": seed, "shots": texts(shots), "held_out": texts(held_out),
    }  # fmt: skip
    digest = request_digest(asked)
    if known := requested_before(owner, idempotency_key, digest):
        return known
    require_choices(method, search)
    require_numbers(budget, seed)
    require_texts(name, sentence)
    require_examples(shots, held_out)
    unseen = require_unseen(held_out, shots)
    composition = Composition(
        owner=owner,
        name=name,
        sentence=sentence,
        base=base,
        method=method,
        search=search,
        selection=selection,
        budget=budget,
        seed=seed,
        idempotency_key=idempotency_key or None,
        request_digest=digest,
    )
    modules = modules_selected(base, method, selection, module_versions, seed)
    try:
        return composition_insert(composition, modules, shots, unseen)
    except IntegrityError:  # the same key, sent twice at the same moment
        if known := requested_before(owner, idempotency_key, digest):
            return known
        raise


@transaction.atomic
def composition_insert(
    composition: Composition,
    modules: Sequence[selectors.Fit],
    shots: Sequence[Pair],
    held_out: Sequence[Pair],
) -> Composition:
    require_room_in_queue(composition.owner)
    composition.save()
    CompositionModule.objects.bulk_create(
        CompositionModule(composition=composition, version=fit.version, name=fit.name, position=position)
        for position, fit in enumerate(modules)
    )
    Example.objects.bulk_create(
        Example(composition=composition, role=role, position=position, input=pair.input, output=pair.output)
        for role, pairs in ((Example.Role.SHOT, shots), (Example.Role.HELD_OUT, held_out))
        for position, pair in enumerate(pairs)
    )
    # robust: with the broker away the row waits, and the sweeper rings again
    transaction.on_commit(lambda: run_composition.delay(str(composition.pk)), robust=True)
    return composition


def composition_cancel(*, owner: User, composition_id: UUID) -> Composition:
    """Ask for the end of it; a finished one stays as it is."""
    composition = require_own(owner, composition_id)
    leases.cancel(Composition, composition.pk)
    composition.refresh_from_db()
    return composition


@transaction.atomic
def composition_delete(*, owner: User, composition_id: UUID) -> None:
    """Forget a finished composition with its examples and its adapter."""
    composition = require_own(owner, composition_id)
    if not composition.is_finished:
        message = "It is still waiting or running. Cancel it first, then delete it."
        raise Refusal("still_running", message, status=409)
    hashes = set(composition.files.values_list("sha256", flat=True))
    composition.delete()
    transaction.on_commit(partial(blobs_forget, hashes))


def require_own(owner: User, composition_id: UUID) -> Composition:
    composition = selectors.composition_find(owner, composition_id)
    if composition is None:
        raise Refusal("not_found", "No such composition of yours.", status=404)
    return composition


def texts(pairs: Sequence[Pair]) -> list[list[str]]:
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


def require_choices(method: str, search: str) -> None:
    searches = SEARCHES_OF_METHOD.get(method)
    if searches is None:
        raise field_refusal(
            "unknown_method", "method", f"There is no method “{method[:40]}”.", SEARCHES_OF_METHOD
        )
    if search not in searches:
        problem = f"The method {method} has no search “{search[:40]}”."
        raise field_refusal("unknown_search", "search", problem, searches)


def field_refusal(code: str, field: str, problem: str, choices: Sequence[str] | Any = ()) -> Refusal:
    message = f"{problem} Choose one of: {', '.join(choices)}." if choices else problem
    return Refusal(code, message, fields={field: [message]})


def require_numbers(budget: int, seed: int) -> None:
    if not 1 <= budget <= BUDGET_LIMIT:
        raise field_refusal("bad_budget", "budget", f"The budget is a number from 1 to {BUDGET_LIMIT}.")
    if not 0 <= seed <= SEED_MAX:
        raise field_refusal("bad_seed", "seed", f"The seed is a number from 0 to {SEED_MAX}.")


def require_texts(name: str, sentence: str) -> None:
    if not name.strip() or len(name) > NAME_MAX:
        raise field_refusal("bad_name", "name", f"Give the task a name of 1 to {NAME_MAX} characters.")
    if len(sentence) > SENTENCE_MAX:
        raise field_refusal("bad_sentence", "sentence", f"Use at most {SENTENCE_MAX} characters.")
    for field, text in (("name", name), ("sentence", sentence)):
        if "\0" in text:
            raise field_refusal(f"bad_{field}", field, "Remove the characters that are not text.")


def require_examples(shots: Sequence[Pair], held_out: Sequence[Pair]) -> None:
    if not shots:
        raise field_refusal("no_examples", "examples", NO_EXAMPLES)
    if len(shots) > SHOTS_MAX:
        problem = (
            f"These are {len(shots)} examples; at most {SHOTS_MAX} are composed from. "
            "Move the rest to the held-out examples."
        )
        raise field_refusal("too_many_examples", "examples", problem)
    if len(held_out) > HELD_OUT_MAX:
        problem = f"These are {len(held_out)} held-out examples; at most {HELD_OUT_MAX} are measured on."
        raise field_refusal("too_many_held_out", "held_out", problem)


def require_unseen(held_out: Sequence[Pair], shots: Sequence[Pair]) -> list[Pair]:
    """The held-out examples that are not among the shots."""
    unseen = without_shots(held_out, shots)
    if held_out and not unseen:
        problem = (
            "Every held-out example is also among your examples, so nothing would be measured. "
            "Give others, or none."
        )
        raise field_refusal("held_out_seen", "held_out", problem)
    return unseen


def require_room_in_queue(owner: User) -> None:
    User.objects.select_for_update().get(pk=owner.pk)  # one request of an owner at a time
    if selectors.unfinished_count(owner) >= UNFINISHED_MAX:
        message = (
            f"You have {UNFINISHED_MAX} compositions waiting or running, the most at once. "
            "Wait for one to finish, or cancel one."
        )
        raise Refusal("too_many_running", message, status=429)


def modules_selected(
    base: BaseModel, method: str, selection: str, chosen: Sequence[Version], seed: int
) -> list[selectors.Fit]:
    """The modules that will take part, drawn and checked now, so that the row says which they are."""
    if selection == "chosen":
        return require_few(require_all_fit(chosen, base, method))
    fitting = [fit for fit in selectors.fits(base, method) if fit.fits]
    if not fitting:
        problem = (
            f"No module in the library can be composed on {base.name} with this method. Upload one first."
        )
        raise field_refusal("no_compatible_module", "modules", problem)
    if selection == "all":
        return require_few(fitting)
    return require_few(drawn(fitting, selection, seed))


def require_all_fit(chosen: Sequence[Version], base: BaseModel, method: str) -> list[selectors.Fit]:
    unique = list({version.pk: version for version in chosen}.values())
    if not unique:
        raise field_refusal(
            "no_modules", "modules", "Choose at least one module, or let all of them take part."
        )
    fits = selectors.fits_of(unique, base, method)
    problems = [f"{fit.name}: {reason.message}" for fit in fits for reason in fit.reasons]
    if problems:
        message = f"{' '.join(problems[:3])} Leave out what does not fit."
        raise Refusal("modules_do_not_match", message, fields={"modules": problems})
    return fits


def drawn(fitting: Sequence[selectors.Fit], selection: str, seed: int) -> list[selectors.Fit]:
    match = RANDOM_SELECTION.fullmatch(selection)
    if match is None:
        problem = f"“{selection[:40]}” selects no modules. Use all, random:20 (or another number), or chosen."
        raise field_refusal("bad_selection", "selection", problem)
    count = int(match[1])
    if count > len(fitting):
        problem = f"{count} modules cannot be drawn: {len(fitting)} fit. Draw at most so many, or take all."
        raise field_refusal("bad_selection", "selection", problem)
    return random.Random(seed).sample(list(fitting), count)


def require_few(fits: Sequence[selectors.Fit]) -> list[selectors.Fit]:
    if len(fits) > MODULES_MAX:
        problem = (
            f"These are {len(fits)} modules; at most {MODULES_MAX} are composed at once. Draw some at random."
        )
        raise field_refusal("too_many_modules", "modules", problem)
    return list(fits)
