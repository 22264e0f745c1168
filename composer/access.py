"""Whose composition is it: what every page and API view asks before it shows one."""

from uuid import UUID

from django.http import Http404
from rest_framework.permissions import IsAuthenticated
from rest_framework.views import APIView

from composer import selectors
from composer.models import Composition
from hub_site.accounts.authentication import TokenScope
from hub_site.accounts.requests import SignedInApiRequest, SignedInRequest
from hub_site.common.errors import Refusal


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


def get_own_composition(request: SignedInRequest, composition_id: UUID) -> Composition:
    composition = selectors.composition_find(request.user, composition_id)
    if composition is None:
        raise Http404
    return composition
