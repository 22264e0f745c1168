"""What is for staff alone: for everybody else it does not exist."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from hub_site.accounts.authentication import TokenScope
from hub_site.accounts.requests import SignedInRequest

StaffView = Callable[..., HttpResponse]


def for_staff(view: StaffView) -> StaffView:
    """A page of staff."""

    @login_required
    @wraps(view)
    def with_staff(request: SignedInRequest, **named: Any) -> HttpResponse:
        if not request.user.is_staff:
            raise Http404
        return view(request, **named)

    return with_staff


class StaffApi(APIView):
    """An operation of staff."""

    permission_classes = [IsAuthenticated, TokenScope]

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        if not getattr(request.user, "is_staff", False):
            raise Http404
