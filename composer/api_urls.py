from django.urls import path

from composer import api
from composer.publish.api import PublishApi
from composer.report.api import (
    AdapterApi,
    BaselineAdapterApi,
    ExamplesApi,
    HeldOutApi,
    PredictionsApi,
    ReportFileApi,
    SummaryApi,
)
from composer.request.api import (
    CandidatesApi,
    ChoicesApi,
    DemoTaskApi,
    DemoTasksApi,
    DraftApi,
    DraftsApi,
    EstimateApi,
    MethodsApi,
    RequestApi,
    WorkerRequestsApi,
)
from composer.share.api import (
    ExampleApi,
    ShareApi,
    SharedAdapterApi,
    SharedApi,
    SharedBaselineAdapterApi,
    SharedFileApi,
    SharedPredictionsApi,
)
from composer.watch.api import EventsApi, MailApi, StreamApi

urlpatterns = [
    path("compositions", api.CompositionsApi.as_view(), name="api-compositions"),
    path("compositions/<uuid:composition_id>", api.CompositionApi.as_view(), name="api-composition"),
    path("compositions/<uuid:composition_id>/events", EventsApi.as_view(), name="api-composition-events"),
    path("compositions/<uuid:composition_id>/stream", StreamApi.as_view(), name="api-composition-stream"),
    path("compositions/<uuid:composition_id>/mail", MailApi.as_view(), name="api-composition-mail"),
    path("compositions/<uuid:composition_id>/cancel", api.CancelApi.as_view(), name="api-composition-cancel"),
    path("compositions/<uuid:composition_id>/stop", api.StopApi.as_view(), name="api-composition-stop"),
    path("compositions/<uuid:composition_id>/adapter", AdapterApi.as_view(), name="api-composition-adapter"),
    path(
        "compositions/<uuid:composition_id>/adapters/<str:key>",
        BaselineAdapterApi.as_view(),
        name="api-composition-baseline-adapter",
    ),
    path(
        "compositions/<uuid:composition_id>/publish",
        PublishApi.as_view(),
        name="api-composition-publish",
    ),
    path("compositions/estimate", EstimateApi.as_view(), name="api-composition-estimate"),
    path("worker-requests", WorkerRequestsApi.as_view(), name="api-worker-requests"),
    path("compositions/candidates", CandidatesApi.as_view(), name="api-composition-candidates"),
    path(
        "compositions/<uuid:composition_id>/request",
        RequestApi.as_view(),
        name="api-composition-request",
    ),
    path("drafts", DraftsApi.as_view(), name="api-drafts"),
    path("drafts/<str:key>", DraftApi.as_view(), name="api-draft"),
    path("compositions/<uuid:composition_id>/summary", SummaryApi.as_view(), name="api-composition-summary"),
    path(
        "compositions/<uuid:composition_id>/predictions",
        PredictionsApi.as_view(),
        name="api-composition-predictions",
    ),
    path("compositions/<uuid:composition_id>/examples.jsonl", ExamplesApi.as_view()),
    path("compositions/<uuid:composition_id>/held_out.jsonl", HeldOutApi.as_view()),
    path(
        "compositions/<uuid:composition_id>/files/<str:name>",
        ReportFileApi.as_view(),
        name="api-composition-file",
    ),
    path("compositions/<uuid:composition_id>/share", ShareApi.as_view(), name="api-composition-share"),
    path("example", ExampleApi.as_view(), name="api-example"),
    path("shared/<str:token>", SharedApi.as_view(), name="api-shared"),
    path("shared/<str:token>/adapter", SharedAdapterApi.as_view(), name="api-shared-adapter"),
    path(
        "shared/<str:token>/adapters/<str:key>",
        SharedBaselineAdapterApi.as_view(),
        name="api-shared-baseline-adapter",
    ),
    path(
        "shared/<str:token>/predictions",
        SharedPredictionsApi.as_view(),
        name="api-shared-predictions",
    ),
    path("shared/<str:token>/files/<str:name>", SharedFileApi.as_view(), name="api-shared-file"),
    path("methods", MethodsApi.as_view(), name="api-methods"),
    path("choices", ChoicesApi.as_view(), name="api-choices"),
    path("demo-tasks", DemoTasksApi.as_view(), name="api-demo-tasks"),
    path("demo-tasks/<str:name>", DemoTaskApi.as_view(), name="api-demo-task"),
]
