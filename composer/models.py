"""Requests to compose modules for a task, and what came of them."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Self
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.postgres.indexes import HashIndex
from django.core.signing import BadSignature, Signer
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.text import slugify

from composer.core.spec.choices import BUDGET_LIMIT, DEFAULT_MAX_NEW_TOKENS, DEFAULT_TEMPLATE, SMALL_RANK
from composer.core.spec.verdict_labels import report_label
from hub_site.accounts.models import Namespace
from hub_site.accounts.names import NAME_LENGTH_MAX
from hub_site.common.clock import database_now
from hub_site.jobs.models import Job, JobEvent, Status
from hub_site.jobs.queues import Queue
from hub_site.notifications.models import Kind, Notice
from modules_registry.models import BaseModel, Module, StoredFile, Version

NAME_MAX, SENTENCE_MAX = 80, 300  # characters
SEED_MAX = 2**31 - 1  # the largest number of the column
STREAM_PROCESS_ALIVE = timedelta(seconds=20)  # it tells the others every few seconds


class Composition(Job):
    """One request to compose modules for a task. Private to its owner."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="compositions")
    name = models.CharField(max_length=NAME_MAX)
    sentence = models.CharField(max_length=SENTENCE_MAX, blank=True)  # the task in the owner's words
    base = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="compositions")
    method = models.CharField(max_length=20)  # names from composer.core.spec.choices
    search = models.CharField(max_length=80, default="auto")
    objective = models.CharField(max_length=20, default="loss")
    selection = models.CharField(max_length=80, default="all")  # "chosen", "all", "random:100+screen:20"
    budget = models.PositiveIntegerField()  # scored candidates at most; a gradient step counts three
    budget_fitted = models.PositiveIntegerField(null=True, blank=True)  # of it, what fits into the time,
    training_fitted = models.PositiveIntegerField(
        null=True, blank=True
    )  # and of training; null: not yet known
    slowness = models.FloatField(null=True, blank=True)  # a candidate took so many times the usual seconds
    batch_size = models.PositiveIntegerField(null=True, blank=True)  # of lorahub's objective; null: all
    seed = models.PositiveIntegerField()
    precision = models.CharField(max_length=10, default="auto")
    precision_found = models.CharField(max_length=10, blank=True)  # what auto was at the first attempt
    device = models.CharField(max_length=10, default="auto")
    rank = models.CharField(max_length=4, default=SMALL_RANK)  # "auto", "full", or what the adapter is cut to
    template = models.TextField(default=DEFAULT_TEMPLATE)
    max_new_tokens = models.PositiveIntegerField(default=DEFAULT_MAX_NEW_TOKENS)
    baselines = models.CharField(max_length=10, default="always")
    idempotency_key = models.CharField(max_length=80, null=True, blank=True)  # noqa: DJ001  null: not asked for
    request_digest = models.CharField(max_length=64)  # sha256 of what was asked

    # Where it waits, and which worker can take it.
    estimated_s = models.FloatField(default=0)  # as it was estimated when it was asked for
    is_quick = models.BooleanField(default=True)  # its lane; a quick job that takes too long leaves it
    memory_mb = models.PositiveIntegerField(default=0)  # it needs at least so much, going by the base's size

    example_notes = models.JSONField(default=list, blank=True)  # what was not used of what was brought
    stop_requested = models.BooleanField(default=False)  # the owner wants the best found so far
    mail_when_done = models.BooleanField(default=False)  # mail the owner when it is done or failed
    mailed_at = models.DateTimeField(null=True, blank=True)  # set before the mail is sent: never two
    steps_done = models.PositiveIntegerField(default=0)
    steps_planned = models.PositiveIntegerField(
        default=0
    )  # by the search itself: its unit is not the budget's
    best_loss = models.FloatField(null=True, blank=True)  # the search's objective, nats per label token
    stage = models.CharField(max_length=20, blank=True)
    stage_text = models.CharField(max_length=200, blank=True)
    report = models.JSONField(null=True, blank=True)  # the core's report.json, whole
    # The module's version that its adapter became.
    published_as = models.OneToOneField(
        Version, on_delete=models.SET_NULL, null=True, blank=True, related_name="composition"
    )

    # Staff closed its private link; a sentence for its owner. Empty: they did not.
    sharing_blocked = models.TextField(blank=True, editable=False)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                name="composition_budget_in_range", condition=models.Q(budget__range=(1, BUDGET_LIMIT))
            ),
            models.CheckConstraint(
                name="composition_done_has_a_report",
                condition=~models.Q(status="done") | models.Q(report__isnull=False),
            ),
            models.UniqueConstraint(fields=["owner", "idempotency_key"], name="composition_once_per_key"),
        ]
        indexes = [
            models.Index(fields=["owner", "-created_at"], name="composition_of_owner"),
            models.Index(
                fields=["is_quick", "due_at"], name="composition_waiting", condition=models.Q(status="queued")
            ),
        ]

    def __str__(self) -> str:
        return f"composition {self.pk}"  # its name is its owner's, and this goes into logs

    @classmethod
    def queues(cls) -> Iterable[Queue]:
        rows = cls.objects.all()
        yield Queue("compose-quick", "Compositions, quick", "compose", rows.filter(is_quick=True))
        yield Queue("compose-long", "Compositions, long", "compose", rows.filter(is_quick=False))

    def get_absolute_url(self) -> str:
        return reverse("composer:composition", args=[self.pk])

    def notice(self) -> Notice:
        if self.is_done and self.report is not None:
            text = f"“{self.name}” is done: {report_label(self.report)}."
        else:
            text = f"“{self.name}” has failed. {self.error_message}"
        about, path = f"composition:{self.pk}", self.get_absolute_url()
        return Notice(self.owner_id, Kind.COMPOSITION, about, text, path)

    @property
    def needs_cuda(self) -> bool:
        return self.device == "cuda"

    @property
    def has_adapter(self) -> bool:
        """It can be downloaded: from the moment it is written, while the comparisons still run."""
        return self.status != Status.CANCELLED and self.files.exists()

    @property
    def published_module(self) -> Module | None:
        """The module that its adapter became, as long as that is there."""
        version = self.published_as
        return version.module if version is not None and version.module.deleted_at is None else None

    @property
    def slug(self) -> str:
        """What its adapter's folder is called."""
        return slugify(self.name)[:60] or "adapter"


class Attempt(models.Model):
    """One worker's attempt at a composition: whose turn is next, and how much an account has computed.

    It is kept for a day, also when the composition is deleted.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="attempts")
    composition_id = models.UUIDField()
    is_quick = models.BooleanField()  # the lane that it was taken from
    cpu_s = models.FloatField(default=0)  # processor time of all its threads together, so far
    began_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())  # the last time that cpu_s was written

    class Meta:
        ordering = ["began_at"]
        indexes = [models.Index(fields=["owner", "is_quick", "-began_at"], name="attempt_of_owner")]

    def __str__(self) -> str:
        return f"attempt at {self.composition_id}"


class Example(models.Model):
    """One line of the task: an input and the output it should have."""

    class Role(models.TextChoices):
        SHOT = "shot", "To compose from"
        HELD_OUT = "held_out", "Held out, only to measure"

    composition = models.ForeignKey(Composition, on_delete=models.CASCADE, related_name="examples")
    role = models.CharField(max_length=8, choices=Role)
    position = models.PositiveIntegerField()
    input = models.TextField()
    output = models.TextField()

    class Meta:
        ordering = ["role", "position"]
        constraints = [
            models.UniqueConstraint(fields=["composition", "role", "position"], name="example_position_once"),
        ]
        indexes = [HashIndex(fields=["input"], name="example_by_input")]

    def __str__(self) -> str:
        return f"{self.input[:40]} → {self.output[:40]}"


class CompositionModule(models.Model):
    """A module that took part, pinned to the version it had, and the weight it was given."""

    composition = models.ForeignKey(Composition, on_delete=models.CASCADE, related_name="modules")
    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="used_in")
    name = models.CharField(max_length=2 * NAME_LENGTH_MAX + 1)  # as it was called then
    position = models.PositiveIntegerField()
    weight = models.FloatField(null=True, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(
                fields=["composition", "position"], name="composition_module_position_once"
            ),
            models.UniqueConstraint(fields=["composition", "version"], name="composition_module_once"),
        ]

    def __str__(self) -> str:
        return self.name


class Draft(models.Model):
    """A form that was begun and not sent: its fields as they were typed. Private to its owner."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="drafts")
    key = models.CharField(max_length=36)  # the form's own, so that two tabs are two drafts
    fields = models.JSONField()  # name -> the values it was sent with
    kept_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-kept_at"]
        constraints = [models.UniqueConstraint(fields=["owner", "key"], name="draft_once_per_form")]

    def __str__(self) -> str:
        return f"draft {self.key}"

    def get_absolute_url(self) -> str:
        return reverse("composer:new", query={"draft": self.key})

    @property
    def name(self) -> str:
        """What its writer calls it so far."""
        return "".join(self.fields.get("name", [])[:1]).strip()

    @property
    def title(self) -> str:
        """What to list it as: its name, else what its first example says. Empty while there is neither."""
        inputs = (text.strip() for text in self.fields.get("shots_input", []))
        return self.name or next(filter(None, inputs), "")

    @property
    def n_examples(self) -> int:
        given, wanted = (self.fields.get(f"shots_{side}", []) for side in ("input", "output"))
        return sum(bool("".join(row).strip()) for row in zip(given, wanted, strict=False))


class CompositionEvent(JobEvent):
    job = models.ForeignKey(Composition, on_delete=models.CASCADE, related_name="events")

    class Meta(JobEvent.Meta):
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="composition_event_number_once"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.kind}"

    @property
    def shown(self) -> dict[str, Any]:
        """What a watcher gets: not the numbers that only the search itself can go on from."""
        return {key: value for key, value in self.detail.items() if key != "vector"}


class SearchState(models.Model):
    """Where one gradient fit of an unfinished search stands: its next worker goes on from here."""

    composition = models.ForeignKey(Composition, on_delete=models.CASCADE, related_name="states")
    fit = models.CharField(max_length=200)
    state = models.JSONField()  # the core's `state` event, at most some 1.4 MB

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["composition", "fit"], name="search_state_once_per_fit"),
        ]

    def __str__(self) -> str:
        return f"{self.fit} of {self.composition_id}"


class ScreenedLossQuerySet(models.QuerySet["ScreenedLoss"]):
    def known_to(self, owner: object) -> "ScreenedLossQuerySet":
        """Those of this account, and everybody's; of nobody's account: everybody's."""
        return self.filter(models.Q(owner=None) | models.Q(owner=getattr(owner, "pk", None)))


class ScreenedLoss(models.Model):
    """The loss of one example under one module alone: scored once, for every composition that may know it.

    A loss that is there tells that somebody composed from the example, so it is its owner's. Those of
    ready-made examples are everybody's.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True
    )  # null: everybody's
    context = models.CharField(max_length=64)  # sha256 of the base's files, the template, the precision, …
    module_sha256 = models.CharField(max_length=64)  # of its weights
    example_sha256 = models.CharField(max_length=64)
    nats = models.FloatField()
    created_at = models.DateTimeField(db_default=Now(), editable=False, db_index=True)

    objects = ScreenedLossQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["example_sha256", "module_sha256", "context", "owner"],
                name="screened_loss_once",
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.nats:.3f} nats"


class ExampleSearch(Job):
    """Modules are looked for by examples: a base, the examples, and what each module lost on them alone.

    Only who asked may see it: an account, or a browser without one. It is kept for a day.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="example_searches",
    )
    # Without an account: keyed hashes, one of the browser's session and one of the address.
    session_hash = models.CharField(max_length=64, blank=True)
    address_hash = models.CharField(max_length=64, blank=True)
    base = models.ForeignKey(BaseModel, on_delete=models.CASCADE, related_name="example_searches")
    sentence = models.CharField(max_length=SENTENCE_MAX, blank=True)
    examples = models.JSONField()  # [[input, output], …]
    # What is tried, the most promising by words first: [{"name", "version", "shared", "loss_nats", "n_shots",
    # "answer"}, …]; the last three as far as they are measured.
    modules = models.JSONField(default=list)
    n_fitting = models.PositiveIntegerField(default=0)  # modules that fit the base, those not tried too
    base_loss_nats = models.FloatField(null=True, blank=True)  # of the base alone, per label token
    base_answer = models.TextField(blank=True)  # to the first example
    memory_mb = models.PositiveIntegerField(default=0)  # that its worker must have

    is_quick = True  # its lane

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(
                name="example_search_of_somebody",
                condition=models.Q(owner__isnull=False) | ~models.Q(session_hash=""),
            ),
        ]
        indexes = [
            models.Index(
                fields=["due_at"], name="example_search_waiting", condition=models.Q(status="queued")
            ),
            models.Index(fields=["address_hash", "created_at"], name="example_search_of_address"),
        ]

    def __str__(self) -> str:
        return f"search by examples {self.pk}"  # what was asked stays out of every log

    @classmethod
    def queues(cls) -> Iterable[Queue]:
        yield Queue("find", "Searches by examples", "compose", cls.objects.all())

    def get_absolute_url(self) -> str:
        return reverse("finding:search", args=[self.pk])

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(given, wanted) for given, wanted in self.examples]


class ResultFile(StoredFile):
    """A file of the finished adapter; there before the comparisons are."""

    composition = models.ForeignKey(Composition, on_delete=models.CASCADE, related_name="files")

    class Meta(StoredFile.Meta):
        constraints = [
            models.UniqueConstraint(fields=["composition", "path"], name="result_file_path_once"),
        ]

    @classmethod
    def counted_for(cls, owner: Namespace) -> "models.QuerySet[Any]":
        """Those of the compositions that the account of this name keeps."""
        return cls._default_manager.filter(composition__owner__namespace=owner)


class ShareLink(models.Model):
    """A private link to a report: whoever has it reads along. A composition has one or none.

    The token in the address is the key with the site's signature: the row alone does not make one.
    """

    composition = models.OneToOneField(Composition, on_delete=models.CASCADE, related_name="share")
    key = models.UUIDField(unique=True, default=uuid4)
    shows_answers = models.BooleanField(default=True)  # the held-out examples, with what was answered
    made_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)  # null: it stands until it is withdrawn

    def __str__(self) -> str:
        return f"link to composition {self.composition_id}"  # never its token: this goes into logs

    def get_absolute_url(self) -> str:
        return reverse("shared:report", args=[self.token])

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= database_now()

    @property
    def token(self) -> str:
        return share_signer().sign(self.key.hex)


def share_signer() -> Signer:
    return Signer(salt="composer.share", sep=".")


def share_key(token: str) -> UUID | None:
    """The key of a token that this site has signed; None for anything else."""
    try:
        return UUID(hex=share_signer().unsign(token))
    except (BadSignature, ValueError):
        return None


class StreamProcessQuerySet(models.QuerySet["StreamProcess"]):
    def alive(self) -> Self:
        return self.filter(seen_at__gte=Now() - STREAM_PROCESS_ALIVE)


class StreamProcess(models.Model):
    """A web process that holds streams open, as it tells the others: how many each owner watches there."""

    name = models.CharField(max_length=120, unique=True)  # host and process id
    by_owner = models.JSONField(default=dict)  # streams by the key of the owner
    seen_at = models.DateTimeField(db_default=Now())

    objects = StreamProcessQuerySet.as_manager()

    def __str__(self) -> str:
        return f"streams of {self.name}"
