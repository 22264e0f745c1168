"""What the API says of a module's weights, its neighbors and its changes, and what it asks for."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from hub_site.common.api_inputs import OneOfField
from modules_registry.core.delta import Strength
from modules_registry.explore.changes import ChangedFact, Changes, DiffLine, LayerChange, WeightsChange
from modules_registry.fitting import Fitting, Misfits, Pair
from modules_registry.likeness import Copies, Similar
from modules_registry.serializers import FULL_NAME_LENGTH_MAX

REVISION_LENGTH_MAX = 100
BY = ("weights", "text")


class RevisionInput(serializers.Serializer[dict[str, Any]]):
    revision = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=REVISION_LENGTH_MAX,
        help_text="“main” (default), a commit id, or a version as “v2” or “2”.",
    )


class SimilarInput(RevisionInput):
    by = OneOfField(
        choices=BY, default="weights", help_text="“weights”: of the same base, by ΔW. “text”: of any base."
    )


class CompatibleInput(RevisionInput):
    module = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=FULL_NAME_LENGTH_MAX,
        help_text="“owner/name”: say of this module alone whether it fits, and why not.",
    )


class ChangesInput(serializers.Serializer[dict[str, Any]]):
    to = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=REVISION_LENGTH_MAX,
        help_text="A version as “v2” or “2”; without it the current one.",
    )

    def get_fields(self) -> dict[str, Any]:
        before = serializers.CharField(  # "from" is a word of Python
            default="",
            allow_blank=True,
            max_length=REVISION_LENGTH_MAX,
            help_text="A version as “v2” or “2”; without it the one before.",
        )
        return {"from": before, **super().get_fields()}


class StrengthSerializer(serializers.Serializer[Strength]):
    path = serializers.CharField()
    norm = serializers.FloatField(help_text="‖ΔW‖, the Frobenius norm of scaling · B · A.")
    largest = serializers.FloatField(help_text="The largest singular value of ΔW.")
    stable_rank = serializers.FloatField(help_text="‖ΔW‖² / largest²; at most the rank.")


class StrengthsSerializer(serializers.Serializer[dict[str, Any]]):
    """Where the weights of a version are strong."""

    is_measured = serializers.BooleanField(help_text="A worker measures a version soon after it came.")
    norm = serializers.FloatField(help_text="‖ΔW‖ over all layers; 0 until it is measured.")
    delta_sha256 = serializers.CharField(help_text="Equal for the same weights in another file.")
    layers = StrengthSerializer(many=True)


class SimilarSerializer(serializers.Serializer[Similar]):
    id = serializers.CharField(source="module.full_name")
    cosine = serializers.FloatField(help_text="-1 to 1; from sketches, but exact for near-copies.")
    same_weights = serializers.IntegerField(help_text="How many more modules have the same weights.")


class CopiesSerializer(serializers.Serializer[Copies]):
    """Modules with the same weights, and those whose ΔW has a cosine of at least 0.999."""

    same = serializers.SerializerMethodField(help_text="The oldest first, at most 20.")
    same_count = serializers.IntegerField()
    near = SimilarSerializer(many=True)

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_same(self, copies: Copies) -> list[str]:
        return [module.full_name for module in copies.same]


class MisfitsSerializer(serializers.Serializer[Misfits]):
    code = serializers.CharField()
    message = serializers.CharField()
    count = serializers.IntegerField()


class ReasonsSerializer(serializers.Serializer[Pair]):
    """Whether one module can be composed with another, by each rule."""

    id = serializers.CharField(source="version.module.full_name")
    fits_by = serializers.ListField(
        source="fits", child=serializers.CharField(), help_text="The rules by which the two fit."
    )
    why_not = serializers.SerializerMethodField(help_text="By rule, sentences; empty: they fit.")

    @extend_schema_field(serializers.DictField(child=serializers.ListField(child=serializers.CharField())))
    def get_why_not(self, pair: Pair) -> dict[str, list[str]]:
        return {rule: [reason.message for reason in reasons] for rule, reasons in pair.reasons.items()}


class FittingSerializer(serializers.Serializer[Fitting]):
    """What can be composed with a module. List it by GET /modules?fits=owner/name&fits_by=sum or factors."""

    why_none = serializers.CharField(help_text="Why nothing can be composed with it here; else empty.")
    by_sum = serializers.IntegerField(help_text="By methods that add whole updates.")
    by_factors = serializers.IntegerField(help_text="By methods that add A to A and B to B.")
    elsewhere = serializers.IntegerField(help_text="Published modules of other bases, 10,000 at most.")
    misfits = MisfitsSerializer(many=True, help_text="Of the same base, by reason, most frequent first.")
    pair = ReasonsSerializer(allow_null=True, help_text="Of the module that was asked for; null if none was.")


class ChangedFactSerializer(serializers.Serializer[ChangedFact]):
    key = serializers.CharField()
    before = serializers.CharField(help_text="As JSON; empty: it was not there.")
    after = serializers.CharField()


class DiffLineSerializer(serializers.Serializer[DiffLine]):
    kind = serializers.ChoiceField(choices=("added", "removed", "same", "place"))
    text = serializers.CharField()


class LayerChangeSerializer(serializers.Serializer[LayerChange]):
    path = serializers.CharField()
    norm_before = serializers.FloatField()
    norm_after = serializers.FloatField()
    distance = serializers.FloatField(help_text="‖ΔW after − ΔW before‖.")
    cosine = serializers.FloatField()


class WeightsChangeSerializer(serializers.Serializer[WeightsChange]):
    reason = serializers.CharField(help_text="Why the weights are not compared; else empty.")
    is_same = serializers.BooleanField()
    distance = serializers.FloatField(help_text="Over all layers.")
    cosine = serializers.FloatField()
    layers = LayerChangeSerializer(many=True, help_text="Those that went farthest first.")


class ChangesSerializer(serializers.Serializer[Changes]):
    """What changed between two versions of a module."""

    before = serializers.CharField(source="before.revision")
    after = serializers.CharField(source="after.revision")
    config = ChangedFactSerializer(many=True)
    card = DiffLineSerializer(many=True)
    card_is_too_long = serializers.BooleanField(help_text="Too many lines differ to list them.")
    weights = WeightsChangeSerializer()
