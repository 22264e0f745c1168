"""Reading compositions, what can be composed, and the ready-made demo tasks. Reads only."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from math import ceil
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings
from django.db.models import Count, F, Q, QuerySet

from composer.core.spec import adapter_size
from composer.core.spec.choices import ADAPTERS_FOLDER
from composer.core.spec.examples import Example, is_storable
from composer.models import Attempt, Composition, CompositionModule, ExampleSearch, ResultFile
from composer.models import Example as ExampleRow
from hub_site.accounts.models import User
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal
from hub_site.common.quotas import Quota
from hub_site.jobs.models import Status, Worker, WorkerQuerySet
from modules_registry import selectors as registry
from modules_registry.blobs import open_stored
from modules_registry.models import BaseModel

DAY = timedelta(days=1)
USEFUL = ("use", "prompt")  # decisions that advise the composition
STATES = {  # that a list can be narrowed to; of verdicts, the one that is looked for
    "going": Q(status__in=(Status.QUEUED, Status.RUNNING)),
    "useful": Q(status=Status.DONE, report__verdict__decision__in=USEFUL),
    "other": Q(status=Status.DONE) & ~Q(report__verdict__decision__in=USEFUL),
    "ended": Q(status__in=(Status.FAILED, Status.CANCELLED)),
}


def compositions_of(owner: User) -> QuerySet[Composition]:
    rows: QuerySet[Composition] = (
        Composition.objects.filter(owner=owner)
        .defer("report")
        .select_related("base")
        .annotate(n_modules=Count("modules"))
        .order_by("-created_at")  # grouping for the count drops the rows' own order
    )
    return rows


def compositions_listed(owner: User, state: str = "", words: str = "") -> QuerySet[Composition, Any]:
    """As compositions_of, with what the list shows of each report: its verdict and its comparison."""
    rows = compositions_of(owner).filter(STATES.get(state, Q()))
    if words and is_storable(words):
        rows = rows.filter(Q(name__icontains=words) | Q(sentence__icontains=words))
    return rows.annotate(
        decision=F("report__verdict__decision"),
        quality=F("report__verdict__quality__level"),
        comparison=F("report__baselines"),
        n_held_out=F("report__n_held_out"),
    )


def states_counted(owner: User) -> dict[str, int]:
    """How many of the owner's compositions are in each state that the list can be narrowed to."""
    counts = {state: Count("pk", filter=condition) for state, condition in STATES.items()}
    found: dict[str, int] = Composition.objects.filter(owner=owner).aggregate(all=Count("pk"), **counts)
    return found


def composition_find(owner: User | None, composition_id: UUID) -> Composition | None:
    """The owner's composition; a stranger's does not exist."""
    return Composition.objects.filter(owner=owner, pk=composition_id).select_related("base").first()


def compositions_finished() -> int:
    """How many compositions this site has finished and keeps, whoever asked for them."""
    return Composition.objects.filter(status=Status.DONE).count()


def unfinished_count(owner: User) -> int:
    return Composition.objects.filter(owner=owner, status__in=(Status.QUEUED, Status.RUNNING)).count()


def cpu_uses(owner: User, *, since: datetime) -> QuerySet[Attempt, tuple[datetime, float]]:
    """When the account's compositions computed, and for how many seconds of processor time; oldest first."""
    attempts = Attempt.objects.filter(owner=owner, seen_at__gt=since).order_by("seen_at")
    return attempts.values_list("seen_at", "cpu_s")


def work_quotas(user: User) -> list[Quota]:
    """What an account may have composed here at once, and within a day."""
    cpu_s = sum(seconds for _, seconds in cpu_uses(user, since=database_now() - DAY))
    most_s = 0 if user.is_staff else settings.HUB_CPU_MINUTES_A_DAY * 60
    return [
        Quota(
            "compositions",
            "Compositions waiting or running",
            unfinished_count(user),
            settings.HUB_COMPOSITIONS_UNFINISHED_MAX,
        ),
        Quota(
            "processor_time",
            "CPU time within a day",
            ceil(cpu_s),
            most_s,
            unit="seconds",
            window_s=int(DAY.total_seconds()),
        ),
    ]


def examples_of_role(composition: Composition, role: str) -> list[Example]:
    rows = composition.examples.filter(role=role).values_list("input", "output")
    return [Example(*row) for row in rows]


def few_shot_examples(composition: Composition) -> list[Example]:
    return examples_of_role(composition, ExampleRow.Role.SHOT)


def held_out_examples(composition: Composition) -> list[Example]:
    return examples_of_role(composition, ExampleRow.Role.HELD_OUT)


def all_examples(composition: Composition) -> list[Example]:
    """Those to compose from and those that are held out."""
    return [Example(*row) for row in composition.examples.values_list("input", "output")]


def warnings_of_run(composition: Composition) -> list[str]:
    """What a worker told of it that may spoil the result."""
    told = composition.events.filter(kind="warning").values_list("detail", flat=True)
    return [str(detail["text"]) for detail in told]


def composition_named(owner: User | None, text: str) -> Composition | None:
    """The owner's composition by its id as text, which may be any text."""
    try:
        return composition_find(owner, UUID(text))
    except ValueError:
        return None


def example_search_named(owner: User | None, session_hash: str, text: str) -> ExampleSearch | None:
    """A search by examples by its id as text, which may be any text: the account's, or else the browser's.

    Args:
        session_hash: of the browser; empty: it has searched nothing.
    """
    is_account = owner is not None and not owner.is_guest
    whose = {"owner": owner} if is_account else {"owner": None, "session_hash": session_hash}
    if not is_account and not session_hash:
        return None
    try:
        return ExampleSearch.objects.filter(**whose, pk=UUID(text)).select_related("base").first()
    except ValueError:
        return None


def modules_with_weight(composition: Composition) -> Iterator[tuple[CompositionModule, float]]:
    """The modules whose numbers are in the adapter, with their weights, in their order."""
    report = composition.report or {"modules": []}
    weights = {row["name"]: row["weight"] for row in adapter_size.modules_with_weight(report)}
    for row in composed_modules(composition):
        if row.name in weights:
            yield row, weights[row.name]


def composed_modules(composition: Composition) -> QuerySet[CompositionModule]:
    return composition.modules.select_related("version__module__namespace")


def withheld_because(composition: Composition) -> str:
    """Why its adapter is handed to nobody now, as a sentence; empty when it is.

    The numbers of a module that staff hold are in it. Without a report yet, any module's may be.
    """
    held = composed_modules(composition).exclude(version__module__hold="")
    names = list(held.values_list("name", flat=True))
    if names and composition.report is not None:
        inside = {row.name for row, _ in modules_with_weight(composition)}
        names = [name for name in names if name in inside]
    if not names:
        return ""
    return f"The staff of this site have taken {names[0]} out of it, so this adapter is not handed out."


def require_handed_out(composition: Composition) -> None:
    reason = withheld_because(composition)
    if reason:
        raise Refusal("module_held", reason, status=409)


def result_files(composition: Composition) -> QuerySet[ResultFile]:
    """The files of its own adapter; those of the baselines' are apart."""
    return composition.files.exclude(path__startswith=f"{ADAPTERS_FOLDER}/")


def baseline_files(composition: Composition, key: str) -> QuerySet[ResultFile]:
    """The files of a baseline's adapter; none where it has none."""
    return composition.files.filter(path__startswith=f"{ADAPTERS_FOLDER}/{key}/")


def result_open(file: ResultFile) -> BinaryIO:
    """A file of a result, whole: what was altered is told, not handed out."""
    return open_stored(file.sha256, check=True)


def base_find(name: str) -> BaseModel | None:
    return BaseModel.objects.filter(name=name).first() if is_storable(name) else None


def bases_counted() -> list[BaseModel]:
    """With modules_count, the base for which the library has most modules first."""
    return sorted(registry.base_models(), key=lambda base: -base.modules_count)


def base_default() -> BaseModel | None:
    return next(iter(bases_counted()), None)


def private_modules(composition: Composition) -> list[str]:
    """Those of its modules that are handed out only to whoever brings an access token."""
    return list(composition.modules.filter(version__module__private=True).values_list("name", flat=True))


def compose_workers() -> WorkerQuerySet:
    return Worker.objects.filter(queue="compose")
