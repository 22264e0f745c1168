"""What the compose form knows, under /api/v1/: how long, which modules, drafts, an earlier request."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from composer import selectors
from composer.access import OwnerApi
from composer.core.spec import choices
from composer.core.spec.choices import BUDGET_OF_METHOD, METHODS, SEARCHES, SEARCHES_OF_METHOD, Choice
from composer.core.spec.examples import notes_on
from composer.matching.leakage import find_compatible_modules
from composer.matching.ranking import rank_fitting, rank_modules
from composer.matching.selection import count_modules, require_selection
from composer.matching.templates import preview_of, stated_templates
from composer.matching.unwritable import unwritable_text
from composer.matching.workers import require_worker
from composer.models import Composition, Draft
from composer.request.drafts import draft_discard, draft_keep
from composer.request.selectors import draft_find, drafts_of
from composer.request.serializers import (
    CandidateSerializer,
    CandidatesRequestSerializer,
    ChoicesSerializer,
    CompositionRequestSerializer,
    DemoTaskDetailSerializer,
    DemoTaskSerializer,
    DraftFieldsSerializer,
    EstimateSerializer,
    MethodSerializer,
    WorkerRequestSerializer,
)
from composer.request.services import (
    SearchOptions,
    complete_choice,
    require_request,
    require_versions,
    worker_request,
)
from composer.task.demo_tasks import demo_task, demo_tasks
from composer.timing.estimates import Amounts, estimate, mean_characters
from composer.timing.queue import place_of_new
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.common.api_errors import refusals
from hub_site.common.api_inputs import InputSerializer
from modules_registry.models import Version

CANDIDATES_MAX = 50
UNNAMED = "unnamed"  # what is only looked for needs no name
TAKEN_AS_THEY_ARE = (
    "name", "sentence", "method", "search", "objective", "selection", "budget", "batch_size", "seed",
    "precision", "device", "rank", "template", "max_new_tokens", "baselines",
)  # fmt: skip


class DraftSerializer(serializers.ModelSerializer[Draft]):
    class Meta:
        model = Draft
        fields = ["key", "name", "n_examples", "kept_at", "fields"]
        read_only_fields = fields


REFUSALS = refusals(400, 401, 403)


def asked_by(
    request: SignedInApiRequest, serializer_class: type[InputSerializer] = CompositionRequestSerializer
) -> dict[str, Any]:
    """What was asked, with the rows of the base and of the modules that it names; refused as a request is."""
    serializer = serializer_class(data=request.data)
    serializer.is_valid(raise_exception=True)
    asked = serializer.validated_data
    choice = complete_choice({name: asked[name] for name in SearchOptions.__annotations__})
    base, _ = require_request(
        asked["name"] or UNNAMED,
        asked["sentence"],
        asked["base"],
        asked["examples"],
        asked["held_out"],
        choice,
    )  # fmt: skip
    versions = require_versions(asked["modules"], request.user)
    require_selection(base, choice["method"], asked["selection"], versions)
    return {**asked, **choice, "base": base, "modules": versions}


class EstimateApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_estimate",
        summary="Estimate the time",
        tags=["compositions"],
        request=CompositionRequestSerializer,
        responses={200: EstimateSerializer, **REFUSALS, **refusals(409)},
    )
    def post(self, request: SignedInApiRequest) -> Response:
        """How long this request would take, from what was measured here. Nothing is started.

        Refused as the request would be, also where no worker of the site can take it.
        """
        asked = asked_by(request)
        require_worker(asked["base"], asked["device"])
        all_examples = [*asked["examples"], *asked["held_out"]]
        compatible = find_compatible_modules(asked["base"], asked["method"], all_examples, request.user)
        counted = count_modules(compatible.clean, asked["selection"], asked["level"], len(asked["modules"]))
        workload = Amounts(
            n_shots=len(asked["examples"]),
            n_held_out=len(asked["held_out"]),
            n_modules=counted.n_modules,
            n_tried=counted.n_tried,
            budget=asked["budget"],
            baselines=asked["baselines"],
            search=asked["search"],
            objective=asked["objective"],
            characters=mean_characters(all_examples),
        )
        found = estimate(asked["base"], asked["method"], workload)
        body = {name: getattr(found, name) for name in ("low_s", "high_s", "words", "basis", "n_measured")}
        body |= {name: getattr(workload, name) for name in ("n_modules", "n_tried", "budget", "baselines")}
        body["n_fitting"] = compatible.clean.count
        place = place_of_new(request.user.pk, found)
        body |= {"n_ahead": place.n_ahead, "wait_s": place.wait_s}
        named = {version.module_id for version in asked["modules"]}
        body["left_out"] = [fit.name for fit in compatible.leaking if fit.module_id not in named]
        if asked["modules"]:
            stated = stated_templates((version.module.full_name, version) for version in asked["modules"])
        else:
            ranked = rank_fitting(
                compatible.clean, f"{asked['name']} {asked['sentence']}", asked["examples"], request.user,
                counted.n_modules,
            )  # fmt: skip
            stated = {each.fit.name: each.prompt_template for each in ranked}
        first = asked["examples"][0]
        unwritable = unwritable_text(asked["base"], all_examples)
        told = notes_on(asked["examples"], asked["held_out"])
        body["notes"] = [*asked["notes"], *told, *([unwritable] if unwritable else [])]
        body["prompt"] = asdict(
            preview_of(asked["base"], asked["template"], stated, first.input, first.output)
        )
        return Response(EstimateSerializer(body).data)


class WorkerRequestsApi(OwnerApi):
    @extend_schema(
        operation_id="worker_requests_create",
        summary="Ask staff for a worker",
        tags=["compositions"],
        request=WorkerRequestSerializer,
        responses={201: WorkerRequestSerializer, **refusals(400, 401, 403, 409)},
    )
    def post(self, request: SignedInApiRequest) -> Response:
        """Where a request was refused with no_worker_with_cuda or no_worker_large_enough."""
        serializer = WorkerRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        asked = worker_request(owner=request.user, **serializer.validated_data)
        asked.refresh_from_db()
        return Response(WorkerRequestSerializer(asked).data, status=status.HTTP_201_CREATED)


class CandidatesApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_candidates",
        summary="Rank the modules for a task",
        tags=["compositions"],
        request=CandidatesRequestSerializer,
        responses={200: CandidateSerializer(many=True), **REFUSALS},
    )
    def post(self, request: SignedInApiRequest) -> Response:
        """The 50 most promising modules: by what was measured on these examples, else by their words.

        Without those that were made from some of these very examples.
        """
        asked = asked_by(request, CandidatesRequestSerializer)
        task_text = f"{asked['name']} {asked['sentence']}"
        ranked = rank_modules(
            asked["base"], asked["method"], task_text, asked["examples"],
            held_out=asked["held_out"], owner=request.user, limit=CANDIDATES_MAX,
        )  # fmt: skip
        commits = Version.objects.in_bulk([each.fit.version_id for each in ranked])
        rows = [
            {"ranked": each, "revision": commits[each.fit.version_id].commit_id}
            for each in ranked
            if each.fit.version_id in commits
        ]
        return Response(CandidateSerializer(rows, many=True).data)


class RequestApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_request",
        summary="Read a composition's request",
        tags=["compositions"],
        responses={200: CompositionRequestSerializer, **refusals(401, 404)},
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """The body that asks for the same again: change it, and POST it to /api/v1/compositions."""
        return Response(request_of(self.own(request, composition_id)))


def request_of(composition: Composition) -> dict[str, Any]:
    asked: dict[str, Any] = {name: getattr(composition, name) for name in TAKEN_AS_THEY_ARE}
    asked["base"] = composition.base.name
    if composition.selection.startswith("chosen"):
        asked["modules"] = list(composition.modules.values_list("name", flat=True))
    for name, pairs in (
        ("examples", selectors.few_shot_examples(composition)),
        ("held_out", selectors.held_out_examples(composition)),
    ):
        asked[name] = [{"input": pair.input, "output": pair.output} for pair in pairs]
    return asked


class DraftsApi(OwnerApi):
    @extend_schema(
        operation_id="drafts_list",
        summary="List your drafts",
        tags=["drafts"],
        responses={200: DraftSerializer(many=True), **refusals(401)},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        """Forms that were begun and not sent, the latest first."""
        return Response(DraftSerializer(drafts_of(request.user), many=True).data)


class DraftApi(OwnerApi):
    @extend_schema(
        operation_id="drafts_retrieve",
        summary="Read a draft",
        tags=["drafts"],
        responses={200: DraftSerializer, **refusals(401, 404)},
    )
    def get(self, request: SignedInApiRequest, key: str) -> Response:
        """One draft with its fields."""
        draft = draft_find(request.user, key)
        if draft is None:
            raise Http404
        return Response(DraftSerializer(draft).data)

    @extend_schema(
        operation_id="drafts_update",
        summary="Save a draft",
        tags=["drafts"],
        request=DraftFieldsSerializer,
        responses={200: DraftSerializer, **refusals(400, 401, 403, 413)},
    )
    def put(self, request: SignedInApiRequest, key: str) -> Response:
        """Keep a form as it stands; it opens at /compositions/new/?draft= and its key."""
        serializer = DraftFieldsSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response(
            DraftSerializer(
                draft_keep(owner=request.user, key=key, fields=serializer.validated_data["fields"])
            ).data
        )

    @extend_schema(
        operation_id="drafts_delete",
        summary="Discard a draft",
        tags=["drafts"],
        responses={204: None, **refusals(401, 403)},
    )
    def delete(self, request: SignedInApiRequest, key: str) -> Response:
        """Forget it; harmless twice."""
        draft_discard(owner=request.user, key=key)
        return Response(status=status.HTTP_204_NO_CONTENT)


class MethodsApi(APIView):
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="methods_list",
        summary="List the methods",
        tags=["compositions"],
        responses=MethodSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """The methods of composing, each with its searches and sources."""
        return Response(MethodSerializer([describe_method(method) for method in METHODS], many=True).data)


def describe_method(method: Choice) -> dict[str, Any]:
    return {
        "name": method.name,
        "line": method.line,
        "source": method.source,
        "budget": BUDGET_OF_METHOD[method.name],
        "searches": [search for search in SEARCHES if search.name in SEARCHES_OF_METHOD[method.name]],
    }


class ChoicesApi(APIView):
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="choices_retrieve",
        summary="List the other options",
        tags=["compositions"],
        responses=ChoicesSerializer,
    )
    def get(self, request: Request) -> Response:
        """Searches, objectives, selectors and the rest, each with a line and a source."""
        offered = {
            "searches": choices.SEARCHES,
            "objectives": choices.OBJECTIVES,
            "selectors": choices.SELECTORS,
            "precisions": choices.PRECISIONS,
            "devices": choices.DEVICES,
            "baselines": choices.BASELINES,
            "levels": choices.LEVELS,
        }
        return Response(ChoicesSerializer(offered).data)


class DemoTasksApi(APIView):
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="demo_tasks_list",
        summary="List the demo tasks",
        tags=["demo tasks"],
        responses=DemoTaskSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Ready-made tasks, each for a base model of the library, without their examples."""
        return Response(DemoTaskSerializer(demo_tasks(), many=True).data)


class DemoTaskApi(APIView):
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="demo_tasks_retrieve",
        summary="Read a demo task",
        tags=["demo tasks"],
        responses={200: DemoTaskDetailSerializer, **refusals(404)},
    )
    def get(self, request: Request, name: str) -> Response:
        """One ready-made task with its examples."""
        task = demo_task(name)
        if task is None:
            raise Http404
        return Response(DemoTaskDetailSerializer(task).data)
