"""One's own account, its sessions and its organizations, for programs: the same services as the pages."""

from typing import Any

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.http import Http404
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from hub_site.accounts.authentication import TokenScope
from hub_site.accounts.models import Membership, Namespace
from hub_site.accounts.names import NAME_LENGTH_MAX
from hub_site.accounts.organizations import (
    invitation_accept,
    invitation_decline,
    invitations_for,
    member_change,
    member_invite,
    member_remove,
    members_of,
    memberships_of,
    organization_find,
)
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.accounts.services import organization_create
from hub_site.common.api_errors import downloads, refusals
from hub_site.common.api_inputs import BoundedListField, InputSerializer, OneOfField
from hub_site.common.downloads import serve_download
from hub_site.common.errors import field_refusal
from hub_site.my_account.export import account_export
from hub_site.my_account.passwords import PASSWORD_LENGTH_MAX, require_password
from hub_site.my_account.quotas import all_quotas
from hub_site.my_account.services import account_delete, session_end
from hub_site.notifications.models import MAILED_BY_CHOICE, Kind
from hub_site.notifications.selectors import mailed_kinds, notifications_of
from hub_site.notifications.services import mail_choose, notifications_read
from modules_registry.api import validate


class OwnApi(APIView):
    permission_classes = [IsAuthenticated, TokenScope]


class QuotaSerializer(serializers.Serializer[Any]):
    """One limit, and what is used of it."""

    name = serializers.CharField(help_text="Stable, as in the RateLimit headers.")
    label = serializers.CharField()  # type: ignore[assignment]
    used = serializers.IntegerField()
    most = serializers.IntegerField(help_text="0: there is no limit.")
    unit = serializers.CharField(help_text="“bytes”, “seconds”, or empty for what is counted.")
    resets_s = serializers.IntegerField(help_text="Seconds until the oldest one no longer counts.")


class OwnerQuotasSerializer(serializers.Serializer[Any]):
    """The limits of one owner."""

    owner = serializers.CharField()
    quotas = QuotaSerializer(many=True)


class AccountDeletion(InputSerializer):
    """What confirms it."""

    name = serializers.CharField(max_length=NAME_LENGTH_MAX, help_text="The account's own name.")
    password = serializers.CharField(
        max_length=PASSWORD_LENGTH_MAX,
        trim_whitespace=False,
        help_text="The account's password: a token alone deletes nobody.",
    )


class AccountApi(OwnApi):
    @extend_schema(
        operation_id="account_quotas",
        summary="List your quotas and usage",
        tags=["account"],
        responses={200: OwnerQuotasSerializer(many=True), **refusals(401)},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        return Response(OwnerQuotasSerializer(all_quotas(request.user), many=True).data)

    @extend_schema(
        operation_id="account_delete",
        summary="Delete your account",
        tags=["account"],
        request=AccountDeletion,
        responses={204: None, **refusals(400, 401, 403, 409, 429)},
    )
    def delete(self, request: SignedInApiRequest) -> Response:
        """Your modules and compositions go. Versions that others' work stands on stay for that alone."""
        asked = validate(AccountDeletion, request)
        if asked["name"] != request.user.username:
            raise field_refusal("not_confirmed", "name", "This is not your account's name.")
        require_password(request._request, request.user, asked["password"])
        account_delete(user=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ExportApi(OwnApi):
    @extend_schema(
        operation_id="account_export",
        summary="Export your data",
        tags=["account"],
        responses=downloads("application/zip", 401),
    )
    def get(self, request: SignedInApiRequest) -> HttpResponseBase:
        """A zip of JSON files: all that this site has of your account."""
        return serve_download(request._request, account_export(request.user))


class SessionSerializer(serializers.Serializer[Any]):
    """A browser that is signed in."""

    id = serializers.IntegerField()
    created_at = serializers.DateTimeField(help_text="When it signed in.")
    ip = serializers.CharField()
    user_agent = serializers.CharField()


class SessionsApi(OwnApi):
    @extend_schema(
        operation_id="account_sessions",
        summary="List your sessions",
        tags=["account"],
        responses={200: SessionSerializer(many=True), **refusals(401)},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        sessions = UserSession.objects.purge_and_list(request.user)
        return Response(SessionSerializer(sessions, many=True).data)


class SessionApi(OwnApi):
    @extend_schema(
        operation_id="account_session_end",
        summary="End a session",
        tags=["account"],
        responses={204: None, **refusals(401, 403, 404)},
    )
    def delete(self, request: SignedInApiRequest, number: int) -> Response:
        """That browser is signed out."""
        session_end(user=request.user, number=number)
        return Response(status=status.HTTP_204_NO_CONTENT)


class NotificationSerializer(serializers.Serializer[Any]):
    """One thing that your account was told."""

    id = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=Kind.choices)
    text = serializers.CharField(help_text="A sentence or two.")
    url = serializers.SerializerMethodField(help_text="The page of it; empty: there is none.")
    created_at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(allow_null=True, help_text="null: it is unread.")

    def get_url(self, notification: Any) -> str:
        path: str = notification.path
        return f"{settings.PUBLIC_ADDRESS}{path}" if path else ""


class NotificationsPageSerializer(serializers.Serializer[Any]):
    """A page of notifications, newest first."""

    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = NotificationSerializer(many=True)


class NotificationsPagination(PageNumberPagination):
    page_size = 50


class NotificationsApi(OwnApi):
    @extend_schema(
        operation_id="account_notifications",
        summary="List your notifications",
        tags=["account"],
        parameters=[
            OpenApiParameter("page", int, description="From 1."),
            OpenApiParameter("unread", bool, description="true: those that are unread alone."),
        ],
        responses={200: NotificationsPageSerializer, **refusals(400, 401, 404)},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        """Compositions and imports that are done, uses of your modules, reports, invitations."""
        asked = request.query_params.get("unread", "false")
        if asked not in ("true", "false"):
            raise field_refusal("bad_value", "unread", "Write true or false.", ("true", "false"))
        pages = NotificationsPagination()
        found = notifications_of(request.user, only_unread=asked == "true")
        page = pages.paginate_queryset(found, request, view=self) or []
        return pages.get_paginated_response(NotificationSerializer(page, many=True).data)


class NotificationsReadInput(InputSerializer):
    """Which ones."""

    ids = BoundedListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        max_length=1000,
        required=False,
        help_text="Left out: all of them.",
    )


class NotificationsReadSerializer(serializers.Serializer[Any]):
    """What it did."""

    read = serializers.IntegerField(help_text="So many were unread.")


class NotificationsReadApi(OwnApi):
    @extend_schema(
        operation_id="account_notifications_read",
        summary="Mark notifications as read",
        tags=["account"],
        request=NotificationsReadInput,
        responses={200: NotificationsReadSerializer, **refusals(400, 401, 403)},
    )
    def post(self, request: SignedInApiRequest) -> Response:
        ids = validate(NotificationsReadInput, request).get("ids")
        return Response({"read": notifications_read(user=request.user, ids=ids)})


class NotificationMailSerializer(InputSerializer):
    """What comes by mail, too."""

    mail = BoundedListField(
        child=OneOfField(choices=[kind.value for kind in MAILED_BY_CHOICE]),
        max_length=len(MAILED_BY_CHOICE),
        help_text="Kinds of notifications of which you get a mail each time.",
    )


class NotificationMailApi(OwnApi):
    @extend_schema(
        operation_id="account_notification_mail",
        summary="Read which notifications are mailed",
        tags=["account"],
        responses={200: NotificationMailSerializer, **refusals(401)},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        return Response({"mail": mailed_kinds(request.user)})

    @extend_schema(
        operation_id="account_notification_mail_choose",
        summary="Choose which notifications are mailed",
        tags=["account"],
        request=NotificationMailSerializer,
        responses={200: NotificationMailSerializer, **refusals(400, 401, 403)},
    )
    def put(self, request: SignedInApiRequest) -> Response:
        """Of the kind “composition”, each new composition starts with its mail switched on."""
        mail_choose(user=request.user, kinds=validate(NotificationMailSerializer, request)["mail"])
        return Response({"mail": mailed_kinds(request.user)})


class MemberSerializer(serializers.Serializer[Any]):
    """Who belongs to an organization, and as what."""

    organization = serializers.CharField(source="namespace.name")
    name = serializers.CharField(source="user.username")
    role = serializers.ChoiceField(choices=Membership.Role.choices)


class OrganizationInput(InputSerializer):
    """A new organization."""

    name = serializers.CharField(max_length=NAME_LENGTH_MAX)


class OrganizationsApi(OwnApi):
    @extend_schema(
        operation_id="organizations_list",
        summary="List your organizations",
        tags=["organizations"],
        responses={200: MemberSerializer(many=True), **refusals(401)},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        found = memberships_of(request.user).select_related("user")
        return Response(MemberSerializer(found, many=True).data)

    @extend_schema(
        operation_id="organizations_create",
        summary="Create an organization",
        tags=["organizations"],
        request=OrganizationInput,
        responses={201: MemberSerializer, **refusals(400, 401, 403, 409)},
    )
    def post(self, request: SignedInApiRequest) -> Response:
        founded = organization_create(founder=request.user, **validate(OrganizationInput, request))
        membership = memberships_of(request.user).select_related("user").get(namespace=founded)
        return Response(MemberSerializer(membership).data, status=status.HTTP_201_CREATED)


class InviteInput(InputSerializer):
    """Whom to ask, and as what."""

    who = serializers.CharField(max_length=254, help_text="The name of an account, or a mail address.")
    role = OneOfField(choices=Membership.Role.choices, default=Membership.Role.READ)


class InvitationSerializer(serializers.Serializer[Any]):
    """An invitation that waits for an answer."""

    id = serializers.IntegerField()
    organization = serializers.CharField(source="namespace.name")
    who = serializers.CharField(source="of_whom")
    role = serializers.ChoiceField(choices=Membership.Role.choices)
    invited_by = serializers.CharField(source="invited_by.username")


class MembersApi(OwnApi):
    @extend_schema(
        operation_id="organizations_members",
        summary="List the members of an organization",
        tags=["organizations"],
        responses={200: MemberSerializer(many=True), **refusals(401, 404)},
    )
    def get(self, request: SignedInApiRequest, namespace: str) -> Response:
        """For its members."""
        found = members_of(organization_of(request, namespace)).select_related("namespace")
        return Response(MemberSerializer(found, many=True).data)

    @extend_schema(
        operation_id="organizations_invite",
        summary="Invite a member",
        tags=["organizations"],
        request=InviteInput,
        responses={201: InvitationSerializer, **refusals(400, 401, 403, 404, 409)},
    )
    def post(self, request: SignedInApiRequest, namespace: str) -> Response:
        """By name or by mail, for its owners."""
        found = organization_of(request, namespace)
        invitation = member_invite(actor=request.user, namespace=found, **validate(InviteInput, request))
        return Response(InvitationSerializer(invitation).data, status=status.HTTP_201_CREATED)


class RoleInput(InputSerializer):
    """Another role."""

    role = OneOfField(choices=Membership.Role.choices)


class MemberApi(OwnApi):
    @extend_schema(
        operation_id="organizations_member_change",
        summary="Change a member's role",
        tags=["organizations"],
        request=RoleInput,
        responses={200: MemberSerializer, **refusals(400, 401, 403, 404, 409)},
    )
    def patch(self, request: SignedInApiRequest, namespace: str, member: str) -> Response:
        found = organization_of(request, namespace)
        role = validate(RoleInput, request)["role"]
        membership = member_change(actor=request.user, namespace=found, member=member, role=role)
        return Response(MemberSerializer(membership).data)

    @extend_schema(
        operation_id="organizations_member_remove",
        summary="Remove a member, or leave",
        tags=["organizations"],
        responses={204: None, **refusals(401, 403, 404, 409)},
    )
    def delete(self, request: SignedInApiRequest, namespace: str, member: str) -> Response:
        member_remove(actor=request.user, namespace=organization_of(request, namespace), member=member)
        return Response(status=status.HTTP_204_NO_CONTENT)


class InvitationsApi(OwnApi):
    @extend_schema(
        operation_id="account_invitations",
        summary="List your invitations",
        tags=["account"],
        responses={200: InvitationSerializer(many=True), **refusals(401)},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        return Response(InvitationSerializer(invitations_for(request.user), many=True).data)


class InvitationApi(OwnApi):
    @extend_schema(
        operation_id="account_invitation_accept",
        summary="Accept an invitation",
        tags=["account"],
        request=None,
        responses={200: MemberSerializer, **refusals(401, 403, 404)},
    )
    def post(self, request: SignedInApiRequest, number: int) -> Response:
        invitation = invitations_for(request.user).filter(pk=number).first()
        if invitation is None:
            raise Http404
        return Response(MemberSerializer(invitation_accept(user=request.user, invitation=invitation)).data)

    @extend_schema(
        operation_id="account_invitation_decline",
        summary="Decline an invitation",
        tags=["account"],
        responses={204: None, **refusals(401, 403, 404)},
    )
    def delete(self, request: SignedInApiRequest, number: int) -> Response:
        invitation = invitations_for(request.user).filter(pk=number).first()
        if invitation is None:
            raise Http404
        invitation_decline(user=request.user, invitation=invitation)
        return Response(status=status.HTTP_204_NO_CONTENT)


def organization_of(request: SignedInApiRequest, name: str) -> Namespace:
    membership = organization_find(name, request.user)
    if membership is None:
        raise Http404
    return membership.namespace
