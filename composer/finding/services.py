"""Looking for modules by examples: check what was asked, store the search with its modules, queue it."""

from collections.abc import Sequence

from django.db import transaction

from composer.core.spec.counting import count_noun
from composer.core.spec.examples import Example, without_repeats
from composer.finding.selectors import EXAMPLES_MAX, bases_for, demo_base_name, searches_of, searches_quota
from composer.matching.compatibility import find_fitting
from composer.matching.ranking import most_found, rank_fitting
from composer.matching.workers import needs_of, require_worker
from composer.models import SENTENCE_MAX, ExampleSearch
from composer.playground.selectors import Requester
from composer.playground.services import require_may_ask
from composer.run.tasks import wake_worker
from composer.task.examples import NO_EXAMPLES
from hub_site.common.errors import Refusal, field_refusal, log_refusals
from hub_site.jobs.models import Status
from modules_registry.models import BaseModel

METHOD = "exact"  # each module is measured alone: any shape fits
UNFINISHED_MAX = 2  # of one asker
WAITING_MAX = 50  # of all
RETRY_S = 10


def example_search_ask(
    *, requester: Requester, base: str | None = None, sentence: str = "", examples: Sequence[Example]
) -> ExampleSearch:
    """Store the search with the most promising modules, and queue it once it is committed.

    What this asker measured before on these examples is known at once.

    Args:
        base: its name; none: the first that the asker may search.

    Raises:
        Refusal: it cannot be asked (400, 401, 409), too often (429), or too many ask at once (503).
    """
    require_may_ask(requester)
    base_row = require_base(requester, base)
    require_examples(examples)
    examples = without_repeats(examples)
    if len(sentence) > SENTENCE_MAX:
        raise field_refusal("bad_sentence", "sentence", f"Use at most {SENTENCE_MAX} characters.")
    require_worker(base_row, "auto")
    fitting = find_fitting(base_row, METHOD, requester.user)
    if not fitting.count:
        raise field_refusal("no_compatible_module", "base", f"No module in the library fits {base_row.name}.")
    ranked = rank_fitting(fitting, sentence, examples, requester.user, most_found(base_row))
    with transaction.atomic():
        with log_refusals(requester.user and requester.user.pk):
            require_not_too_many(requester)
        search = ExampleSearch.objects.create(
            owner=requester.user,
            session_hash=requester.session_hash,
            address_hash=requester.address_hash,
            base=base_row,
            sentence=sentence,
            examples=[[pair.input, pair.output] for pair in examples],
            modules=[
                {"name": each.fit.name, "version": each.fit.version_id, "shared": list(each.shared)}
                for each in ranked
            ],
            n_fitting=fitting.count,
            memory_mb=needs_of(base_row, "auto").memory_mb,
        )
        # robust: with the broker away the row waits, and the sweeper queues it again
        transaction.on_commit(lambda: wake_worker.delay(), robust=True)
    return search


def require_base(requester: Requester, name: str | None) -> BaseModel:
    """The base of this name, or the first one; a visitor may search the demo base alone."""
    bases = bases_for(requester)
    if name is None and bases:
        return bases[0]
    base = next((base for base in bases if base.name == name), None)
    if base is not None:
        return base
    if requester.user is None and demo_base_name():
        message = f"Sign in to search the modules of other bases than {demo_base_name()}."
        raise Refusal("sign_in_first", message, status=401, fields={"base": [message]})
    raise field_refusal("invalid", "base", f"The library has no base model “{(name or '')[:80]}”.")


def require_examples(examples: Sequence[Example]) -> None:
    if not examples:
        raise field_refusal("no_examples", "examples", NO_EXAMPLES)
    if len(examples) > EXAMPLES_MAX:
        problem = (
            f"These are {len(examples)} examples; at most {EXAMPLES_MAX} are searched by. Leave some out."
        )
        raise field_refusal("too_many_examples", "examples", problem)


def require_not_too_many(requester: Requester) -> None:
    asked = searches_of(requester)
    if asked.filter(status__in=(Status.QUEUED, Status.RUNNING)).count() >= UNFINISHED_MAX:
        message = (
            f"{UNFINISHED_MAX} of your searches are not finished, the most at once. Wait for one to end."
        )
        raise Refusal("too_many_running", message, status=429, retry_after_s=RETRY_S)
    quota = searches_quota(requester)
    if quota.is_used_up:
        times = count_noun(quota.most, "time")
        message = (
            f"You have searched {times} within a minute, the most here. Search again in {quota.resets_s} s."
        )
        raise Refusal("too_often", message, status=429, retry_after_s=quota.resets_s)
    if ExampleSearch.objects.filter(status=Status.QUEUED).count() >= WAITING_MAX:
        message = f"Busy: {WAITING_MAX} searches wait already. Search again in {RETRY_S} seconds."
        raise Refusal("busy", message, status=503, retry_after_s=RETRY_S)
