from django.urls import include, path

from hub_site.accounts.api import AccountHistoryApi, WhoamiApi
from modules_registry import api

urlpatterns = [
    path("modules", api.ModuleListApi.as_view()),
    path("modules/compare", api.CompareApi.as_view()),
    path("modules/facets", api.FacetListApi.as_view()),
    path("cards/preview", api.CardPreviewApi.as_view()),
    path("suggestions", api.SuggestionListApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>", api.ModuleApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/like", api.LikeApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/snippets", api.SnippetsApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/downloads", api.DownloadDaysApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/move", api.ModuleMoveApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/history", api.ModuleHistoryApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/evidence", api.EvidenceApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/versions", api.VersionListApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/files/<path:path>", api.FileApi.as_view()),
    path("", include("modules_registry.explore.api_urls")),
    path("", include("modules_registry.importing.api_urls")),
    path("owners/<namespace:namespace>", api.OwnerApi.as_view()),
    path("owners/<namespace:namespace>/activity", api.ActivityApi.as_view()),
    path("bases", api.BaseListApi.as_view()),
    path("bases/<namespace:namespace>/<repo:name>", api.BaseApi.as_view()),
    path("tags/<str:tag>", api.TagApi.as_view()),
    path("tags", api.TagListApi.as_view()),
    path("whoami", WhoamiApi.as_view()),
    path("account/history", AccountHistoryApi.as_view()),
]
