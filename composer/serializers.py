"""What the API takes and gives, named for its description."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from composer.matching.leakage import own_modules, own_modules_words
from composer.models import Composition, CompositionEvent
from composer.telling import said
from hub_site.common.errors import Refusal

LAST_EVENT_ID = "Last-Event-ID"


class CompositionSerializer(serializers.ModelSerializer[Composition]):
    """A composition as a list shows it."""

    base = serializers.CharField(source="base.name")
    error = serializers.SerializerMethodField()

    class Meta:
        model = Composition
        fields = [
            "id", "name", "sentence", "status", "stage", "stage_text", "steps_done", "steps_planned",
            "best_loss", "base", "method", "search", "objective", "selection", "budget", "batch_size", "seed",
            "precision", "device", "rank", "template", "max_new_tokens", "baselines", "stop_requested",
            "mail_when_done",
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


class CompositionDetailSerializer(CompositionSerializer):
    """A composition with its modules, and with its report once it is done."""

    modules = CompositionModuleSerializer(many=True)
    has_adapter = serializers.BooleanField(
        help_text="It can be downloaded, perhaps before the comparisons end."
    )

    warnings = serializers.SerializerMethodField(help_text="What weakens what its report will say.")
    published_as = serializers.CharField(
        source="published_module.full_name", default=None, help_text="The module it became, “owner/name”."
    )

    class Meta(CompositionSerializer.Meta):
        fields = [
            *CompositionSerializer.Meta.fields,
            "modules", "has_adapter", "warnings", "published_as", "report",
        ]  # fmt: skip
        read_only_fields = fields

    def get_warnings(self, composition: Composition) -> list[str]:
        own = own_modules(composition)
        return [own_modules_words(own)] if own else []


class EventSerializer(serializers.Serializer[CompositionEvent]):
    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    attempt = serializers.IntegerField(
        source="generation", help_text="Rises when a new worker starts it again."
    )
    kind = serializers.CharField(help_text="“stage”, “alone”, “step”, “adapter” or “baseline”.")
    said = serializers.SerializerMethodField()
    detail = serializers.DictField(source="shown")

    def get_said(self, event: CompositionEvent) -> str:
        """The same in words."""
        return said(event)


class EventsSerializer(serializers.Serializer[dict[str, Any]]):
    status = serializers.CharField()
    is_finished = serializers.BooleanField()
    events = EventSerializer(many=True)


def after(query: Mapping[str, str], headers: Mapping[str, str] | None = None) -> int:
    """The last event a watcher has; 0 when it has none. A browser that comes back says it in a header."""
    text = (headers or {}).get(LAST_EVENT_ID) or query.get("after", "0")
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise Refusal(
            "bad_after", "“after” is the number of an event you have, or 0.", fields={"after": ["A number."]}
        )
    return int(text)


class MailWishSerializer(serializers.Serializer[dict[str, Any]]):
    """Whether to write to you when it is done."""

    wanted = serializers.BooleanField()
