"""Whose composition is it: what every page and API view asks before it shows one."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from composer import selectors
from composer.guests import guest_adopt, visitors_may_compose
from composer.models import Composition
from hub_site.accounts.authentication import TokenScope
from hub_site.accounts.guests import guest_create, guest_find
from hub_site.accounts.models import User
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.common.errors import Refusal
from hub_site.common.requests import PageRequest
from hub_site.common.visitors import address_hash

GUEST = "guest"  # in a visitor's session: the primary key of the guest that this browser is
OwnerView = Callable[..., HttpResponseBase]


class OwnerRequest(PageRequest):
    """What a view behind `for_owners` receives."""

    owner: User  # the account, or a guest


class VisitorRequest(PageRequest):
    """What a view behind `for_visitors` receives."""

    owner: User | None  # none: a visitor who has kept nothing yet


def owner_of(request: HttpRequest) -> User | None:
    """The account, or the guest that this browser is; None: a visitor who has kept nothing yet."""
    if isinstance(request.user, User):
        return request.user
    return guest_find(request.session.get(GUEST))


def require_owner(request: HttpRequest) -> User:
    """As owner_of; a visitor's browser becomes a guest.

    Raises:
        Refusal: too many visitors compose (429).
    """
    owner = owner_of(request)
    if owner is None:
        owner = guest_create(address_hash=address_hash(request))
        request.session[GUEST] = owner.pk
    return owner


def for_owners(view: OwnerView) -> OwnerView:
    """For accounts and guests. Anybody else is asked to sign in."""

    @wraps(view)
    def with_owner(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        request.owner = owner_of(request)
        if request.owner is None:
            return redirect_to_login(request.get_full_path())
        return view(request, *args, **kwargs)

    return with_owner


def for_visitors(view: OwnerView) -> OwnerView:
    """For everybody, where visitors may compose; elsewhere as `for_owners`."""
    closed = for_owners(view)

    @wraps(view)
    def with_owner_if_any(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not visitors_may_compose():
            return closed(request, *args, **kwargs)
        request.owner = owner_of(request)
        return view(request, *args, **kwargs)

    return with_owner_if_any


def adopt_guest(sender: object, request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    """After a sign-in: what the same browser made as a guest is the account's from now on."""
    guest = guest_find(request.session.pop(GUEST, None)) if request is not None else None
    if guest is not None:
        guest_adopt(guest=guest, user=user)


class VisitorsToo(BasePermission):
    """Accounts and programs without any token; not a token outside of what it is limited to."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, User) or request.auth is None


class OwnerApi(APIView):
    """What is private to its owner: nobody else's exists."""

    permission_classes = [IsAuthenticated, TokenScope]

    def own(self, request: SignedInApiRequest, composition_id: UUID) -> Composition:
        composition = selectors.composition_find(request.user, composition_id)
        if composition is None:
            raise Http404
        return composition

    def own_done(self, request: SignedInApiRequest, composition_id: UUID) -> Composition:
        composition = self.own(request, composition_id)
        if not composition.is_done:
            raise Refusal("not_done", "There is no report, or not yet.", status=409)
        return composition


def get_own_composition(owner: User, composition_id: UUID) -> Composition:
    composition = selectors.composition_find(owner, composition_id)
    if composition is None:
        raise Http404
    composition.owner = owner  # known, so that nobody asks the database for it
    return composition
