"""The request, its estimate and its choices as the API reads and writes them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from composer.core.spec.choices import (
    BASELINES_OF_LEVEL,
    BUDGET_LIMIT,
    BUDGET_OF_METHOD,
    DEFAULT_LEVEL,
    DEFAULT_MAX_NEW_TOKENS,
    DEFAULT_METHOD,
    DEFAULT_SEED,
    DEFAULT_TEMPLATE,
    DEVICES,
    EXAMPLES_LIMIT,
    LEVELS,
    MAX_NEW_TOKENS_LIMIT,
    SMALL_RANK,
    TEXT_LIMIT,
    choice_names,
    level_budget,
)
from composer.core.spec.errors import ExamplesError
from composer.core.spec.example_files import ExampleLinesError, Reading, read_objects
from composer.core.spec.example_rows import Columns
from composer.core.spec.examples import is_storable
from composer.matching.ranking import MODULES_NAMED_MAX
from composer.models import NAME_MAX, SEED_MAX, SENTENCE_MAX
from composer.serializers import RankField
from composer.task.examples import CHARACTERS_MAX, EXAMPLES_MAX, HELD_OUT_MAX
from hub_site.common.api_inputs import BoundedDictField, BoundedListField, InputSerializer, OneOfField

COLUMN_MAX = 200  # characters
FIELD_VALUES_MAX = 4000  # of a form: what Django reads of one


def require_storable(text: str) -> None:
    if not is_storable(text):
        raise serializers.ValidationError("This holds characters that are not text. Remove them.")


class ExampleSerializer(serializers.Serializer[dict[str, Any]]):
    """An input and its output, as they are stored."""

    input = serializers.CharField()
    output = serializers.CharField()


@extend_schema_field(
    {
        "type": "array",
        "maxItems": HELD_OUT_MAX,
        "items": {"type": "object", "additionalProperties": {}},
        "example": [{"input": "apple", "output": "pomme"}],
    }
)
class ExamplesField(serializers.Field[Any, Any, Any, Any]):
    """Examples in any known dialect, read by the columns that the same request names."""

    def __init__(self, *, limit: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit = limit

    def to_internal_value(self, data: Any) -> Reading:
        if not isinstance(data, list):
            raise serializers.ValidationError("This is not a list of examples.")
        if len(data) > self.limit:
            raise serializers.ValidationError(
                f"These are {len(data):,} examples; at most {self.limit:,} can be used."
            )
        try:  # the address of the field says which example it is
            return read_objects(data, self.columns(), label="This example", characters_max=CHARACTERS_MAX)
        except ExampleLinesError as error:
            raise serializers.ValidationError(detail_of(error)) from error
        except ExamplesError as error:
            raise serializers.ValidationError(str(error)) from error

    def to_representation(self, value: Any) -> Any:
        return value

    def columns(self) -> Columns:
        asked = self.root.initial_data
        return Columns(str(asked.get("input_column") or ""), str(asked.get("output_column") or ""))


def detail_of(error: ExampleLinesError) -> dict[str, Any]:
    """The problems by the number of their example, from 0, and by its part."""
    detail: dict[str, Any] = {}
    for line in error.lines:
        part = detail.setdefault(str(line.index), {})
        part.setdefault(line.part or "non_field_errors", []).append(str(line.error))
    return detail


class CompositionRequestSerializer(InputSerializer):
    """What to compose, for which task, how far."""

    name = serializers.CharField(max_length=NAME_MAX, validators=[require_storable])
    sentence = serializers.CharField(
        max_length=SENTENCE_MAX, required=False, default="", allow_blank=True, validators=[require_storable]
    )
    base = serializers.CharField(
        required=False, help_text="The base model's name; left out: the one most modules here are made for."
    )
    examples = ExamplesField(
        limit=EXAMPLES_MAX,
        help_text="A few; five are a good start. Objects of a usual dialect: input and output, instruction "
        "and output, messages, question and answer …; or pairs.",
    )
    held_out = ExamplesField(limit=HELD_OUT_MAX, required=False, help_text="Used only to measure.")
    input_column = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=COLUMN_MAX,
        help_text="The key of the input, where it is no usual one; several are joined by “+”.",
    )
    output_column = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=COLUMN_MAX,
        help_text="The key of the output.",
    )
    method = serializers.CharField(required=False, default=DEFAULT_METHOD, help_text="See /api/v1/methods.")
    search = serializers.CharField(
        required=False,
        default="auto",
        help_text="See /api/v1/methods; or “nevergrad:” and the name of any of nevergrad's optimizers.",
    )
    objective = serializers.CharField(required=False, default="loss", help_text="See /api/v1/choices.")
    selection = serializers.CharField(
        required=False,
        max_length=80,
        help_text="“auto” (all that fit, or the best of many); “all”, “random:20”, “screen:20” or “near:20”, "
        "joined by +; or “chosen” (the modules named; implied by naming some).",
    )
    modules = BoundedListField(
        child=serializers.CharField(max_length=200),
        required=False,
        default=list,
        max_length=MODULES_NAMED_MAX,
        help_text="Names, such as “demo/french”.",
    )
    budget = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=BUDGET_LIMIT,
        help_text="Left out: the level's, for the method.",
    )
    batch_size = serializers.IntegerField(
        required=False,
        allow_null=True,
        default=None,
        min_value=1,
        max_value=EXAMPLES_LIMIT,
        help_text="Examples in one mean of lorahub's objective; left out: all.",
    )
    seed = serializers.IntegerField(required=False, min_value=0, max_value=SEED_MAX, default=DEFAULT_SEED)
    precision = serializers.CharField(required=False, default="auto", help_text="See /api/v1/choices.")
    device = serializers.CharField(required=False, default="auto", help_text="See /api/v1/choices.")
    rank = RankField(
        required=False,
        allow_null=True,
        default=SMALL_RANK,
        help_text="“auto” or null: as small as the answers allow. “full”: the whole sum of the modules. "
        "A number from 1 to 1024: that sum cut to this rank.",
    )
    template = serializers.CharField(
        required=False,
        default=DEFAULT_TEMPLATE,
        allow_null=True,
        allow_blank=True,
        max_length=TEXT_LIMIT,
        trim_whitespace=False,
        validators=[require_storable],
        help_text="The prompt: text with {input} in it, “chat” for the base model's chat template, or “auto” "
        "(empty or null, too): what most modules were trained with, else the base model's default.",
    )
    max_new_tokens = serializers.IntegerField(
        required=False, min_value=1, max_value=MAX_NEW_TOKENS_LIMIT, default=DEFAULT_MAX_NEW_TOKENS
    )
    level = OneOfField(
        choices=[level.name for level in LEVELS],
        required=False,
        default=DEFAULT_LEVEL,
        help_text="What budget and baselines are, where they are left out.",
    )
    baselines = serializers.CharField(
        required=False, help_text="Left out: the level's own. See /api/v1/choices."
    )

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The arguments of services.composition_request."""
        del asked["input_column"], asked["output_column"]
        examples, held_out = asked["examples"], asked.get("held_out", Reading(()))
        asked |= {"examples": list(examples.examples), "held_out": list(held_out.examples)}
        asked["notes"] = [*examples.notes, *held_out.notes]
        asked.setdefault("selection", "chosen" if asked["modules"] else "all")
        if asked["selection"] == "auto":
            asked["modules"] = []
        asked.setdefault("base", None)
        level = asked["level"]
        if asked["method"] in BUDGET_OF_METHOD:  # another one is refused by the service, with those there are
            asked.setdefault("budget", level_budget(level, asked["method"]))
        asked.setdefault("budget", 1)
        asked.setdefault("baselines", BASELINES_OF_LEVEL[level])
        return asked


class CandidatesRequestSerializer(CompositionRequestSerializer):
    """As a request; a name is not needed, but its words count."""

    name = serializers.CharField(
        max_length=NAME_MAX, required=False, default="", allow_blank=True, validators=[require_storable]
    )


class PromptSerializer(serializers.Serializer[dict[str, Any]]):
    """An example as the model reads it, as far as that is known before the run."""

    template = serializers.CharField(help_text="“auto” where only the run can tell.")
    reason = serializers.CharField(help_text="Why this template.")
    prompt = serializers.CharField(help_text="With the marks of the chat template; empty if not known.")
    answer = serializers.CharField(help_text="What is scored, and where generating begins.")
    warnings = serializers.ListField(child=serializers.CharField())


class EstimateSerializer(serializers.Serializer[dict[str, Any]]):
    """How long that would take."""

    low_s = serializers.FloatField(help_text="Seconds, at the least.")
    high_s = serializers.FloatField(help_text="Seconds, at the most.")
    words = serializers.CharField(help_text="The same as one says it.")
    basis = serializers.CharField(help_text="What it rests on.")
    n_measured = serializers.IntegerField(help_text="Compositions it was taken from; 0: the base's size.")
    n_ahead = serializers.IntegerField(help_text="Compositions that begin before it.")
    wait_s = serializers.FloatField(help_text="Seconds until it begins, most likely.")
    n_fitting = serializers.IntegerField(help_text="Modules that fit, without those of left_out.")
    n_tried = serializers.IntegerField(help_text="Of these, the most promising, which are tried alone.")
    n_modules = serializers.IntegerField(help_text="Of these, the best, which are composed; at most.")
    left_out = serializers.ListField(
        child=serializers.CharField(),
        help_text="Modules that fit and are not chosen among: they were made from some of these very "
        "examples. Name them in “modules” to take them all the same.",
    )
    budget = serializers.IntegerField()
    baselines = serializers.CharField()
    notes = serializers.ListField(
        child=serializers.CharField(),
        help_text="What is not used of the examples, and what the base model cannot write of them.",
    )
    prompt = PromptSerializer(help_text="What the model would read of the first example.")


class WorkerRequestSerializer(InputSerializer):
    """Which kind of worker is wanted."""

    base = serializers.CharField(
        required=False, allow_null=True, default=None, write_only=True, help_text="Its name; the usual one."
    )
    device = OneOfField(
        choices=choice_names(DEVICES), default="auto", write_only=True, help_text="As in a request."
    )
    base_name = serializers.CharField(read_only=True)
    has_cuda = serializers.BooleanField(read_only=True)
    memory_mb = serializers.IntegerField(read_only=True, help_text="That one job needs.")
    asked_at = serializers.DateTimeField(read_only=True)


class CandidateSerializer(serializers.Serializer[Any]):
    """A module that fits, and what speaks for it before it is tried."""

    name = serializers.CharField(source="ranked.fit.name")
    revision = serializers.CharField()
    nats = serializers.FloatField(
        source="ranked.nats",
        allow_null=True,
        help_text="Its mean loss alone on these examples, in nats an answer, if it was tried on them.",
    )
    likeness = serializers.FloatField(
        source="ranked.similarity", help_text="From 0 to 1, of its words to the task's."
    )
    shared_words = serializers.ListField(source="ranked.shared", child=serializers.CharField())


class DraftFieldsSerializer(InputSerializer):
    """A form as it stands: its fields' names, each with the values it would be sent with."""

    fields = BoundedDictField(  # type: ignore[assignment]  # the name it has everywhere
        max_length=FIELD_VALUES_MAX,
        child=BoundedListField(
            child=serializers.CharField(allow_blank=True, trim_whitespace=False), max_length=FIELD_VALUES_MAX
        ),
    )


class ChoiceSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    line = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]  # a key of ours; DRF's is of a Field


class MethodSerializer(ChoiceSerializer):
    budget = serializers.IntegerField(help_text="Used when none is given.")
    searches = ChoiceSerializer(many=True)


class ChoicesSerializer(serializers.Serializer[dict[str, Any]]):
    searches = ChoiceSerializer(many=True)
    objectives = ChoiceSerializer(many=True)
    selectors = ChoiceSerializer(many=True)
    precisions = ChoiceSerializer(many=True)
    devices = ChoiceSerializer(many=True)
    baselines = ChoiceSerializer(many=True)
    levels = ChoiceSerializer(many=True)


class DemoTaskSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    base = serializers.CharField()
    sentence = serializers.CharField()
    kind = serializers.CharField()
    skills = serializers.ListField(child=serializers.CharField())


class DemoTaskDetailSerializer(DemoTaskSerializer):
    shots = ExampleSerializer(many=True)
    held_out = ExampleSerializer(many=True)
