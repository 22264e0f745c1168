"""Events as the API writes them."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from composer.models import CompositionEvent
from composer.watch.event_text import event_text
from hub_site.common.api_inputs import InputSerializer
from hub_site.common.errors import Refusal

LAST_EVENT_ID = "Last-Event-ID"


class EventSerializer(serializers.Serializer[CompositionEvent]):
    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    attempt = serializers.IntegerField(
        source="generation", help_text="Rises when a new worker starts it again."
    )
    kind = serializers.CharField(
        help_text="“stage”, “warning”, “base”, “alone”, “step”, “adapter” or “baseline”."
    )
    said = serializers.SerializerMethodField()
    detail = serializers.DictField(source="shown")

    def get_said(self, event: CompositionEvent) -> str:
        """The same in words."""
        return event_text(event)


class EventsSerializer(serializers.Serializer[dict[str, Any]]):
    status = serializers.CharField()
    is_finished = serializers.BooleanField()
    events = EventSerializer(many=True)


def parse_after(query: Mapping[str, str], headers: Mapping[str, str] | None = None) -> int:
    """The last event a watcher has; 0 when it has none. A browser that comes back says it in a header."""
    text = (headers or {}).get(LAST_EVENT_ID) or query.get("after", "0")
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise Refusal(
            "bad_after", "“after” is the number of an event you have, or 0.", fields={"after": ["A number."]}
        )
    return int(text)


class MailWishSerializer(InputSerializer):
    """Whether to write to you when it is done."""

    wanted = serializers.BooleanField()
