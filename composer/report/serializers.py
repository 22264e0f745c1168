"""The report's summary, predictions and snippets as the API writes them."""

from typing import Any

from rest_framework import serializers


class PredictionSerializer(serializers.Serializer[dict[str, Any]]):
    input = serializers.CharField()
    expected = serializers.CharField()
    base = serializers.CharField(help_text="What the base alone answers.")
    composed = serializers.CharField()
    correct = serializers.BooleanField()
    different = serializers.BooleanField(help_text="Composing changed the answer.")


class PredictionPageSerializer(serializers.Serializer[dict[str, Any]]):
    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = PredictionSerializer(many=True)


class QualitySerializer(serializers.Serializer[dict[str, Any]]):
    level = serializers.CharField(help_text="“good”, “fair” or “weak”.")
    label = serializers.CharField()  # type: ignore[assignment]  # a key of ours; DRF's is of a Field
    text = serializers.CharField(help_text="How often it is right, with the interval.")


class VerdictSerializer(serializers.Serializer[dict[str, Any]]):
    decision = serializers.CharField(
        help_text="“use”, “prompt”, “tune”, “single”, “train”, “unsure”, “none” or “unmeasured”."
    )
    label = serializers.CharField()  # type: ignore[assignment]  # a key of ours; DRF's is of a Field
    sentence = serializers.CharField()
    certainty = serializers.CharField(help_text="On what, and by which rule, it was decided.")
    text = serializers.CharField(help_text="All figures, in the core's words.")
    quality = QualitySerializer(
        allow_null=True, help_text="How good what is advised is by itself; null where it was not measured."
    )
    tokens = serializers.CharField(
        allow_blank=True,
        help_text="What a question costs with the adapter and with the examples in the prompt.",
    )


class SnippetSerializer(serializers.Serializer[dict[str, Any]]):
    key = serializers.CharField(help_text="“get”, “peft”, “merged” or “vllm”.")
    label = serializers.CharField()  # type: ignore[assignment]  # a key of ours; DRF's is of a Field
    code = serializers.CharField(allow_blank=True, help_text="Empty where there is none; the note says why.")
    note = serializers.CharField(allow_blank=True)


class SummarySerializer(serializers.Serializer[dict[str, Any]]):
    """What the report page says beyond the report: the verdict in a sentence, and what to type."""

    verdict = VerdictSerializer()
    size = serializers.CharField(allow_blank=True, help_text="Modules, rank and size of the adapter.")
    race = serializers.CharField(allow_blank=True, help_text="What to see in the race.")
    command = serializers.CharField(help_text="Makes the same adapter again.")
    private_modules = serializers.ListField(
        child=serializers.CharField(),
        help_text="What the command fetches only with HF_TOKEN set to an access token of yours.",
    )
    snippets = SnippetSerializer(many=True)
