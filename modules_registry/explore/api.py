"""A module's weights, its neighbors and its changes, and what a hash names, for programs."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub_site.common.api_errors import ErrorSerializer
from hub_site.common.errors import Refusal
from modules_registry import selectors
from modules_registry.access import module_or_404
from modules_registry.api import NOT_FOUND
from modules_registry.explore.changes import changes_between
from modules_registry.explore.selectors import chosen_or_told, pair_asked, version_before
from modules_registry.explore.serializers import (
    ChangesInput,
    ChangesSerializer,
    CompatibleInput,
    CopiesSerializer,
    FittingSerializer,
    ReasonsSerializer,
    RevisionInput,
    SimilarInput,
    SimilarSerializer,
    StrengthsSerializer,
)
from modules_registry.fitting import fitting_of
from modules_registry.hashes import DIGITS_MIN, hash_find, read_hash
from modules_registry.likeness import copies_of, similar_by_text, similar_by_weights
from modules_registry.models import Module, Version
from modules_registry.serializers import HashMatchSerializer

READ = {400: ErrorSerializer, **NOT_FOUND}


class StrengthsApi(APIView):
    @extend_schema(
        operation_id="modules_strengths",
        summary="Read a module's weight strength by layer",
        tags=["modules"],
        parameters=[RevisionInput],
        responses={200: StrengthsSerializer, **READ},
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        _, version, _ = asked_version(RevisionInput, request, namespace, name)
        found = {
            "is_measured": version.sketch is not None,
            "norm": version.sketch.norm if version.sketch is not None else 0.0,
            "delta_sha256": version.sketch.delta_sha256 if version.sketch is not None else "",
            "layers": selectors.strengths_of(version),
        }
        return Response(StrengthsSerializer(found).data)


class SimilarApi(APIView):
    @extend_schema(
        operation_id="modules_similar",
        summary="List similar modules",
        description="Modules with the same weights are one entry, named after the oldest.",
        tags=["modules"],
        parameters=[SimilarInput],
        responses={200: SimilarSerializer(many=True), **READ},
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        module, version, asked = asked_version(SimilarInput, request, namespace, name)
        found: Any
        if asked["by"] == "text":
            found = similar_by_text(module, request.user)
        else:
            found = similar_by_weights(version, request.user)
        return Response(SimilarSerializer(found, many=True).data)


class CopiesApi(APIView):
    @extend_schema(
        operation_id="modules_copies",
        summary="List copies and near-copies",
        tags=["modules"],
        parameters=[RevisionInput],
        responses={200: CopiesSerializer, **READ},
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        _, version, _ = asked_version(RevisionInput, request, namespace, name)
        return Response(CopiesSerializer(copies_of(version, request.user)).data)


class CompatibleApi(APIView):
    @extend_schema(
        operation_id="modules_compatible",
        summary="List modules that can be composed with one",
        tags=["modules"],
        parameters=[CompatibleInput],
        responses={200: FittingSerializer, **READ},
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        _, version, asked = asked_version(CompatibleInput, request, namespace, name)
        pair = pair_asked(version, asked["module"], request.user)
        if asked["module"] and pair is None and version.base_id is not None:
            message = f"There is no published module “{asked['module']}” that you can see."
            raise Refusal("no_such_module", message, fields={"module": [message]})
        found = fitting_of(version, request.user)
        of_pair = ReasonsSerializer(pair).data if pair is not None else None
        return Response({**FittingSerializer(found).data, "pair": of_pair})


class ChangesApi(APIView):
    @extend_schema(
        operation_id="modules_changes",
        summary="Compare two versions",
        tags=["modules"],
        parameters=[ChangesInput],
        responses={200: ChangesSerializer, **READ},
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        asked = validated(ChangesInput, request)
        module = module_or_404(namespace, name, request.user)
        versions = list(selectors.versions_of(module))
        after = chosen_or_told(module, "to", asked["to"], versions[0])
        before = chosen_or_told(module, "from", asked["from"], version_before(versions, after))
        return Response(ChangesSerializer(changes_between(before, after)).data)


class HashApi(APIView):
    @extend_schema(
        operation_id="hashes_find",
        summary="Find modules by a hash",
        description=(
            "The sha256 of a file or of weights, a commit id or a git blob id, whole or its first digits, at "
            "least seven. Current versions come first, versions with the same weights in another file last. "
            "Empty if it belongs to none that you can see."
        ),
        tags=["library"],
        responses={200: HashMatchSerializer(many=True), **READ},
    )
    def get(self, request: Request, digest: str) -> Response:
        if read_hash(digest) is None:
            message = f"A hash is {DIGITS_MIN} to 64 hexadecimal digits."
            raise Refusal("not_a_hash", message, fields={"digest": [message]})
        found: Any = hash_find(digest, request.user)
        return Response(HashMatchSerializer(found, many=True).data)


def validated(serializer_class: type[Any], request: Request) -> dict[str, Any]:
    asked = serializer_class(data=request.query_params)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


def asked_version(
    serializer_class: type[Any], request: Request, namespace: str, name: str
) -> tuple[Module, Version, dict[str, Any]]:
    """The module, the version asked for, and what else was asked."""
    asked = validated(serializer_class, request)
    module = module_or_404(namespace, name, request.user)
    assert module.current is not None  # it is published
    return module, chosen_or_told(module, "revision", asked["revision"], module.current), asked
