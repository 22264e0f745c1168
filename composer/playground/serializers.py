"""Questions and answers for programs."""

from typing import Any

from rest_framework import serializers

from composer.playground import selectors
from composer.playground.models import TryOut
from hub_site.common.api_inputs import InputSerializer
from hub_site.jobs.models import Status


class QuestionSerializer(InputSerializer):
    input = serializers.CharField(trim_whitespace=False, help_text="At most 4,000 characters.")
    template = serializers.CharField(
        required=False,
        trim_whitespace=False,
        help_text="Text with {input} in it, or “chat”; the adapter's own unless told.",
    )
    max_new_tokens = serializers.IntegerField(required=False, help_text="1 to 256; 64 unless told.")

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        asked: dict[str, Any] = super().to_internal_value(data)
        return {"text": asked.pop("input"), **asked}


class AnswerSerializer(serializers.Serializer[dict[str, Any]]):
    text = serializers.CharField()
    tokens = serializers.IntegerField(help_text="Of the answer.")
    seconds = serializers.FloatField()
    is_out_of_time = serializers.BooleanField(help_text="The time limit ended it.")
    is_full = serializers.BooleanField(help_text="It has as many tokens as it may have.")


class TryOutSerializer(serializers.ModelSerializer[TryOut]):
    """A question and, once it is done, its two answers. Kept for a day; only who asked may read it."""

    ahead = serializers.SerializerMethodField(help_text="Questions that come before this one.")
    is_finished = serializers.BooleanField()
    prompt = serializers.CharField(source="result.prompt", default=None, help_text="What the model read.")
    prompt_tokens = serializers.IntegerField(source="result.prompt_tokens", default=None)
    answer = AnswerSerializer(source="result.adapted", default=None, help_text="With the adapter.")
    base_answer = AnswerSerializer(source="result.base", default=None, help_text="Of the base alone.")
    missing_worker = serializers.SerializerMethodField(
        help_text="A sentence while no worker has picked it up in time; else null."
    )
    error = serializers.SerializerMethodField(help_text="Why there is no answer, where there is none.")

    class Meta:
        model = TryOut
        fields = [
            *("id", "status", "is_finished", "ahead", "missing_worker"),
            *("input", "template", "max_new_tokens", "created_at"),
            *("is_cold", "prompt", "prompt_tokens", "answer", "base_answer", "error"),
        ]

    def get_ahead(self, tryout: TryOut) -> int:
        return selectors.ahead_of(tryout)

    def get_missing_worker(self, tryout: TryOut) -> str | None:
        return selectors.missing_worker_text(tryout) or None

    def get_error(self, tryout: TryOut) -> dict[str, str] | None:
        if tryout.status != Status.FAILED:
            return None
        return {"code": tryout.error_code, "message": tryout.error_message}
