"""Reports and decisions for programs: the same services as the pages."""

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from composer.share.services import share_find
from hub_site.accounts.authentication import TokenScope
from hub_site.accounts.models import User
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.accounts.staff import StaffApi
from hub_site.common.api_errors import refusals
from hub_site.moderation import selectors
from hub_site.moderation.models import Report
from hub_site.moderation.selectors import Thing
from hub_site.moderation.serializers import (
    AccountDecisionInput,
    AccountStateSerializer,
    CaseSerializer,
    DecisionInput,
    ReportInput,
    ReportSerializer,
    ThingDetailSerializer,
    case_body,
)
from hub_site.moderation.services import account_decide, report_file, thing_decide
from modules_registry.access import module_or_404
from modules_registry.api import validate


class ReportingApi(APIView):
    """Everybody may report what they see."""

    permission_classes = [TokenScope]

    def file_report(self, request: Request, thing: Thing) -> Response:
        reporter = request.user if isinstance(request.user, User) else None
        address = str(request.META.get("REMOTE_ADDR", ""))
        report: Report = report_file(
            thing=thing, reporter=reporter, address=address, **validate(ReportInput, request)
        )
        return Response(ReportSerializer(report).data, status=status.HTTP_201_CREATED)


class ModuleReportsApi(ReportingApi):
    @extend_schema(
        operation_id="modules_report",
        summary="Report a module to staff",
        tags=["reports"],
        request=ReportInput,
        responses={201: ReportSerializer, **refusals(400, 401, 403, 404, 409, 429)},
    )
    def post(self, request: Request, namespace: str, name: str) -> Response:
        """Without an account it needs a mail address, and few are taken from one network address."""
        return self.file_report(request, Thing(module_or_404(namespace, name, request.user)))


class SharedReportsApi(ReportingApi):
    @extend_schema(
        operation_id="shared_report",
        summary="Report a shared report to staff",
        tags=["reports"],
        request=ReportInput,
        responses={201: ReportSerializer, **refusals(400, 401, 403, 404, 409, 429)},
    )
    def post(self, request: Request, token: str) -> Response:
        """What a private link leads to. Without an account it needs a mail address."""
        link = share_find(token)
        if link is None:
            raise Http404
        return self.file_report(request, Thing(link.composition))


class QueueApi(StaffApi):
    @extend_schema(
        operation_id="staff_queue",
        summary="List open abuse reports",
        tags=["staff"],
        responses={200: CaseSerializer(many=True), **refusals(401, 404)},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        """Each thing with the reports about it that wait, most reports first."""
        cases = [case_body(case) for case in selectors.cases_waiting()]
        return Response(CaseSerializer(cases, many=True).data)


class ThingApi(StaffApi):
    @extend_schema(
        operation_id="staff_thing",
        summary="Read what was reported",
        tags=["staff"],
        responses={200: ThingDetailSerializer, **refusals(401, 404)},
    )
    def get(self, request: SignedInApiRequest, kind: str, key: str) -> Response:
        return Response(ThingDetailSerializer(thing_or_404(kind, key)).data)

    @extend_schema(
        operation_id="staff_decide",
        summary="Decide an abuse report",
        tags=["staff"],
        request=DecisionInput,
        responses={200: ThingDetailSerializer, **refusals(400, 401, 403, 404, 409)},
    )
    def post(self, request: SignedInApiRequest, kind: str, key: str) -> Response:
        """Dismiss its reports, quarantine, release or take down a module, block or unblock a link."""
        thing = thing_or_404(kind, key)
        thing_decide(staff=request.user, thing=thing, **validate(DecisionInput, request))
        return Response(ThingDetailSerializer(thing_or_404(kind, key)).data)


class AccountDecisionApi(StaffApi):
    @extend_schema(
        operation_id="staff_account_decide",
        summary="Suspend or restore an account",
        tags=["staff"],
        request=AccountDecisionInput,
        responses={200: AccountStateSerializer, **refusals(400, 401, 403, 404, 409)},
    )
    def post(self, request: SignedInApiRequest, namespace: str) -> Response:
        """Its sign-in, tokens and jobs end, and its modules are hidden, until it is restored."""
        account = selectors.account_find(namespace)
        if account is None:
            raise Http404
        account_decide(staff=request.user, account=account, **validate(AccountDecisionInput, request))
        state = {
            "name": account.username,
            "suspended_at": account.suspended_at,
            "reason": account.suspension_reason,
        }
        return Response(AccountStateSerializer(state).data)


def thing_or_404(kind: str, key: str) -> Thing:
    thing = selectors.thing_find(kind, key)
    if thing is None:
        raise Http404
    return thing
