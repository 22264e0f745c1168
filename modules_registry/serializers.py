"""What the API says of modules, and what it asks for."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from hub_site.accounts.models import Namespace
from hub_site.accounts.names import NAME_LENGTH_MAX
from hub_site.common.api_inputs import BoundedListField, InputSerializer, OneOfField
from modules_registry import selectors
from modules_registry.activity import ACTIVITY_MAX
from modules_registry.catalog import CHOICES_MAX, MATCHES, Q_LENGTH_MAX, SORTS, WaysOn, WithoutOne
from modules_registry.comparison import COMPARED_MAX, METHODS, Comparison, FactRow, Fit
from modules_registry.core.cards import CARD_BYTES_MAX
from modules_registry.core.licenses.names import LICENSES
from modules_registry.core.prompt_template import LENGTH_MAX
from modules_registry.counting import EXACT_MAX
from modules_registry.evidence import Measured, measured_of
from modules_registry.facets import ALLOWS, SCALINGS, SIZES, YES, SaidFacet
from modules_registry.fitting import RULES
from modules_registry.hashes import HashMatch
from modules_registry.likeness import CopyOf, originals_of
from modules_registry.lineage import ComposedFrom, VisibleParent, composed_from, used_in
from modules_registry.mirror.selectors import RemoteCopy, remote_copy
from modules_registry.models import BaseModel, DownloadDay, Module, Origin, Version, VersionFile
from modules_registry.overviews import LayerGroup, TagOverview, ValueCount
from modules_registry.suggestions import Suggestion
from modules_registry.tags import TAGS_MAX

FULL_NAME_LENGTH_MAX = 2 * NAME_LENGTH_MAX + 1
TAG_TEXT_LENGTH_MAX = 200
PAGE_SIZE, PAGE_SIZE_MAX = 24, 100


def several(help_text: str, choices: list[str] | None = None) -> BoundedListField:
    """A filter that can be repeated."""
    child = OneOfField(choices=choices) if choices else serializers.CharField(max_length=80)
    return BoundedListField(child=child, default=list, max_length=CHOICES_MAX, help_text=help_text)


def one_of(choices: list[str], help_text: str) -> OneOfField:
    return OneOfField(choices=choices, default="", allow_blank=True, help_text=help_text)


class FileSerializer(serializers.ModelSerializer[VersionFile]):
    class Meta:
        model = VersionFile
        fields = ["path", "sha256", "size_bytes"]


class HubCopySerializer(serializers.Serializer[RemoteCopy]):
    """A version's copy on the Hub behind this site."""

    state = serializers.ChoiceField(choices=["stored", "waiting", "failed"])
    repo_id = serializers.CharField()
    commit_id = serializers.CharField(help_text="The Hub's commit, not this site's.")
    url = serializers.CharField()
    reason = serializers.CharField(help_text="Why it is not there yet, or not at all.")
    next_try_at = serializers.DateTimeField(allow_null=True)


class RepairSerializer(serializers.Serializer[dict[str, str]]):
    code = serializers.CharField(help_text="Stable and snake_case.")
    sentence = serializers.CharField()


class OriginSerializer(serializers.ModelSerializer[Origin]):
    """Where imported weights came from, and what was repaired on the way."""

    hub = serializers.CharField(source="endpoint", help_text="The Hub's address.")
    commit_id = serializers.CharField(help_text="The Hub's commit, not this site's.")
    weights_file = serializers.CharField(help_text="Its name there; a “.bin” was converted.")
    weights_sha256 = serializers.CharField(help_text="Of that file as it was fetched.")
    repairs = RepairSerializer(many=True)
    url = serializers.CharField()

    class Meta:
        model = Origin
        fields = ["hub", "repo_id", "commit_id", "weights_file", "weights_sha256", "repairs", "url"]


class VersionSerializer(serializers.ModelSerializer[Version]):
    author = serializers.CharField(source="author.username")
    base = serializers.CharField(source="base_name", help_text="The base model, as the uploader named it.")
    is_composable = serializers.SerializerMethodField()
    not_composable_because = serializers.SerializerMethodField(help_text="Empty when it is composable.")
    targets = serializers.ListField(child=serializers.CharField(), help_text="Names of the layers.")
    scaling = serializers.FloatField(help_text="What multiplies B·A: alpha / r, or alpha / √r.")
    dtype = serializers.CharField(help_text="F32, F16 or BF16.")
    prompt_template = serializers.CharField(help_text="That it was trained with; empty: not known.")
    repairs = RepairSerializer(many=True, help_text="What was repaired when it came in, and what was noted.")
    files = FileSerializer(many=True)
    origin = serializers.SerializerMethodField(help_text="Of imported weights; null for uploaded ones.")
    hub_copy = serializers.SerializerMethodField(help_text="Null where files stay on the site's own disk.")

    class Meta:
        model = Version
        fields = [
            *("number", "commit_id", "message", "author", "created_at", "base", "base_revision"),
            *("is_composable", "not_composable_because", "task_type", "rank", "alpha", "scaling", "targets"),
            *("parameters", "dtype", "weights_sha256", "prompt_template", "size_bytes", "files"),
            *("repairs", "origin", "hub_copy"),
        ]

    def get_is_composable(self, version: Version) -> bool:
        return version.base_id is not None

    @extend_schema_field(OriginSerializer(allow_null=True))
    def get_origin(self, version: Version) -> dict[str, Any] | None:
        origin = selectors.origin_of(version)
        return dict(OriginSerializer(origin).data) if origin else None

    @extend_schema_field(HubCopySerializer(allow_null=True))
    def get_hub_copy(self, version: Version) -> dict[str, Any] | None:
        copy = remote_copy(version)
        return dict(HubCopySerializer(copy).data) if copy else None

    def get_not_composable_because(self, version: Version) -> str:
        return selectors.not_composable_because(version)


class CopyOfSerializer(serializers.Serializer[CopyOf]):
    """The oldest module with the same weights, or nearly the same."""

    id = serializers.CharField(source="module.full_name")
    cosine = serializers.FloatField(help_text="Of the two deltas.")
    is_same = serializers.BooleanField(help_text="The weights are the same, not only nearly.")


class TaskLossSerializer(serializers.Serializer[Any]):
    task = serializers.CharField(help_text="A ready-made task; see /api/v1/demo-tasks.")
    n_examples = serializers.IntegerField()
    loss_nats = serializers.FloatField(help_text="Of the module alone at weight 1, per label token.")
    base_loss_nats = serializers.FloatField(allow_null=True, help_text="Of the base alone.")
    drop_nats = serializers.FloatField(allow_null=True, help_text="The base alone minus this loss.")
    score_percent = serializers.FloatField(
        allow_null=True, help_text="Right answers to held-out examples; null: not measured."
    )
    base_score_percent = serializers.FloatField(allow_null=True, help_text="Of the base alone.")
    n_scored = serializers.IntegerField(allow_null=True, help_text="Held-out examples that were answered.")


class SampleSerializer(serializers.Serializer[dict[str, str]]):
    """One input, and what the module answers, as its card says."""

    input = serializers.CharField()
    output = serializers.CharField()


class MeasuredSerializer(serializers.Serializer[Measured]):
    best = TaskLossSerializer(
        allow_null=True, help_text="Of the composition it was published from (no task), else of a task."
    )
    n_parts = serializers.IntegerField(help_text="Compositions of other people that it is in.")
    n_hurt = serializers.IntegerField(
        help_text="Of these, where leaving it out raised the loss by 0.01 nats per token or more."
    )


class ModuleListSerializer(serializers.ListSerializer[Module]):
    """Looks up for all modules of a list at once of which ones they are copies, and what was measured."""

    def to_representation(self, data: Any) -> list[Any]:
        modules = list(data)
        context: Any = self.context
        context["copies"] = originals_of(modules, context["request"].user)
        context["measured"] = measured_of(modules)
        found: list[Any] = super().to_representation(modules)
        return found


class ModuleSerializer(serializers.ModelSerializer[Module]):
    """A module as a list shows it."""

    id = serializers.CharField(source="full_name", help_text="“owner/name”, the module's address.")
    owner = serializers.CharField(source="namespace.name")
    tags = serializers.SerializerMethodField()
    base = serializers.CharField(source="current.base_name")
    is_composable = serializers.SerializerMethodField()
    rank = serializers.IntegerField(source="current.rank")
    size_bytes = serializers.IntegerField(source="current.size_bytes")
    commit_id = serializers.CharField(source="current.commit_id", help_text="Of the current version.")
    copy_of = serializers.SerializerMethodField(
        help_text="The oldest module with the same weights, or nearly the same; null if it is none."
    )
    sample = serializers.SerializerMethodField(help_text="The first example of its card; null: it has none.")
    measured = serializers.SerializerMethodField(
        help_text="The strongest of what was measured with its weights; null: nothing was."
    )
    url = serializers.SerializerMethodField()

    class Meta:
        model = Module
        list_serializer_class = ModuleListSerializer
        fields = [
            *("id", "owner", "name", "sentence", "tags", "licence", "base", "is_composable", "rank"),
            *(
                "size_bytes",
                "commit_id",
                "copy_of",
                "private",
                "downloads",
                "likes",
                "created_at",
                "updated_at",
                "sample",
                "measured",
                "url",
            ),
        ]

    def get_tags(self, module: Module) -> list[str]:
        return [tag.name for tag in module.tags.all()]

    @extend_schema_field(SampleSerializer(allow_null=True))
    def get_sample(self, module: Module) -> dict[str, str] | None:
        if not module.sample_output:
            return None
        return {"input": module.sample_input, "output": module.sample_output}

    @extend_schema_field(MeasuredSerializer(allow_null=True))
    def get_measured(self, module: Module) -> dict[str, Any] | None:
        context: Any = self.context
        is_listed = isinstance(self.parent, ModuleListSerializer)
        found = (context["measured"] if is_listed else measured_of([module])).get(module.pk)
        return dict(MeasuredSerializer(found).data) if found is not None else None

    @extend_schema_field(CopyOfSerializer(allow_null=True))
    def get_copy_of(self, module: Module) -> dict[str, Any] | None:
        context: Any = self.context
        is_listed = isinstance(self.parent, ModuleListSerializer)
        copies = context["copies"] if is_listed else originals_of([module], context["request"].user)
        found = copies.get(module.pk)
        return dict(CopyOfSerializer(found).data) if found is not None else None

    def get_is_composable(self, module: Module) -> bool:
        return module.current is not None and module.current.base_id is not None

    @extend_schema_field(OpenApiTypes.URI)
    def get_url(self, module: Module) -> str:
        address: str = self.context["request"].build_absolute_uri(module.get_absolute_url())
        return address


class TakenForSerializer(serializers.Serializer[dict[str, str]]):
    """A word that nobody uses, and the known word that was searched in its place."""

    word = serializers.CharField()
    taken_for = serializers.CharField()


class HashMatchSerializer(serializers.Serializer[HashMatch]):
    """A version that a hash belongs to."""

    id = serializers.CharField(source="module.full_name")
    version = serializers.IntegerField(source="version.number", allow_null=True)
    commit_id = serializers.CharField(source="version.commit_id")
    kind = serializers.ChoiceField(
        choices=("commit", "file", "git_blob", "weights", "same_weights"),
        help_text="“same_weights”: the weights of a file of that hash, in another file.",
    )
    path = serializers.CharField(help_text="Of the file; empty for a commit and for weights.")
    sentence = serializers.CharField()


class SaidFacetSerializer(serializers.Serializer[SaidFacet]):
    """Words of the search that were read as a filter; in quotation marks they are words."""

    text = serializers.CharField()
    filter = serializers.CharField(source="kind.name")
    value = serializers.CharField()


class WithoutOneSerializer(serializers.Serializer[WithoutOne]):
    """What the same search finds without one of its choices."""

    filter = serializers.CharField(source="choice.name")
    chosen = serializers.CharField(source="choice.label")
    query = serializers.CharField(source="choice.filters.as_query", help_text="The search without it.")
    count = serializers.IntegerField()
    count_is_exact = serializers.BooleanField(source="is_exact")


class WaysOnSerializer(serializers.Serializer[WaysOn]):
    """What to search for instead of what found nothing; empty where something was found."""

    words = serializers.ListField(
        child=serializers.CharField(), help_text="Words of the library that are near, the nearest first."
    )
    tags = serializers.ListField(
        child=serializers.CharField(), help_text="Where no word is near: the tags that most modules have."
    )
    without = WithoutOneSerializer(
        many=True, help_text="Of several choices: what is found without one of them, where that is anything."
    )


class FoundSerializer(serializers.Serializer[dict[str, Any]]):
    """What is said of all that a search found."""

    count = serializers.IntegerField(help_text=f"Of all that match; at most {EXACT_MAX:,}.")
    count_is_exact = serializers.BooleanField(help_text="False: there are more.")
    corrections = TakenForSerializer(many=True)
    words_asked = serializers.IntegerField(help_text="Words of the search that count.")
    words_needed = serializers.IntegerField(help_text="Each module has so many of them at least.")
    read_as = SaidFacetSerializer(many=True)
    not_searched = serializers.ListField(
        child=serializers.CharField(), help_text="Signs, and single letters beside one, such as “c++”."
    )
    hash_matches = HashMatchSerializer(many=True)
    ways_on = WaysOnSerializer()


class ModulePageSerializer(FoundSerializer):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = ModuleSerializer(many=True)


class FacetValueSerializer(serializers.Serializer[dict[str, Any]]):
    value = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field of that name, not the label of one
    count = serializers.IntegerField(help_text="Modules that would be left.")
    count_is_exact = serializers.BooleanField(help_text="False: there are so many at least.")


class FacetSerializer(serializers.Serializer[dict[str, Any]]):
    name = serializers.CharField(help_text="Of the filter in the query.")
    title = serializers.CharField()
    values = FacetValueSerializer(many=True)


class FacetsSerializer(FoundSerializer):
    facets = FacetSerializer(many=True)


class SuggestionSerializer(serializers.Serializer[Suggestion]):
    kind = serializers.CharField(help_text="“module”, or the name of a filter.")
    text = serializers.CharField()
    note = serializers.CharField(help_text="The module's sentence, or how many modules there are.")
    url = serializers.SerializerMethodField()

    @extend_schema_field(OpenApiTypes.URI)
    def get_url(self, suggestion: Suggestion) -> str:
        address: str = self.context["request"].build_absolute_uri(suggestion.address)
        return address


class SuggestionInput(serializers.Serializer[dict[str, Any]]):
    q = serializers.CharField(
        default="", allow_blank=True, max_length=Q_LENGTH_MAX, help_text="The beginning of a search."
    )


class ParentSerializer(serializers.Serializer[VisibleParent]):
    """A module that went into another one."""

    id = serializers.CharField(source="module.full_name")
    version = serializers.IntegerField(source="version.number", allow_null=True)
    commit_id = serializers.CharField(source="version.commit_id")
    weight = serializers.FloatField()


class ComposedFromSerializer(serializers.Serializer[ComposedFrom]):
    """What a module was made from; nothing for one that was trained."""

    parents = ParentSerializer(many=True)
    hidden = serializers.IntegerField(help_text="Parents that are private or deleted.")


class LeftOutSerializer(serializers.Serializer[selectors.LeftOut]):
    kind = serializers.CharField(help_text="“program”, “pickle”, “other weights” or “other file”.")
    count = serializers.IntegerField()
    paths = serializers.ListField(
        child=serializers.CharField(), allow_null=True, help_text="Null for who may not change the module."
    )


class ModuleDetailSerializer(ModuleSerializer):
    """A module with its card and its current version."""

    card = serializers.SerializerMethodField(help_text="The README, as Markdown.")
    composed_from = serializers.SerializerMethodField()
    used_in = serializers.SerializerMethodField(help_text="Modules made from it, newest first.")
    left_out = serializers.SerializerMethodField(
        help_text="Files of its uploads that are no part of a module, by kind. They are not stored."
    )
    current = VersionSerializer()

    class Meta(ModuleSerializer.Meta):
        fields = [*ModuleSerializer.Meta.fields, "card", "composed_from", "used_in", "left_out", "current"]

    @extend_schema_field(LeftOutSerializer(many=True))
    def get_left_out(self, module: Module) -> list[dict[str, Any]]:
        found = selectors.left_out_of(module, self.context["request"].user)
        return [dict(LeftOutSerializer(group).data) for group in found]

    def get_card(self, module: Module) -> str:
        return selectors.card_of(module.current).text if module.current else ""

    @extend_schema_field(ComposedFromSerializer)
    def get_composed_from(self, module: Module) -> dict[str, Any]:
        assert module.current is not None  # a draft has no details here
        found = composed_from(module.current, self.context["request"].user)
        return dict(ComposedFromSerializer(found).data)

    def get_used_in(self, module: Module) -> list[str]:
        return [child.module.full_name for child in used_in(module, self.context["request"].user)]


class BaseModelSerializer(serializers.ModelSerializer[BaseModel]):
    modules_count = serializers.IntegerField(help_text="Modules that can be composed on it.")

    class Meta:
        model = BaseModel
        fields = [
            *("name", "revision", "sentence", "licence", "kind", "architecture", "parameters"),
            "modules_count",
        ]


class LayerGroupSerializer(serializers.Serializer[LayerGroup]):
    """The linear layers of a base that have the same name and shape."""

    name = serializers.CharField(help_text="As modules name their targets.")
    count = serializers.IntegerField()
    d_out = serializers.IntegerField()
    d_in = serializers.IntegerField()


class BaseDetailSerializer(BaseModelSerializer):
    revision = serializers.CharField(help_text="Empty where the base is not here, as are the other facts.")
    kind = serializers.ChoiceField(choices=BaseModel.Kind.choices, allow_null=True)
    parameters = serializers.IntegerField(allow_null=True)
    is_here = serializers.BooleanField(help_text="False: its modules cannot be composed here.")
    hub_url = serializers.URLField(allow_null=True, help_text="Where a base comes from that is not here.")
    modules_count = serializers.IntegerField(help_text="At most 10,000.")
    modules_count_is_exact = serializers.BooleanField(help_text="False: there are more.")
    aliases = serializers.ListField(child=serializers.CharField(), help_text="Other names of its weights.")
    layers = LayerGroupSerializer(many=True)

    class Meta(BaseModelSerializer.Meta):
        fields = [
            *BaseModelSerializer.Meta.fields,
            "is_here",
            "hub_url",
            "modules_count_is_exact",
            "aliases",
            "layers",
        ]


class ValueCountSerializer(serializers.Serializer[ValueCount]):
    name = serializers.CharField()
    count = serializers.IntegerField()


class TagDetailSerializer(serializers.Serializer[TagOverview]):
    """A tag, and what is used with it: counted over the 500 most downloaded modules that carry it."""

    name = serializers.CharField()
    modules_count = serializers.IntegerField(source="modules.count", help_text="At most 10,000.")
    modules_count_is_exact = serializers.BooleanField(
        source="modules.is_exact", help_text="False: there are more."
    )
    tags = ValueCountSerializer(many=True)
    bases = ValueCountSerializer(many=True)


class TagSerializer(serializers.Serializer[dict[str, Any]]):
    name = serializers.CharField()
    modules_count = serializers.IntegerField()


class LikeSerializer(serializers.Serializer[dict[str, Any]]):
    """Whether you like a module, and how many accounts do."""

    liked = serializers.BooleanField()
    likes = serializers.IntegerField()


class ModuleSnippetSerializer(serializers.Serializer[Any]):
    """Something to copy."""

    label = serializers.CharField()  # type: ignore[assignment]  # a key of ours; DRF has an attribute of it
    code = serializers.CharField(help_text="Empty where there is no such way; the note says why.")
    note = serializers.CharField()


class DownloadDaySerializer(serializers.ModelSerializer[DownloadDay]):
    class Meta:
        model = DownloadDay
        fields = ["day", "downloads"]


class OwnerSerializer(serializers.Serializer[dict[str, Any]]):
    """An account or an organization, with the sums over its public modules."""

    name = serializers.CharField()
    kind = serializers.ChoiceField(choices=Namespace.Kind.choices)
    since = serializers.DateTimeField()
    modules = serializers.IntegerField()
    downloads = serializers.IntegerField(help_text="Of all its modules together.")
    likes = serializers.IntegerField(help_text="Of all its modules together.")
    url = serializers.URLField()


class DeedSerializer(serializers.Serializer[Any]):
    """One thing that an owner did."""

    at = serializers.DateTimeField()
    action = serializers.ChoiceField(
        choices=["publish", "version", "like"], help_text="“version” is a later one of the same module."
    )
    module = serializers.CharField(source="module.full_name")
    version = serializers.IntegerField(source="version.number", default=None, allow_null=True)
    by = serializers.CharField(help_text="Who published it; empty for a like.")


class ActivityInput(serializers.Serializer[dict[str, Any]]):
    """Which part of an activity list; all of it is optional."""

    before = serializers.DateTimeField(
        default=None, allow_null=True, help_text="Only what happened earlier: the last “at” you have."
    )
    limit = serializers.IntegerField(default=30, min_value=1, max_value=ACTIVITY_MAX)


class CompareInput(serializers.Serializer[dict[str, Any]]):
    """Which modules to compare."""

    id = BoundedListField(
        child=serializers.CharField(max_length=FULL_NAME_LENGTH_MAX),
        max_length=COMPARED_MAX,
        help_text="Two to four modules as “owner/name”: repeat it.",
    )


class FactRowSerializer(serializers.Serializer[FactRow]):
    name = serializers.CharField(help_text="Stable.")
    label = serializers.CharField()  # type: ignore[assignment]  # a key of ours; DRF has an attribute of it
    values = serializers.ListField(  # type: ignore[assignment]  # a key of ours
        child=serializers.CharField(), help_text="One for each module, in their order."
    )
    differs = serializers.BooleanField()


class ReasonAgainstSerializer(serializers.Serializer[tuple[str, str]]):
    module = serializers.SerializerMethodField()
    reason = serializers.SerializerMethodField()

    def get_module(self, pair: tuple[str, str]) -> str:
        return pair[0]

    def get_reason(self, pair: tuple[str, str]) -> str:
        return pair[1]


class FitSerializer(serializers.Serializer[Fit]):
    """Whether the modules can be composed with each other by one method."""

    method = serializers.ChoiceField(choices=list(METHODS), help_text="“factors”: the product of sums.")
    fits = serializers.BooleanField()
    reasons = ReasonAgainstSerializer(many=True, help_text="Why not, by module.")


class ComparisonSerializer(serializers.Serializer[Comparison]):
    """Modules side by side."""

    modules = ModuleSerializer(many=True)
    facts = FactRowSerializer(many=True)
    strengths = FactRowSerializer(
        many=True,
        help_text="Norm of each change, and the share of its square by layer name; empty: not measured.",
    )
    losses = FactRowSerializer(
        many=True, help_text="Each alone on the same examples of a task, in nats per label token."
    )
    fits = FitSerializer(many=True)


class SearchFilters(serializers.Serializer[dict[str, Any]]):
    """What a search is narrowed by; all of it is optional."""

    q = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=Q_LENGTH_MAX,
        help_text='Words, "phrases", -excluded words, a part of the name, or a hash. Misspelled words are '
        "corrected; “rank 4”, “r=4” and “rslora” are read as filters.",
    )
    match = OneOfField(
        choices=list(MATCHES),
        default="",
        allow_blank=True,
        help_text="“any”: one of the words is enough. Default: as many of them as some module has.",
    )
    tag = BoundedListField(
        child=serializers.CharField(max_length=TAG_TEXT_LENGTH_MAX),
        default=list,
        max_length=CHOICES_MAX,
        help_text="Repeat it for several; a module must have all of them.",
    )
    base = serializers.CharField(default="", allow_blank=True, max_length=FULL_NAME_LENGTH_MAX)
    task = several("As the Hub calls it: text2text-generation.")
    language = several("Its code or its English name: fr, French.")
    licence = serializers.CharField(default="", allow_blank=True, max_length=60)
    allows = several("What the license allows.", list(ALLOWS))
    author = serializers.CharField(
        default="", allow_blank=True, max_length=NAME_LENGTH_MAX, help_text="The owner's name."
    )
    rank = serializers.RegexField(r"^[0-9]{1,6}\Z", default="", allow_blank=True, help_text="r, such as 16.")
    size = one_of([name for name, _, _ in SIZES], "Of the files.")
    target = several("The name of a layer that it adapts: q_proj.")
    scaling = one_of(list(SCALINGS), "What multiplies B·A.")
    architecture = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=100,
        help_text="The base's class: T5ForConditionalGeneration.",
    )
    composable = one_of([YES], "Its base is in the library and its layers fit.")
    evidence = one_of([YES], "Something was measured with it.")
    fits = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=FULL_NAME_LENGTH_MAX,
        help_text="“owner/name”: only modules that can be composed with this one.",
    )
    fits_by = OneOfField(
        choices=list(RULES),
        default="",
        allow_blank=True,
        help_text="How: “sum” of whole updates (default), or “factors”, A to A and B to B.",
    )


class SearchInput(SearchFilters):
    """The query of a search, and the page of it."""

    sort = OneOfField(
        choices=list(SORTS),
        default="",
        allow_blank=True,
        help_text="Default: “best” with words, else “recent”.",
    )
    cursor = serializers.CharField(
        default="", allow_blank=True, help_text="From “next” or “previous” of another page of the same list."
    )
    page_size = serializers.IntegerField(
        default=PAGE_SIZE, min_value=1, max_value=PAGE_SIZE_MAX, help_text=f"At most {PAGE_SIZE_MAX}."
    )


class TagsField(BoundedListField):
    """Repeated values, or words with commas between them: a multipart form can send either."""

    child = serializers.CharField(max_length=TAG_TEXT_LENGTH_MAX)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=TAGS_MAX, **kwargs)

    def to_internal_value(self, data: Any) -> list[str]:
        return [tag.strip() for text in super().to_internal_value(data) for tag in text.split(",")]


class PromptTemplateField(serializers.CharField):
    """Text with {input} in it, or “chat”; a line break at its end counts."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            required=False,
            allow_blank=True,
            trim_whitespace=False,
            max_length=LENGTH_MAX,
            help_text="The prompts it was trained with: text with {input}, or “chat” for the base model's "
            "chat template. The card states it then. Left out: what the files tell of it.",
            **kwargs,
        )


class FilesInput(InputSerializer):
    """New files for a module."""

    config_file = serializers.FileField(help_text="adapter_config.json, as peft wrote it.")
    weights_file = serializers.FileField(
        help_text="adapter_model.safetensors, or adapter_model.bin, which is converted."
    )
    card_file = serializers.FileField(
        required=False, allow_empty_file=True, help_text="README.md. Without one the current card stays."
    )
    base = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=FULL_NAME_LENGTH_MAX,
        help_text="The base model's name, in place of the one in adapter_config.json.",
    )
    prompt_template = PromptTemplateField()
    message = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="What changed, in one line."
    )


class ModuleInput(FilesInput):
    """A new module with its first version."""

    namespace = serializers.CharField(
        required=False, max_length=NAME_LENGTH_MAX, help_text="The owner. Default: your own name."
    )
    name = serializers.CharField(max_length=NAME_LENGTH_MAX)
    sentence = serializers.CharField(max_length=300, help_text="What it was trained for.")
    licence = OneOfField(choices=list(LICENSES))
    tags = TagsField(required=False, help_text="Repeat it, or separate tags by commas.")
    private = serializers.BooleanField(required=False, default=False, help_text="Nobody else sees it.")


class MoveInput(InputSerializer):
    """Another name, another owner, or both."""

    namespace = serializers.CharField(required=False, max_length=NAME_LENGTH_MAX)
    name = serializers.CharField(required=False, max_length=NAME_LENGTH_MAX)


class ModuleChange(InputSerializer):
    """What is left out stays as it is."""

    sentence = serializers.CharField(required=False, max_length=300)
    licence = OneOfField(required=False, choices=list(LICENSES))
    tags = TagsField(required=False)
    private = serializers.BooleanField(required=False)
    prompt_template = PromptTemplateField()
    card = serializers.CharField(
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        help_text="Markdown. Another card becomes a new version with the same weights.",
    )


class CardInput(InputSerializer):
    """A card that is being written."""

    card = serializers.CharField(
        allow_blank=True,
        trim_whitespace=False,
        max_length=CARD_BYTES_MAX,
        help_text="README.md: Markdown, with its YAML head if it has one.",
    )


class CardPreviewSerializer(serializers.Serializer[dict[str, Any]]):
    """What the pages would show of a card."""

    html = serializers.CharField(help_text="The Markdown below the head, cleaned.")
    is_plain = serializers.BooleanField(help_text="As plain text: too long or too complex to render.")
    sample = SampleSerializer(allow_null=True, help_text="Its first example, as lists show it.")
    repairs = RepairSerializer(many=True, help_text="What of it would not be read.")


class EvidenceSerializer(serializers.Serializer[Any]):
    """What was measured with the current weights of a module."""

    tasks = TaskLossSerializer(many=True)
    n_parts = serializers.IntegerField(help_text="Compositions of other people that it is in, of the latest.")
    n_hurt = serializers.IntegerField(
        help_text="Of these, where leaving it out raised the loss by 0.01 nats per token or more."
    )
    mean_rise_nats = serializers.FloatField(allow_null=True, help_text="The mean rise in those.")
    n_published = serializers.IntegerField(help_text="Published modules that were composed from it.")
    result = TaskLossSerializer(
        allow_null=True, help_text="Of the composition that it was published from; its task is not named."
    )
