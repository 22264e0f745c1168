"""What is shared here: LoRA modules, their immutable versions, and the language models they adapt."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Collate, Lower, Now, Upper
from django.urls import NoReverseMatch, reverse
from pgvector.django import HalfVectorField, HnswIndex

from hub_site.accounts.models import Namespace, User
from hub_site.accounts.names import NAME_LENGTH_MAX
from hub_site.accounts.selectors import namespaces_readable_by
from hub_site.common.models import TimeStamped
from hub_site.jobs.models import Job
from hub_site.jobs.queues import Queue
from modules_registry.core.adapter_config import is_base_name
from modules_registry.core.sketch import SKETCH_LENGTH
from modules_registry.core.text_sketch import TEXT_SKETCH_LENGTH

SHA256_LENGTH = 64
COMMIT_ID_LENGTH = 40
REF_LENGTH_MAX = 100


# Columns of a module that no edit of it writes: `popularity.py` counts, `indexing.py` notes evidence.
COUNTERS = ("downloads", "likes", "trending", "has_evidence")


def weeks_since_1970(time: models.Expression) -> models.Func:
    """The unit of `Module.trending`; popularity halves in one of them."""
    return models.Func(
        time, template="EXTRACT(EPOCH FROM %(expressions)s) / 604800", output_field=models.FloatField()
    )


class StoredFile(models.Model):
    """A file of something: its path inside that thing, and the blob in the store that holds its bytes."""

    path = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=SHA256_LENGTH, db_index=True)
    size_bytes = models.PositiveBigIntegerField()

    class Meta:
        abstract = True
        ordering = ["path"]

    def __str__(self) -> str:
        return self.path

    @classmethod
    def counted_for(cls, owner: Namespace) -> "models.QuerySet[Any]":
        """The files that count against an owner's storage; none, unless the kind of file says which."""
        return cls._default_manager.none()


def base_address(name: str) -> str:
    """The page of a base model; one without an owner in its name has none, but its modules can be listed."""
    owner, slash, rest = name.partition("/")
    if slash:
        with suppress(NoReverseMatch):  # no owner here can have such a name
            return reverse("modules_registry:module", args=[owner, rest])
    return reverse("modules_registry:list", query={"base": name})


class BaseModel(TimeStamped):
    """A language model of the library: modules for it can be composed here. Only staff add one."""

    class Kind(models.TextChoices):
        SEQ2SEQ = "seq2seq", "Encoder-decoder"
        CAUSAL = "causal", "Decoder-only"

    name = models.CharField(max_length=2 * NAME_LENGTH_MAX + 1, unique=True)  # "google/flan-t5-large"
    revision = models.CharField(max_length=COMMIT_ID_LENGTH)  # the pinned commit, or a digest of the files
    sentence = models.CharField(max_length=300, blank=True)
    licence = models.CharField(max_length=60, blank=True)
    kind = models.CharField(max_length=8, choices=Kind)
    architecture = models.CharField(max_length=100)  # "T5ForConditionalGeneration"
    parameters = models.PositiveBigIntegerField()
    layers = models.JSONField(default=dict)  # linear layer's path -> [d_out, d_in]
    # Its chat template around {input}; "" without a chat template, null where it is not known.
    chat_prompt = models.TextField(null=True, blank=True)  # noqa: DJ001
    answer_end = models.TextField(blank=True)  # that ends an answer, such as "<|im_end|>"

    modules_count: int  # that everybody may compose on it, where `selectors.base_models` read it

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def commit_id(self) -> str:
        return self.revision

    def get_absolute_url(self) -> str:
        return base_address(self.name)


class BaseAlias(models.Model):
    """Another name of a base model: of the same weights, quantized or moved, as staff have declared it.

    Trainers write such names, like unsloth/llama-3-8b-bnb-4bit.
    """

    name = models.CharField(max_length=2 * NAME_LENGTH_MAX + 1)
    base = models.ForeignKey(BaseModel, on_delete=models.CASCADE, related_name="aliases")

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "Base aliases"
        constraints = [models.UniqueConstraint(Upper("name"), name="base_alias_once_in_any_case")]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """A name that modules can write, and that is neither a base of its own nor declared already."""
        if not is_base_name(self.name):
            message = "Write a model's name as on the Hub: unsloth/llama-3-8b-bnb-4bit."
            raise ValidationError({"name": message})
        same = BaseModel.objects.filter(name__iexact=self.name).first()
        if same is not None:
            message = f"{same.name} is a base model of this library, so it cannot be another name of one."
            raise ValidationError({"name": message})
        declared = BaseAlias.objects.filter(name__iexact=self.name).exclude(pk=self.pk).first()
        if declared is not None:
            message = f"{declared.name} is declared already: as another name of {declared.base.name}."
            raise ValidationError({"name": message})


class BaseModelFile(StoredFile):
    base = models.ForeignKey(BaseModel, on_delete=models.CASCADE, related_name="files")

    class Meta(StoredFile.Meta):
        constraints = [
            models.UniqueConstraint(fields=["base", "path"], name="base_model_file_path_once"),
        ]


class Tag(models.Model):
    name = models.CharField(max_length=40, unique=True)  # lower case, words joined by "-"

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Hold(models.TextChoices):
    """What staff did to a module; empty: nothing."""

    QUARANTINE = "quarantine", "In quarantine"  # until they decide
    TAKEDOWN = "takedown", "Taken down"  # for good: its files are deleted


# What can be listed at all, whoever asks: the condition of the indexes that lists are read by.
LISTED = models.Q(current__isnull=False, deleted_at=None, hold="")


class FacetValue(models.Model):
    """One value by which the library can be narrowed: a tag, a base model, an owner, a rank.

    A module's row holds the keys of its values, so that a search compares numbers.
    """

    facet = models.CharField(max_length=12)  # the name of its filter in an address
    value = models.CharField(max_length=2 * NAME_LENGTH_MAX + 1)
    n_modules = models.PositiveIntegerField(default=0)  # that everyone may see, when they were last counted

    class Meta:
        constraints = [models.UniqueConstraint(fields=["facet", "value"], name="facet_value_once")]
        indexes = [
            models.Index(
                Collate(Lower("value"), "C"),
                name="facet_value_beginning",
                condition=models.Q(n_modules__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.facet}={self.value}"


class SearchWord(models.Model):
    """A word that published modules use: what a misspelled one is compared with."""

    word = models.CharField(max_length=40, primary_key=True, db_collation="C")  # lower case, without accents
    lexeme = models.CharField(max_length=40, db_index=True)  # its stem, as the text search knows it
    n_modules = models.PositiveIntegerField(default=1)  # with a word of this stem, when last counted

    class Meta:
        indexes = [GinIndex(OpClass("word", name="gin_trgm_ops"), name="search_word_trigrams")]

    def __str__(self) -> str:
        return self.word


class SynonymGroup(models.Model):
    """Words and phrases that mean the same in a search. Staff edit them in the administration."""

    words = models.TextField(
        help_text="Separated by commas: uppercase, capitals, capital letters. Each finds all the others."
    )

    class Meta:
        ordering = ["words"]

    def __str__(self) -> str:
        return self.words[:80]


def of_suspended() -> models.Q:
    """What belongs to a suspended account: few, so that the database reads their names once for a list."""
    return models.Q(namespace__in=Namespace.objects.filter(user__suspended_at__isnull=False))


class ModuleQuerySet(models.QuerySet["Module"]):
    def existing(self) -> "ModuleQuerySet":
        return self.filter(deleted_at=None)

    def visible_to(self, viewer: object) -> "ModuleQuerySet":
        """What this visitor may read, download, compose and try: the one rule for every way in.

        It is what is published for all, and all of the owners they belong to. What staff hold, and what
        belongs to a suspended account, is nobody's: not even its owner gets its bytes.
        """
        for_all = models.Q(private=False, current__isnull=False)
        theirs = models.Q(namespace__in=namespaces_readable_by(viewer))
        return self.existing().filter(for_all | theirs, hold="").exclude(of_suspended())

    def held_before(self, viewer: object) -> "ModuleQuerySet":
        """What staff hold and this visitor is told of, without its bytes: its owner's people and staff."""
        held = self.existing().exclude(hold="")
        if isinstance(viewer, User) and viewer.is_staff:
            return held
        return held.filter(namespace__in=namespaces_readable_by(viewer))

    def hidden(self) -> "ModuleQuerySet":
        """What no stranger may see, whoever decided it."""
        return self.filter(models.Q(private=True) | ~models.Q(hold="") | of_suspended())

    def published(self) -> "ModuleQuerySet":
        """Those with a complete adapter; the others are drafts."""
        return self.filter(current__isnull=False)


# "squad_v2.0" as the words squad, v2 and 0.
NAME_IN_WORDS = models.Func(
    models.F("name"),
    models.Value("-_."),
    models.Value("   "),
    function="translate",
    output_field=models.TextField(),
)


class Module(TimeStamped):
    """A LoRA module at /{namespace}/{name}. Its current version is its content; deleted names stay taken.

    Without a current version it is a draft: it exists for its owner alone, until commits complete it.
    """

    namespace = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="modules")
    name = models.CharField(max_length=NAME_LENGTH_MAX)
    key = models.CharField(max_length=NAME_LENGTH_MAX, editable=False)  # the name as a reader sees it
    sentence = models.CharField(max_length=300, blank=True)  # what it was trained for
    licence = models.CharField(max_length=60, blank=True)
    tags = models.ManyToManyField(Tag, related_name="modules", blank=True)
    private = models.BooleanField(default=False)  # for strangers it does not exist
    hold = models.CharField(max_length=10, choices=Hold, blank=True, default="", editable=False)
    hold_reason = models.TextField(blank=True, editable=False)  # a sentence for its owner
    held_at = models.DateTimeField(null=True, blank=True, editable=False)
    current = models.OneToOneField(
        "Version", on_delete=models.PROTECT, null=True, blank=True, related_name="current_of"
    )
    # What has come so far, while no version is complete.
    draft = models.OneToOneField(
        "Version", on_delete=models.PROTECT, null=True, blank=True, related_name="draft_of"
    )
    # Counts, which `popularity.py` alone writes. Downloads: one per version, day and client.
    downloads = models.PositiveBigIntegerField(default=0, editable=False)
    likes = models.PositiveBigIntegerField(default=0, editable=False)
    # Sorts by recent downloads and likes; without any, by when it was made.
    trending = models.FloatField(db_default=weeks_since_1970(Now()), editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True)
    left_out = models.JSONField(
        default=list, blank=True
    )  # paths that clients sent and that are no part of it
    weights_announced_at = models.DateTimeField(null=True, blank=True)  # a client said that it will send them
    # Of a repository without files: when its upload was refused, which program made it, and whether it was
    # made for its own sake; one that was made for a refused upload alone is swept.
    refused_at = models.DateTimeField(null=True, blank=True)
    begun_with = models.CharField(max_length=100, blank=True)
    is_kept_empty = models.BooleanField(default=False)
    # A name that a module had before it was renamed leads to it.
    moved_to = models.ForeignKey(
        "self", on_delete=models.CASCADE, null=True, blank=True, related_name="former_names"
    )
    # What the search and lists read, kept by `indexing.describe_for_search`.
    search_text = models.TextField(blank=True, editable=False)  # sentence, tags and base
    card_text = models.TextField(blank=True, editable=False)  # the words of its card
    facets = ArrayField(models.IntegerField(), default=list, editable=False)  # keys of FacetValue
    # The first example of its card, as lists show it; empty: the card has none.
    sample_input = models.CharField(max_length=300, blank=True, default="", db_default="", editable=False)
    sample_output = models.CharField(max_length=300, blank=True, default="", db_default="", editable=False)
    indexed_at = models.DateTimeField(null=True, editable=False)  # null: these are to be written
    has_evidence = models.BooleanField(default=False, editable=False)  # something was measured with it
    search = models.GeneratedField(
        expression=SearchVector("name", weight="A", config="simple")
        + SearchVector(NAME_IN_WORDS, weight="A", config="english")
        + SearchVector("search_text", weight="B", config="english")
        + SearchVector("card_text", weight="D", config="english"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    objects = ModuleQuerySet.as_manager()

    # What no list shows.
    WIDE_COLUMNS = ("search", "search_text", "card_text", "facets", "left_out", "hold_reason")

    class Meta:
        ordering = ["-updated_at"]
        constraints = [
            models.UniqueConstraint(fields=["namespace", "key"], name="module_name_once_per_namespace"),
        ]
        indexes = [
            GinIndex(fields=["search"], name="module_search"),
            GinIndex(fields=["facets"], name="module_facets"),
            GinIndex(OpClass(Upper("name"), name="gin_trgm_ops"), name="module_name_trigrams"),
            # One for each order of the library.
            models.Index(fields=["-updated_at", "-id"], name="module_by_change", condition=LISTED),
            models.Index(fields=["-created_at", "-id"], name="module_by_creation", condition=LISTED),
            models.Index(fields=["-downloads", "-id"], name="module_by_downloads", condition=LISTED),
            models.Index(fields=["-likes", "-id"], name="module_by_likes", condition=LISTED),
            models.Index(fields=["-trending", "-id"], name="module_by_trending", condition=LISTED),
            models.Index(Collate(Lower("name"), "C"), "id", name="module_by_name", condition=LISTED),
            models.Index(
                fields=["namespace", "-updated_at", "-id"], name="module_of_owner", condition=LISTED
            ),
            models.Index(fields=["id"], name="module_to_index", condition=models.Q(indexed_at=None)),
        ]

    def __str__(self) -> str:
        return self.full_name

    @property
    def full_name(self) -> str:
        return f"{self.namespace.name}/{self.name}"

    @property
    def is_hidden(self) -> bool:
        """Whether no stranger may see it: as `ModuleQuerySet.hidden`."""
        user = self.namespace.user
        return self.private or bool(self.hold) or (user is not None and user.suspended_at is not None)

    @property
    def is_gone(self) -> bool:
        """Whether its files belong nowhere any more: its owner deleted it, or staff took it down."""
        return self.deleted_at is not None or self.hold == Hold.TAKEDOWN

    @property
    def hold_text(self) -> str:
        """What its owner is told; empty while nobody holds it."""
        if not self.hold:
            return ""
        words = {Hold.QUARANTINE: "is in quarantine", Hold.TAKEDOWN: "was taken down"}
        return f"{self.full_name} {words[Hold(self.hold)]}. Reason: {self.hold_reason}"

    def get_absolute_url(self) -> str:
        return reverse("modules_registry:module", args=[self.namespace.name, self.name])

    def save_all_but_counts(self) -> None:
        """Save it as it was read and changed; what was counted meanwhile stays."""
        columns = [
            field for field in self._meta.concrete_fields if not (field.primary_key or field.generated)
        ]
        self.save(update_fields=[field.name for field in columns if field.name not in COUNTERS])


class Sketch(models.Model):
    """What certain weights do to a base model, measured by a worker: once, however many versions have them.

    Equal for the same factors and scalings in another file. Sketches of two bases cannot be compared.
    """

    base_name = models.CharField(max_length=2 * NAME_LENGTH_MAX + 1)
    delta_sha256 = models.CharField(max_length=SHA256_LENGTH)  # as modules_registry.core.sketch.measure
    vector = HalfVectorField(dimensions=SKETCH_LENGTH, null=True)  # null: they change nothing
    norm = models.FloatField()  # ‖ΔW‖_F over all layers
    # [[path, ‖ΔW‖_F, largest singular value], …] in the order of the paths
    strengths = models.JSONField(default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["base_name", "delta_sha256"], name="sketch_once_per_base"),
        ]
        indexes = [
            HnswIndex(
                fields=["vector"],
                name="sketch_nearest",
                m=16,
                ef_construction=64,
                opclasses=["halfvec_cosine_ops"],
            ),
            models.Index(
                fields=["delta_sha256"], opclasses=["varchar_pattern_ops"], name="sketch_delta_sha256"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.delta_sha256[:8]} on {self.base_name}"


class NearCopy(models.Model):
    """Two sketches of one base whose deltas have a cosine of at least 0.999, computed from the files."""

    first = models.ForeignKey(Sketch, on_delete=models.CASCADE, related_name="near_copies_after")
    second = models.ForeignKey(Sketch, on_delete=models.CASCADE, related_name="near_copies_before")
    cosine = models.FloatField()

    class Meta:
        verbose_name_plural = "Near-copies"
        constraints = [
            models.UniqueConstraint(fields=["first", "second"], name="near_copy_once"),
            models.CheckConstraint(
                name="near_copy_in_order", condition=models.Q(first__lt=models.F("second"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.first_id} and {self.second_id}: {self.cosine:.4f}"


class VersionDistance(models.Model):
    """How far a version's deltas lie from those of the one before it, computed from the files."""

    version = models.OneToOneField("Version", on_delete=models.CASCADE, related_name="distance_before")
    before = models.ForeignKey("Version", on_delete=models.CASCADE, related_name="distances_after")
    distance = models.FloatField()  # ‖ΔW - ΔW_before‖_F over all layers
    cosine = models.FloatField()
    # [[path, ‖ΔW_before‖_F, ‖ΔW‖_F, ‖ΔW - ΔW_before‖_F, cosine], …] in the order of the paths
    layers = models.JSONField()

    def __str__(self) -> str:
        return f"{self.before_id} to {self.version_id}: {self.distance:.3g}"


class Version(models.Model):
    """One immutable state of a module: its files, and the facts the gate read from them.

    Those that were published one after the other are numbered. A step of a draft, or of a branch, has no
    number; a draft's step has no facts either.
    """

    module = models.ForeignKey(Module, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(null=True, blank=True)  # 1, 2, 3, … within the module
    commit_id = models.CharField(max_length=COMMIT_ID_LENGTH, unique=True)
    parent = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="children"
    )
    message = models.CharField(max_length=200)
    description = models.TextField(blank=True)  # what a Hub client says below the message
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    base_name = models.CharField(max_length=2 * NAME_LENGTH_MAX + 1, blank=True)  # as the uploader named it
    # The library's base of that name; empty: published, but not composable here.
    base = models.ForeignKey(
        BaseModel, on_delete=models.SET_NULL, null=True, blank=True, related_name="versions"
    )
    base_revision = models.CharField(max_length=100, blank=True)  # which one the config names, if any
    task_type = models.CharField(max_length=30, blank=True)
    rank = models.PositiveIntegerField(default=0)
    alpha = models.FloatField(default=0)
    scaling = models.FloatField(default=0)  # what multiplies B·A
    targets = models.JSONField(default=list)  # ["q", "v"]
    parameters = models.PositiveBigIntegerField(default=0)
    dtype = models.CharField(max_length=10, blank=True)
    weights_sha256 = models.CharField(max_length=SHA256_LENGTH, blank=True)
    prompt_template = models.TextField(blank=True)  # that it was trained with; empty: not known
    has_own_ranks = models.BooleanField(default=False)  # some layers have a rank or a scaling of their own
    not_composable = models.TextField(
        blank=True
    )  # why it can only be shared, whatever its base; empty: it can
    repairs = models.JSONField(default=list, blank=True)  # [{"code": …, "sentence": …}] of what was repaired
    size_bytes = models.PositiveBigIntegerField()
    # What its weights do; null until a worker has measured them, or if they cannot be, like those of a DoRA.
    sketch = models.ForeignKey(
        Sketch, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="versions"
    )
    measure_attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    # Its commit on the Hub behind this site, in the module's repository there; empty: it is not there.
    hub_commit_id = models.CharField(max_length=COMMIT_ID_LENGTH, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["module", "number"], name="version_number_once_per_module"),
            models.CheckConstraint(
                name="version_numbered_only_if_complete",
                condition=models.Q(number=None) | models.Q(rank__gt=0),
            ),
        ]
        indexes = [
            models.Index(fields=["base_name"], name="version_base_name"),
            models.Index(
                fields=["author", "-created_at", "-id"],
                name="version_newest_of_author",
                condition=models.Q(number__isnull=False),
            ),
            models.Index(
                fields=["weights_sha256"],
                name="version_weights_sha256",
                condition=~models.Q(weights_sha256=""),
            ),
            models.Index(
                fields=["measure_attempts", "-id"],
                name="version_unmeasured",
                condition=models.Q(sketch=None, rank__gt=0, not_composable=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.module_id}@{self.commit_id[:8]}"

    def get_absolute_url(self) -> str:
        namespace, name = self.module.full_name.split("/")
        return reverse("modules_registry:version", args=[namespace, name, self.revision])

    @property
    def revision(self) -> str:
        """The shortest way an address names it for good."""
        return f"v{self.number}" if self.number else self.commit_id

    @property
    def is_complete(self) -> bool:
        """Whether it holds an adapter that passed the gate, not only parts of one."""
        return self.rank > 0


class Candidate(models.Model):
    """A module that can be composed on a base of the library: the narrow row that is read to choose one.

    There is one for each module that exists, is held by nobody, and has a current version with a base; it has
    the facts of that version. Triggers of the database keep it, in the migration that makes it.
    """

    module = models.OneToOneField(
        Module, on_delete=models.DO_NOTHING, primary_key=True, db_constraint=False, related_name="candidate"
    )
    base = models.ForeignKey(
        BaseModel, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="candidates"
    )
    version = models.ForeignKey(
        Version, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    namespace = models.ForeignKey(
        Namespace, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    name = models.CharField(max_length=2 * NAME_LENGTH_MAX + 1)  # owner/name
    private = models.BooleanField()
    rank = models.PositiveIntegerField()
    scaling = models.FloatField()
    targets = models.JSONField()
    has_own_ranks = models.BooleanField()
    size_bytes = models.PositiveBigIntegerField()  # of the version's files
    weights_sha256 = models.CharField(max_length=SHA256_LENGTH)
    n_words = models.PositiveIntegerField()  # that it is found by

    class Meta:
        ordering = ["name"]
        indexes = [
            models.Index(
                fields=["base", "private", "rank", "scaling", "has_own_ranks", "targets"],
                include=["namespace", "module"],  # so that counting reads the index alone
                name="candidate_counted",
            ),
            models.Index(fields=["base", "name"], name="candidate_by_name"),
            models.Index(fields=["base", "weights_sha256"], name="candidate_by_weights"),
        ]

    def __str__(self) -> str:
        return self.name


class CandidateWord(models.Model):
    """A word, in its stem, of the name, the sentence or the tags of a candidate; kept with the candidate."""

    pk = models.CompositePrimaryKey("base_id", "word", "module_id")
    base = models.ForeignKey(
        BaseModel, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    word = models.CharField(max_length=40, db_collation="C")
    module = models.ForeignKey(Module, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")

    def __str__(self) -> str:
        return self.word


class VersionFile(StoredFile):
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="files")
    # The git blob id of the file as a Hub client sent it: a config is stored as the gate wrote it anew, and
    # the client must still see that it has sent this one already.
    uploaded_sha1 = models.CharField(max_length=COMMIT_ID_LENGTH, blank=True)
    # The git blob id of the file as it is stored, of its pointer if it is large; empty: not known yet.
    git_sha1 = models.CharField(max_length=COMMIT_ID_LENGTH, blank=True, editable=False)

    class Meta(StoredFile.Meta):
        constraints = [
            models.UniqueConstraint(fields=["version", "path"], name="version_file_path_once"),
        ]
        indexes = [
            models.Index(
                fields=["git_sha1"],
                opclasses=["varchar_pattern_ops"],
                name="version_file_git_sha1",
                condition=~models.Q(git_sha1=""),
            ),
            models.Index(
                fields=["id"], name="version_file_without_git_sha1", condition=models.Q(git_sha1="")
            ),
            models.Index(
                fields=["uploaded_sha1"],
                opclasses=["varchar_pattern_ops"],
                name="version_file_uploaded_sha1",
                condition=~models.Q(uploaded_sha1=""),
            ),
        ]

    @classmethod
    def counted_for(cls, owner: Namespace) -> "models.QuerySet[Any]":
        return cls._default_manager.filter(version__module__namespace=owner, version__module__deleted_at=None)


class TextSketch(models.Model):
    """What is said of a module, as numbers: its name, sentence, tags and card. Kept by the services."""

    module = models.OneToOneField(
        Module, on_delete=models.CASCADE, primary_key=True, related_name="text_sketch"
    )
    vector = HalfVectorField(dimensions=TEXT_SKETCH_LENGTH, null=True)  # null: it says nothing of a task

    class Meta:
        indexes = [
            HnswIndex(
                fields=["vector"],
                name="text_sketch_nearest",
                m=16,
                ef_construction=64,
                opclasses=["halfvec_cosine_ops"],
            ),
        ]

    def __str__(self) -> str:
        return str(self.module_id)


class Ref(TimeStamped):
    """A branch, which commits move, or a tag, which stays. “main” is the module's own current version."""

    class Kind(models.TextChoices):
        BRANCH = "branch", "Branch"
        TAG = "tag", "Tag"

    module = models.ForeignKey(Module, on_delete=models.CASCADE, related_name="refs")
    kind = models.CharField(max_length=6, choices=Kind)
    name = models.CharField(max_length=REF_LENGTH_MAX)
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="refs")
    message = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["module", "name"], name="ref_name_once_per_module"),
        ]

    def __str__(self) -> str:
        return self.name


class IncomingFile(StoredFile):
    """A file that a Hub client has sent ahead of the commit that will name it."""

    module = models.ForeignKey(Module, on_delete=models.CASCADE, related_name="incoming")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta(StoredFile.Meta):
        constraints = [
            models.UniqueConstraint(fields=["module", "user", "sha256"], name="incoming_file_once"),
        ]


class VersionDownload(models.Model):
    """One client fetched the weights of one version on one day. Who it was cannot be told from it."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="download_days")
    day = models.DateField()
    client = models.CharField(max_length=SHA256_LENGTH)  # a keyed hash of day and visitor

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "day", "client"], name="download_once_per_day"),
        ]

    def __str__(self) -> str:
        return f"{self.version_id} on {self.day}"


class DownloadDay(models.Model):
    """How many downloads of a module were counted on one day."""

    module = models.ForeignKey(Module, on_delete=models.CASCADE, related_name="download_days")
    day = models.DateField()
    downloads = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["day"]
        constraints = [
            models.UniqueConstraint(fields=["module", "day"], name="download_day_once_per_module"),
        ]

    def __str__(self) -> str:
        return f"{self.module_id} on {self.day}: {self.downloads}"


class Like(models.Model):
    """An account likes a module."""

    module = models.ForeignKey(Module, on_delete=models.CASCADE, related_name="liked_by")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="likes")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "module"], name="like_once_per_user"),
        ]
        indexes = [models.Index(fields=["user", "-created_at"], name="like_newest_of_user")]

    def __str__(self) -> str:
        return f"{self.user_id} likes {self.module_id}"


class HubRepository(Job):
    """A module's repository on the Hub behind this site, and the work of keeping it equal to the module.

    One job per module, so that versions arrive there in their order. When something changes here, a
    finished job is queued again.
    """

    module = models.OneToOneField(Module, on_delete=models.CASCADE, related_name="hub_repository")
    repo_id = models.CharField(max_length=2 * NAME_LENGTH_MAX + 1)
    is_there = models.BooleanField(default=False)  # made, and not missing when we last looked
    is_private = models.BooleanField(default=False)  # as the Hub was told last
    attempts = models.PositiveIntegerField(default=0)  # that failed in a row

    class Meta:
        verbose_name_plural = "Hub repositories"

    @classmethod
    def queues(cls) -> Iterable[Queue]:
        yield Queue("mirror", "Copies to the Hub", "transfer", cls.objects.all())

    def __str__(self) -> str:
        return self.repo_id


class Lineage(models.Model):
    """A version went into another one, with this weight. What was made from it keeps it."""

    child = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="parents")
    made_from = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="made_into")
    weight = models.FloatField()  # dimensionless; where layers have weights of their own, their mean
    position = models.PositiveIntegerField()

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["child", "made_from"], name="lineage_once_per_parent"),
        ]

    def __str__(self) -> str:
        return f"{self.made_from_id} in {self.child_id}"


class Evidence(models.Model):
    """What was measured with a module, whoever measured it, without what it was measured on.

    ALONE: its loss alone on the examples of a task that everybody can read, beside that of the base alone.
    SCORE: how often it is right alone on such a task, with its loss.
    PART: the loss of a result without it, beside that of the whole result.
    WHOLE: the loss of the module as a result that was published, beside that of the base alone, and how often
    it is right.
    """

    class Kind(models.TextChoices):
        ALONE = "alone", "Alone on a task"
        SCORE = "score", "Right answers alone on a task"
        PART = "part", "As a part of a result"
        WHOLE = "whole", "As a published result"

    module = models.ForeignKey(Module, on_delete=models.CASCADE, related_name="evidence")
    weights_sha256 = models.CharField(max_length=SHA256_LENGTH)  # that were measured
    kind = models.CharField(max_length=5, choices=Kind)
    source = models.CharField(max_length=100)  # names one measurement; told to nobody
    task = models.CharField(max_length=80, blank=True)  # that everybody can read; empty: somebody's own
    n_examples = models.PositiveIntegerField()
    loss_nats = models.FloatField()  # per label token; and so is the next
    reference_nats = models.FloatField(null=True, blank=True)  # null: not measured
    # Right answers to examples that nothing was fitted on, in percent; null: not measured.
    score_percent = models.FloatField(null=True, blank=True)
    reference_percent = models.FloatField(null=True, blank=True)  # of the base alone
    n_scored = models.PositiveIntegerField(null=True, blank=True)  # examples that were answered
    measured_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["module", "kind", "source"], name="evidence_once_per_source"),
            models.CheckConstraint(
                name="evidence_score_of_some_examples",
                condition=models.Q(score_percent=None) | models.Q(n_scored__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of module {self.module_id}"


class Origin(models.Model):
    """Where an imported version came from, and what was repaired on the way."""

    version = models.OneToOneField(Version, on_delete=models.CASCADE, related_name="origin")
    endpoint = models.CharField(max_length=200)  # the Hub's address
    repo_id = models.CharField(max_length=2 * NAME_LENGTH_MAX + 1)
    commit_id = models.CharField(max_length=COMMIT_ID_LENGTH)
    weights_file = models.CharField(max_length=60)  # "adapter_model.bin" was converted; its bytes are gone
    weights_sha256 = models.CharField(max_length=SHA256_LENGTH)  # of that file, as it was fetched
    repairs = models.JSONField(default=list)  # [{"code": …, "sentence": …}]

    class Meta:
        indexes = [models.Index(fields=["endpoint", "repo_id"], name="origin_of_repository")]

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.commit_id[:8]}"

    @property
    def url(self) -> str:
        return f"{self.endpoint}/{self.repo_id}/tree/{self.commit_id}"

    @property
    def was_converted(self) -> bool:
        return self.weights_file.endswith(".bin")
