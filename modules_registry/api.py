"""The registry for programs: the same services and selectors as the pages."""

from dataclasses import asdict
from typing import Any

from django.http import Http404
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ListField
from rest_framework.views import APIView

from hub_site.accounts.api import PAGE_PARAMETERS, HistoryPageSerializer, history_page
from hub_site.accounts.authentication import TokenScope, require_covered
from hub_site.accounts.models import Namespace, User
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.accounts.selectors import namespace_by_name
from hub_site.audit.selectors import history_of
from hub_site.common.api_errors import ErrorSerializer, downloads
from hub_site.common.downloads import serve_download
from hub_site.common.errors import Refusal
from modules_registry import selectors
from modules_registry.access import module_or_404, owned_module_or_404, writable_module_or_404
from modules_registry.activity import activity_of, owner_numbers
from modules_registry.card_preview import card_preview
from modules_registry.catalog import FoundModules, ModuleFilters, find_modules, tags_in_use, ways_on
from modules_registry.comparison import compare_modules
from modules_registry.counting import Counted
from modules_registry.evidence import evidence_of
from modules_registry.facets import BY_KEY, BY_NAME
from modules_registry.files.conversion import as_safetensors
from modules_registry.models import Module
from modules_registry.overviews import foreign_base_or_404, layer_groups, tag_overview_or_404
from modules_registry.popularity import download_days, is_liked, module_like, module_unlike
from modules_registry.quotas import uploads_quota
from modules_registry.repositories import repository_move
from modules_registry.serializers import (
    ActivityInput,
    BaseDetailSerializer,
    BaseModelSerializer,
    CardInput,
    CardPreviewSerializer,
    CompareInput,
    ComparisonSerializer,
    DeedSerializer,
    DownloadDaySerializer,
    EvidenceSerializer,
    FacetsSerializer,
    FilesInput,
    HashMatchSerializer,
    LikeSerializer,
    ModuleChange,
    ModuleDetailSerializer,
    ModuleInput,
    ModulePageSerializer,
    ModuleSerializer,
    ModuleSnippetSerializer,
    MoveInput,
    OwnerSerializer,
    SaidFacetSerializer,
    SearchFilters,
    SearchInput,
    SuggestionInput,
    SuggestionSerializer,
    TagDetailSerializer,
    TagSerializer,
    VersionSerializer,
    WaysOnSerializer,
)
from modules_registry.services import module_delete, module_edit, module_publish, version_add
from modules_registry.snippets import snippets_for_module
from modules_registry.suggestions import suggestions
from modules_registry.tags import normalize_tag

REFUSED = {400: ErrorSerializer, 401: ErrorSerializer, 403: ErrorSerializer}
NOT_FOUND = {403: ErrorSerializer, 404: ErrorSerializer}  # 403: staff hold it; its owner is told why
ELSEWHERE = OpenApiResponse(
    description="A large file of a site whose object storage hands files out: the place to fetch it from, "
    "within ten minutes; `X-Linked-Etag` and `X-Linked-Size` tell what comes."
)
FILE_KINDS = {
    (200, "application/octet-stream"): OpenApiTypes.BINARY,
    (200, "application/json"): OpenApiTypes.OBJECT,
    (200, "text/markdown"): OpenApiTypes.STR,
}
BASE_COLUMNS = ("name", "revision", "sentence", "licence", "kind", "architecture", "parameters")
NOTHING_KNOWN: dict[str, Any] = {  # of a base that is not here
    **dict.fromkeys(("revision", "sentence", "licence", "architecture"), ""),
    **dict.fromkeys(("kind", "parameters")),
    **{"aliases": [], "layers": []},
}
TOO_MUCH = {413: ErrorSerializer, 429: ErrorSerializer, 507: ErrorSerializer}
REVISION = OpenApiParameter(
    "revision", str, description="“main” (default), a commit id, or a version as “v2”.", required=False
)


class ModuleListApi(APIView):
    parser_classes = [MultiPartParser]
    methods_of_limited_tokens = ("POST",)

    @extend_schema(
        operation_id="modules_list",
        summary="Find modules",
        tags=["modules"],
        description="By pages: “next” and “previous” lead on, by a cursor. Counts are exact up to 10,000.",
        parameters=[SearchInput],
        responses={200: ModulePageSerializer, 400: ErrorSerializer, **NOT_FOUND},
    )
    def get(self, request: Request) -> Response:
        asked = asked_search(SearchInput, request)
        cursor, size = asked.pop("cursor"), asked.pop("page_size")
        found = find_modules(filters_of(asked), request.user, cursor=cursor, size=size, has_facets=False)
        listed = ModuleSerializer(found.modules, many=True, context={"request": request})
        pages = {"next": page_address(request, found.next), "previous": page_address(request, found.previous)}
        return Response({**said_of(found), **pages, "results": listed.data})

    @extend_schema(
        operation_id="modules_publish",
        summary="Publish a module",
        tags=["modules"],
        request={"multipart/form-data": ModuleInput},
        responses={201: ModuleDetailSerializer, 409: ErrorSerializer, **REFUSED, **TOO_MUCH},
    )
    def post(self, request: SignedInApiRequest) -> Response:
        asked = validate(ModuleInput, request)
        namespace = namespace_asked(request.user, asked.pop("namespace", ""))
        require_covered(request.auth, f"{namespace.name}/{asked['name']}")
        with as_safetensors(asked.pop("weights_file")) as (weights, is_converted):
            module = module_publish(
                author=request.user,
                namespace=namespace,
                weights_file=weights,
                is_converted=is_converted,
                **asked,
            )
        left = uploads_quota(namespace).headers
        return Response(detail(request, module), status=status.HTTP_201_CREATED, headers=left)


class CompareApi(APIView):
    @extend_schema(
        operation_id="modules_compare",
        summary="Compare two to four modules",
        tags=["modules"],
        parameters=[CompareInput],
        responses={200: ComparisonSerializer, 400: ErrorSerializer, **NOT_FOUND},
    )
    def get(self, request: Request) -> Response:
        """Their facts side by side, and whether they can be composed with each other."""
        asked = CompareInput(data={"id": request.query_params.getlist("id")})
        asked.is_valid(raise_exception=True)
        compared = compare_modules(asked.validated_data["id"], request.user)
        return Response(ComparisonSerializer(compared, context={"request": request}).data)


class FacetListApi(APIView):
    @extend_schema(
        operation_id="modules_facets",
        summary="List the filters of a search",
        description="The most common values of each filter, with how many modules would be left.",
        tags=["modules"],
        parameters=[SearchFilters],
        responses={200: FacetsSerializer, 400: ErrorSerializer, **NOT_FOUND},
    )
    def get(self, request: Request) -> Response:
        found = find_modules(filters_of(asked_search(SearchFilters, request)), request.user, size=1)
        facets = [
            {
                "name": BY_KEY[facet.name].name,
                "title": facet.title,
                "values": [
                    {
                        "value": each.value,
                        "label": each.label,
                        "count": each.count,
                        "count_is_exact": each.is_exact,
                    }
                    for each in facet.values
                ],
            }
            for facet in found.facets
        ]
        return Response({**said_of(found), "facets": facets})


class SuggestionListApi(APIView):
    @extend_schema(
        operation_id="suggestions",
        summary="Suggest searches",
        description="Tags, base models, owners and modules that begin with at least two characters.",
        tags=["modules"],
        parameters=[SuggestionInput],
        responses={200: SuggestionSerializer(many=True), 400: ErrorSerializer, **NOT_FOUND},
    )
    def get(self, request: Request) -> Response:
        asked = asked_search(SuggestionInput, request)
        context = {"request": request}
        found = [SuggestionSerializer(each, context=context).data for each in suggestions(asked["q"])]
        return Response(found)


class ModuleApi(APIView):
    @extend_schema(
        operation_id="modules_read",
        summary="Read a module",
        tags=["modules"],
        responses={200: ModuleDetailSerializer, **NOT_FOUND},
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        return Response(detail(request, module_or_404(namespace, name, request.user)))

    @extend_schema(
        operation_id="modules_edit",
        summary="Edit a module",
        tags=["modules"],
        request=ModuleChange,
        responses={200: ModuleDetailSerializer, **TOO_MUCH, **REFUSED, **NOT_FOUND},
    )
    def patch(self, request: SignedInApiRequest, namespace: str, name: str) -> Response:
        module = writable_module_or_404(request.user, namespace, name)
        module_edit(editor=request.user, module=module, **validate(ModuleChange, request))
        return Response(detail(request, module))

    @extend_schema(
        operation_id="modules_delete",
        summary="Delete a module",
        description="Only its owner can use its name again.",
        tags=["modules"],
        responses={204: None, 401: ErrorSerializer, 403: ErrorSerializer, **NOT_FOUND},
    )
    def delete(self, request: SignedInApiRequest, namespace: str, name: str) -> Response:
        module_delete(editor=request.user, module=writable_module_or_404(request.user, namespace, name))
        return Response(status=status.HTTP_204_NO_CONTENT)


class CardPreviewApi(APIView):
    permission_classes = [IsAuthenticated, TokenScope]
    methods_of_limited_tokens = ("POST",)

    @extend_schema(
        operation_id="cards_preview",
        summary="Preview a card",
        tags=["modules"],
        request=CardInput,
        responses={200: CardPreviewSerializer, **REFUSED},
    )
    def post(self, request: SignedInApiRequest) -> Response:
        """What the pages would show of it. Nothing is stored."""
        found = card_preview(validate(CardInput, request)["card"])
        body = {
            "html": found.shown.html,
            "is_plain": found.shown.is_plain,
            "sample": found.sample,
            "repairs": [asdict(repair) for repair in found.repairs],
        }
        return Response(CardPreviewSerializer(body).data)


class EvidenceApi(APIView):
    @extend_schema(
        operation_id="modules_evidence",
        summary="Read a module's measured evidence",
        tags=["modules"],
        responses={200: EvidenceSerializer, **NOT_FOUND},
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        """Losses on ready-made tasks, compositions that got worse without it, published results."""
        module = module_or_404(namespace, name, request.user)
        if module.current is None:
            raise Http404
        return Response(EvidenceSerializer(evidence_of(module.current)).data)


class ModuleMoveApi(APIView):
    @extend_schema(
        operation_id="modules_move",
        summary="Rename or transfer a module",
        description="Its versions stay, and its old address leads to the new one.",
        tags=["modules"],
        request=MoveInput,
        responses={200: ModuleDetailSerializer, 409: ErrorSerializer, **REFUSED, **NOT_FOUND},
    )
    def post(self, request: SignedInApiRequest, namespace: str, name: str) -> Response:
        module = writable_module_or_404(request.user, namespace, name)
        asked = validate(MoveInput, request)
        target = namespace_asked(request.user, asked.get("namespace", module.namespace.name))
        new_name = asked.get("name", module.name)
        require_covered(request.auth, f"{target.name}/{new_name}")
        repository_move(editor=request.user, module=module, namespace=target, name=new_name)
        return Response(detail(request, module))


class LikeApi(APIView):
    permission_classes = [IsAuthenticated, TokenScope]

    @extend_schema(
        operation_id="likes_read",
        summary="Read whether you like a module",
        tags=["modules"],
        responses={200: LikeSerializer, 401: ErrorSerializer, **NOT_FOUND},
    )
    def get(self, request: SignedInApiRequest, namespace: str, name: str) -> Response:
        return self.answer(request, module_or_404(namespace, name, request.user))

    @extend_schema(
        operation_id="likes_add",
        summary="Like a module",
        description="Once per account, however often it is asked for. Your profile lists it.",
        tags=["modules"],
        request=None,
        responses={200: LikeSerializer, 401: ErrorSerializer, **NOT_FOUND},
    )
    def put(self, request: SignedInApiRequest, namespace: str, name: str) -> Response:
        module = module_or_404(namespace, name, request.user)
        return self.answer(request, module_like(user=request.user, module=module))

    @extend_schema(
        operation_id="likes_remove",
        summary="Unlike a module",
        tags=["modules"],
        responses={200: LikeSerializer, 401: ErrorSerializer, **NOT_FOUND},
    )
    def delete(self, request: SignedInApiRequest, namespace: str, name: str) -> Response:
        module = module_or_404(namespace, name, request.user)
        return self.answer(request, module_unlike(user=request.user, module=module))

    @staticmethod
    def answer(request: SignedInApiRequest, module: Module) -> Response:
        return Response({"liked": is_liked(module, request.user), "likes": module.likes})


class SnippetsApi(APIView):
    @extend_schema(
        operation_id="modules_snippets",
        summary="Read code to use a module",
        description="As on its page: for peft, transformers, notebooks, hf, vLLM and curl.",
        tags=["modules"],
        parameters=[REVISION],
        responses={200: ModuleSnippetSerializer(many=True), **NOT_FOUND},
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        module = module_or_404(namespace, name, request.user)
        version = selectors.version_find(module, request.query_params.get("revision", selectors.MAIN))
        if version is None or not version.is_complete:
            raise Http404
        site = request.build_absolute_uri("/").rstrip("/")
        return Response(ModuleSnippetSerializer(snippets_for_module(module, version, site), many=True).data)


class DownloadDaysApi(APIView):
    @extend_schema(
        operation_id="downloads_by_day",
        summary="List a module's downloads by day, newest first",
        description="One per version, day and client. Days without any are left out.",
        tags=["modules"],
        responses={200: DownloadDaySerializer(many=True), **NOT_FOUND},
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        days = download_days(module_or_404(namespace, name, request.user))
        return Response(DownloadDaySerializer(days, many=True).data)


class OwnerApi(APIView):
    @extend_schema(
        operation_id="owners_read",
        summary="Read an account or an organization",
        tags=["library"],
        responses={200: OwnerSerializer, 404: ErrorSerializer},
    )
    def get(self, request: Request, namespace: str) -> Response:
        owner = namespace_or_404(namespace)
        told = {
            "name": owner.name,
            "kind": owner.kind,
            "since": owner.created_at,
            "url": request.build_absolute_uri(owner.get_absolute_url()),
        }
        return Response(OwnerSerializer(told | asdict(owner_numbers(owner, request.user))).data)


class ActivityApi(APIView):
    @extend_schema(
        operation_id="owners_activity",
        summary="List an owner's activity, newest first",
        description="For an account what it published and likes, for an organization its modules' versions.",
        tags=["library"],
        parameters=[ActivityInput],
        responses={200: DeedSerializer(many=True), 400: ErrorSerializer, 404: ErrorSerializer},
    )
    def get(self, request: Request, namespace: str) -> Response:
        owner = namespace_or_404(namespace)
        asked = ActivityInput(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        wanted = asked.validated_data
        deeds = activity_of(owner, request.user, count=wanted["limit"], before=wanted["before"])
        return Response(DeedSerializer(deeds, many=True).data)


def namespace_or_404(name: str) -> Namespace:
    owner = namespace_by_name(name)
    if owner is None:
        raise Http404
    return owner


class ModuleHistoryApi(APIView):
    permission_classes = [IsAuthenticated, TokenScope]

    @extend_schema(
        operation_id="modules_history",
        summary="List a module's history",
        tags=["modules"],
        parameters=[*PAGE_PARAMETERS],
        responses={200: HistoryPageSerializer, **NOT_FOUND, 401: ErrorSerializer},
    )
    def get(self, request: SignedInApiRequest, namespace: str, name: str) -> Response:
        """Newest first, for whoever may change the module: also one that staff hold."""
        module = owned_module_or_404(request.user, namespace, name)
        return history_page(self, request, history_of(module, module.full_name))


class VersionListApi(APIView):
    parser_classes = [MultiPartParser]

    @extend_schema(
        operation_id="versions_list",
        summary="List a module's versions, newest first",
        tags=["modules"],
        responses={200: VersionSerializer(many=True), **NOT_FOUND},
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        versions = selectors.versions_of(module_or_404(namespace, name, request.user))
        return Response(VersionSerializer(versions, many=True).data)

    @extend_schema(
        operation_id="versions_add",
        summary="Publish a new version",
        description="The same files again change nothing: the answer is then 200 with the current version.",
        tags=["modules"],
        request={"multipart/form-data": FilesInput},
        responses={201: VersionSerializer, 200: VersionSerializer, **REFUSED, **NOT_FOUND, **TOO_MUCH},
    )
    def post(self, request: SignedInApiRequest, namespace: str, name: str) -> Response:
        module = writable_module_or_404(request.user, namespace, name)
        asked = validate(FilesInput, request)
        with as_safetensors(asked.pop("weights_file")) as (weights, is_converted):
            version, is_new = version_add(
                author=request.user,
                module=module,
                weights_file=weights,
                is_converted=is_converted,
                **asked,
            )
        code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        left = uploads_quota(module.namespace).headers
        return Response(VersionSerializer(version).data, status=code, headers=left)


class FileApi(APIView):
    @extend_schema(
        operation_id="files_download",
        summary="Download a file of a module",
        description="Answers ranges and If-None-Match; the ETag is the file's sha256.",
        tags=["modules"],
        parameters=[REVISION],
        responses={**downloads("application/octet-stream", 404), **FILE_KINDS, 302: ELSEWHERE},
    )
    def get(self, request: Request, namespace: str, name: str, path: str) -> HttpResponseBase:
        module = module_or_404(namespace, name, request.user)
        version = selectors.version_find(module, request.query_params.get("revision", selectors.MAIN))
        download = selectors.file_download(version, path) if version else None
        if download is None:
            raise Http404
        return serve_download(request._request, download)


class BaseListApi(APIView):
    @extend_schema(
        operation_id="bases_list",
        summary="List base models",
        tags=["library"],
        responses=BaseModelSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        return Response(BaseModelSerializer(selectors.base_models(), many=True).data)


class BaseApi(APIView):
    @extend_schema(
        operation_id="bases_read",
        summary="Read a base model",
        description="Also one that modules are for and that is not here: then its name and their number.",
        tags=["library"],
        responses={200: BaseDetailSerializer, 404: ErrorSerializer},
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        base = selectors.base_called(f"{namespace}/{name}")
        if base is None:
            foreign = foreign_base_or_404(f"{namespace}/{name}", request.user, 1)
            told = {"name": foreign.name, "is_here": False, "hub_url": foreign.address}
            return self.answer(told, foreign.counted)
        told = {column: getattr(base, column) for column in BASE_COLUMNS}
        told |= {"aliases": [str(alias) for alias in base.aliases.all()], "layers": layer_groups(base)}
        found = find_modules(ModuleFilters(base=base.name), request.user, size=1, has_facets=False)
        return self.answer({**told, "is_here": True, "hub_url": None}, found)

    @staticmethod
    def answer(told: dict[str, Any], found: Counted | FoundModules) -> Response:
        counted = {"modules_count": found.count, "modules_count_is_exact": found.is_exact}
        all_told: Any = NOTHING_KNOWN | told | counted
        return Response(BaseDetailSerializer(all_told).data)


class TagApi(APIView):
    @extend_schema(
        operation_id="tags_read",
        summary="Read a tag",
        tags=["library"],
        responses={200: TagDetailSerializer, 404: ErrorSerializer},
    )
    def get(self, request: Request, tag: str) -> Response:
        return Response(TagDetailSerializer(tag_overview_or_404(normalize_tag(tag), request.user)).data)


class TagListApi(APIView):
    @extend_schema(
        operation_id="tags_list",
        summary="List tags, most used first",
        description="The 1,000 that most modules carry.",
        tags=["library"],
        responses=TagSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        return Response([{"name": name, "modules_count": count} for name, count in tags_in_use()])


def asked_search(serializer_class: type[Any], request: Request) -> dict[str, Any]:
    require_single_values(serializer_class, request)
    asked = serializer_class(data=search_data(serializer_class, request))
    try:
        asked.is_valid(raise_exception=True)
    except ValidationError as error:
        raise ValidationError(by_parameter(error.detail)) from error
    return dict(asked.validated_data)


def require_single_values(serializer_class: type[Any], request: Request) -> None:
    """Refuse a filter of one value that comes twice: one of the two would be dropped in silence."""
    query = request.query_params
    twice = {
        name: [f"“{name}” takes one value, and {len(query.getlist(name))} were given. Give one."]
        for name, field in serializer_class().fields.items()
        if not isinstance(field, ListField) and len(query.getlist(name)) > 1
    }
    if twice:
        raise ValidationError(twice)


def by_parameter(detail: Any) -> Any:
    """Faults by the names that the address has: of a repeated one, those of all its values."""
    return {
        name: [text for texts in faults.values() for text in texts] if isinstance(faults, dict) else faults
        for name, faults in detail.items()
    }


def search_data(serializer_class: type[Any], request: Request) -> dict[str, Any]:
    """The query as the serializer's fields have it: lists of what can be repeated, else the last value."""
    query, data = request.query_params, {}
    for name, field in serializer_class().fields.items():
        if name in query:
            data[name] = query.getlist(name) if isinstance(field, ListField) else query[name]
    return data


def filters_of(asked: dict[str, Any]) -> ModuleFilters:
    named: dict[str, Any] = {}
    for name, value in asked.items():
        kind = BY_NAME.get(name)
        if kind is None:
            named[name] = value
        elif isinstance(value, list):
            named[kind.key] = tuple(dict.fromkeys(map(kind.read, value)))
        else:
            named[kind.key] = kind.read(value)
    return ModuleFilters(**named)


def said_of(found: FoundModules) -> dict[str, Any]:
    read_as: Any = found.read_as
    hash_matches: Any = found.hash_matches
    return {
        "count": found.count,
        "count_is_exact": found.is_exact,
        "corrections": [{"word": word, "taken_for": taken} for word, taken in found.taken_for],
        "words_asked": found.words_asked,
        "words_needed": found.words_needed,
        "read_as": SaidFacetSerializer(read_as, many=True).data,
        "not_searched": list(found.signs),
        "hash_matches": HashMatchSerializer(hash_matches, many=True).data,
        "ways_on": WaysOnSerializer(ways_on(found)).data,
    }


def page_address(request: Request, cursor: str) -> str | None:
    """The address of another page of the same list; None: there is none."""
    if not cursor:
        return None
    query = request.query_params.copy()
    query["cursor"] = cursor
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")


def validate(serializer_class: type[Any], request: Request) -> dict[str, Any]:
    asked = serializer_class(data=request.data)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


def namespace_asked(user: User, name: str) -> Namespace:
    if not name:
        return user.namespace
    namespace = namespace_by_name(name)
    if namespace is None:
        message = f"There is no owner “{name}”. Leave it out to publish under your own name."
        raise Refusal("no_such_namespace", message, fields={"namespace": [message]})
    return namespace


def detail(request: Request, module: Module) -> dict[str, Any]:
    return ModuleDetailSerializer(module, context={"request": request}).data
