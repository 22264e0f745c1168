"""What the API takes and gives, named for its description."""

from typing import Any

from django.db.models import prefetch_related_objects
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from composer import selectors
from composer.core.spec.choices import FULL_RANK, SMALL_RANK
from composer.core.spec.errors import InvalidJobError
from composer.core.spec.job_spec import read_rank
from composer.matching.leakage import leakage_text, leaking_modules
from composer.matching.unwritable import unwritable_text
from composer.models import Composition
from composer.timing.queue import place_of
from composer.timing.waiting import missing_worker_text, waiting_since
from hub_site.jobs.models import Status


@extend_schema_field({"oneOf": [{"type": "integer"}, {"type": "string", "enum": [SMALL_RANK, FULL_RANK]}]})
class RankField(serializers.Field[Any, Any, Any, Any]):
    """A rank as a number, or “auto” or “full”."""

    def to_internal_value(self, data: Any) -> int | str:
        try:
            return read_rank({"rank": data})
        except InvalidJobError as error:
            raise serializers.ValidationError(str(error)) from error

    def to_representation(self, value: Any) -> int | str:
        return read_rank({"rank": value})


class CompositionSerializer(serializers.ModelSerializer[Composition]):
    """A composition as a list shows it."""

    base = serializers.CharField(source="base.name")
    rank = RankField()
    error = serializers.SerializerMethodField()

    class Meta:
        model = Composition
        fields = [
            "id", "name", "sentence", "status", "stage", "stage_text", "steps_done", "steps_planned",
            "best_loss", "base", "method", "search", "objective", "selection", "budget", "batch_size", "seed",
            "precision", "device", "rank", "template", "max_new_tokens", "baselines", "stop_requested",
            "mail_when_done", "put_off_reason",
            "error", "created_at", "started_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_error(self, composition: Composition) -> dict[str, str] | None:
        """Why it failed; null when it did not."""
        if not composition.error_code:
            return None
        return {"code": composition.error_code, "message": composition.error_message}


class CompositionPageSerializer(serializers.Serializer[dict[str, Any]]):
    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = CompositionSerializer(many=True)


class CompositionModuleSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    revision = serializers.CharField(source="version.commit_id")
    weight = serializers.FloatField(allow_null=True)


class PlaceSerializer(serializers.Serializer[Any]):
    """Where a composition stands in the queue."""

    n_ahead = serializers.IntegerField(help_text="Compositions that begin before it.")
    wait_s = serializers.FloatField(help_text="Seconds until it begins, most likely.")


class CompositionDetailSerializer(CompositionSerializer):
    """A composition with its modules, and with its report once it is done."""

    modules = CompositionModuleSerializer(many=True)
    has_adapter = serializers.BooleanField(
        help_text="It can be downloaded, perhaps before the comparisons end."
    )

    queue = serializers.SerializerMethodField(help_text="Its place while it waits, else null.")
    missing_worker = serializers.SerializerMethodField(
        help_text="A sentence while no worker is there that can take it, or its worker is silent; else null."
    )
    warnings = serializers.SerializerMethodField(
        help_text="What weakens what its report will say, what was not used of the examples, and what of "
        "them the base model cannot write."
    )
    published_as = serializers.CharField(
        source="published_module.full_name",
        default=None,
        allow_null=True,
        help_text="The module it became, “owner/name”.",
    )

    class Meta(CompositionSerializer.Meta):
        fields = [
            *CompositionSerializer.Meta.fields,
            "queue", "missing_worker", "modules", "has_adapter", "warnings", "published_as", "report",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(PlaceSerializer(allow_null=True))
    def get_queue(self, composition: Composition) -> Any:
        is_waiting = composition.status == Status.QUEUED
        return PlaceSerializer(place_of(composition)).data if is_waiting else None

    def get_missing_worker(self, composition: Composition) -> str | None:
        if composition.is_finished:
            return None
        return missing_worker_text(composition, waiting_since(composition)) or None

    def get_warnings(self, composition: Composition) -> list[str]:
        leaking = leaking_modules(composition)
        told = [
            *composition.example_notes,
            leakage_text(leaking) if leaking else "",
            unwritable_text(composition.base, selectors.all_examples(composition)),
            *selectors.warnings_of_run(composition),
        ]
        return list(dict.fromkeys(text for text in told if text))


def detail(composition: Composition) -> dict[str, Any]:
    prefetch_related_objects([composition], "modules__version")
    return CompositionDetailSerializer(composition).data
