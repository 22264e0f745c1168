"""A search by examples as the API reads and writes it."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from composer.core.spec.example_files import Reading
from composer.finding import selectors
from composer.finding.selectors import EXAMPLES_MAX
from composer.models import SENTENCE_MAX, ExampleSearch
from composer.request.serializers import ExampleSerializer, ExamplesField
from hub_site.common.api_inputs import InputSerializer
from hub_site.jobs.models import Status


class FindSerializer(InputSerializer):
    examples = ExamplesField(limit=EXAMPLES_MAX, help_text="At most 20, as in a composition.")
    sentence = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=SENTENCE_MAX,
        help_text="What the module should do: those with these words are tried first.",
    )
    base = serializers.CharField(
        required=False, allow_null=True, default=None, help_text="The base's name; left out: the first one."
    )

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The arguments of services.example_search_ask."""
        reading: Reading = asked["examples"]
        return asked | {"examples": list(reading.examples)}


class FoundModuleSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    sentence = serializers.CharField()
    shared_words = serializers.ListField(source="shared", child=serializers.CharField())
    loss_nats = serializers.FloatField(
        allow_null=True, help_text="Per label token, alone at weight 1; null: not measured on all examples."
    )
    drop_nats = serializers.FloatField(allow_null=True, help_text="The base alone minus this loss.")
    answer = serializers.CharField(
        allow_null=True, help_text="To the first example. The best ten are asked; null: this one was not."
    )
    same_weights = serializers.ListField(
        child=serializers.CharField(), help_text="Names of other modules that have the same weights."
    )


class ExampleSearchSerializer(serializers.ModelSerializer[ExampleSearch]):
    """A search and the modules so far, the best first; at most 50 of those tried. Kept for a day."""

    base = serializers.CharField(source="base.name")
    examples = serializers.SerializerMethodField()
    is_finished = serializers.BooleanField()
    ahead = serializers.SerializerMethodField(help_text="Searches that come before this one.")
    n_tried = serializers.SerializerMethodField(help_text="Modules that it tries.")
    modules = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField(help_text="Why it failed, where it did.")

    class Meta:
        model = ExampleSearch
        fields = [
            *("id", "status", "is_finished", "ahead", "base", "sentence", "examples", "created_at"),
            *("n_fitting", "n_tried", "base_loss_nats", "base_answer", "modules", "error"),
        ]

    @extend_schema_field(ExampleSerializer(many=True))
    def get_examples(self, search: ExampleSearch) -> list[dict[str, str]]:
        return [{"input": given, "output": wanted} for given, wanted in search.pairs]

    def get_ahead(self, search: ExampleSearch) -> int:
        return selectors.ahead_of(search)

    def get_n_tried(self, search: ExampleSearch) -> int:
        return len(search.modules)

    @extend_schema_field(FoundModuleSerializer(many=True))
    def get_modules(self, search: ExampleSearch) -> list[dict[str, Any]]:
        found = selectors.found_modules(search, search.owner)
        return list(FoundModuleSerializer(found, many=True).data)

    def get_error(self, search: ExampleSearch) -> dict[str, str] | None:
        if search.status != Status.FAILED:
            return None
        return {"code": search.error_code, "message": search.error_message}
