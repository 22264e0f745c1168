"""What the API says of reports and decisions, and what it asks for."""

from typing import Any

from rest_framework import serializers

from hub_site.common.api_inputs import InputSerializer, OneOfField
from hub_site.moderation.models import NOTE_MAX, REASON_MAX, Report
from hub_site.moderation.selectors import ACCOUNT_DECISIONS, COMPOSITION_DECISIONS, MODULE_DECISIONS, Case


class ReportInput(InputSerializer):
    """What is wrong with a module or with a shared report."""

    reason = OneOfField(choices=Report.Reason.choices)
    note = serializers.CharField(required=False, allow_blank=True, default="", max_length=NOTE_MAX)
    email = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=254,
        help_text="Needed without an account, so that staff can ask you.",
    )


class ReportSerializer(serializers.ModelSerializer[Report]):
    """A report as it was taken."""

    class Meta:
        model = Report
        fields = ("id", "reason", "note", "created_at")


class DecisionInput(InputSerializer):
    """What staff decide about a thing."""

    decision = OneOfField(choices=sorted({*MODULE_DECISIONS, *COMPOSITION_DECISIONS}))
    reason = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=REASON_MAX,
        help_text="A sentence for its owner; needed to quarantine, take down or block.",
    )


class AccountDecisionInput(InputSerializer):
    """What staff decide about an account."""

    decision = OneOfField(choices=list(ACCOUNT_DECISIONS))
    reason = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=REASON_MAX,
        help_text="A sentence for its owner; needed to suspend.",
    )


class SameWeightsSerializer(serializers.Serializer[Any]):
    """Another module with the same weights."""

    key = serializers.CharField(help_text="Its row's key, for …/staff/things/module/{key}.")
    name = serializers.CharField()
    owner = serializers.CharField()
    state = serializers.CharField(help_text="What staff did to it; empty: nothing.")


class ThingSerializer(serializers.Serializer[Any]):
    """What reports are about."""

    kind = serializers.CharField(help_text="“module” or “composition”.")
    key = serializers.CharField(help_text="Its row's key, for …/staff/things/{kind}/{key}.")
    name = serializers.CharField()
    owner = serializers.CharField()
    state = serializers.CharField(help_text="What staff did to it; empty: nothing.")
    reason = serializers.CharField(help_text="Why, as its owner was told.")  # type: ignore[assignment]
    decisions = serializers.ListField(
        child=serializers.CharField(), help_text="What can be decided as it stands."
    )


class ThingDetailSerializer(ThingSerializer):
    """What reports are about, and where else its weights are."""

    same_weights = SameWeightsSerializer(
        many=True,
        help_text="Other modules with these very weights: a decision about one is none about the others.",
    )


class WaitingReportSerializer(serializers.Serializer[Any]):
    """A report, as staff read it."""

    reason = serializers.CharField()
    note = serializers.CharField()
    by = serializers.CharField(help_text="The account, or a visitor's mail address.")
    created_at = serializers.DateTimeField()


class CaseSerializer(serializers.Serializer[Any]):
    """A thing with the reports about it that wait."""

    thing = ThingSerializer()
    reports = WaitingReportSerializer(many=True)


class AccountStateSerializer(serializers.Serializer[Any]):
    """How an account stands."""

    name = serializers.CharField()
    suspended_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField()


def case_body(case: Case) -> dict[str, Any]:
    reports = [
        {
            "reason": report.reason,
            "note": report.note,
            "by": report.reporter.username if report.reporter else report.email,
            "created_at": report.created_at,
        }
        for report in case.reports
    ]
    return {"thing": case.thing, "reports": reports}
