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


class FigureSerializer(serializers.Serializer[dict[str, Any]]):
    key = serializers.CharField(help_text="Of the row in the report's baselines.")
    name = serializers.CharField()
    value = serializers.CharField(help_text="The number, as the page shows it.")
    unit = serializers.CharField(help_text="“%” or “nats per token”.")
    interval_percent = serializers.ListField(
        child=serializers.FloatField(),
        allow_null=True,
        help_text="The lower and upper bound of the 95 % interval; null where there is none.",
    )


class ActionSerializer(serializers.Serializer[dict[str, Any]]):
    kind = serializers.CharField(
        help_text="“adapter”, “baseline”: download its adapter; “module”: take that one; “again”: run again."
    )
    key = serializers.CharField(
        allow_blank=True, help_text="The baseline's key or the module's name; else empty."
    )
    label = serializers.CharField()  # type: ignore[assignment]  # a key of ours; DRF's is of a Field
    note = serializers.CharField(allow_blank=True)


class KeptAdapterSerializer(serializers.Serializer[dict[str, Any]]):
    key = serializers.CharField(help_text="As in the address of its download.")
    label = serializers.CharField()  # type: ignore[assignment]  # a key of ours; DRF's is of a Field
    detail = serializers.CharField(allow_blank=True)
    percent = serializers.FloatField(allow_null=True, help_text="Right answers to the held-out examples.")


class VerdictSerializer(serializers.Serializer[dict[str, Any]]):
    decision = serializers.CharField(
        help_text="“use”, “prompt”, “tune”, “single”, “train”, “unsure”, “none” or “unmeasured”."
    )
    label = serializers.CharField()  # type: ignore[assignment]  # a key of ours; DRF's is of a Field
    figures = FigureSerializer(
        many=True, help_text="The two that decide, what is advised first; none where nothing was decided."
    )
    basis = serializers.CharField(allow_blank=True, help_text="What the two figures were measured on.")
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
    action = ActionSerializer(help_text="The one next action that the verdict implies.")
    tries = serializers.ListField(
        child=serializers.CharField(), help_text="What may give a better adapter or a surer verdict."
    )
    adapters = KeptAdapterSerializer(many=True, help_text="Baselines with an adapter to download.")
    modules = serializers.CharField(help_text="How the modules of the search were chosen.")
    size = serializers.CharField(allow_blank=True, help_text="Modules, rank and size of the adapter.")
    race = serializers.CharField(allow_blank=True, help_text="What the comparison shows.")
    command = serializers.CharField(help_text="Makes the same adapter again.")
    private_modules = serializers.ListField(
        child=serializers.CharField(),
        help_text="What the command fetches only with HF_TOKEN set to an access token of yours.",
    )
    snippets = SnippetSerializer(many=True)
