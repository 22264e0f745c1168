"""Every address of the site. The site's own pages end in a slash; a module's page has none, as on any Hub."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.shortcuts import redirect
from django.urls import include, path, re_path, register_converter
from drf_spectacular.views import SpectacularAPIView

from hub_site.accounts.names import NamespaceConverter, RepoNameConverter
from hub_site.common.api_errors import api_not_found
from hub_site.health import health, live, ready
from hub_site.pages.api_docs import api_docs, api_topic

register_converter(NamespaceConverter, "namespace")
register_converter(RepoNameConverter, "repo")

handler500 = "hub_site.site_fault_answers.answer_broken"

# One sign-in for everybody, with its limits: the admin's own has none, and its timing tells a right password.
admin.site.login = secure_admin_login(lambda request, **_: redirect("admin:index"))  # type: ignore[method-assign]

urlpatterns = [
    path("health/", health, name="health"),
    path("health/live", live, name="health-live"),
    path("health/ready", ready, name="health-ready"),
    path("", include("hub_site.pages.urls")),
    path("", include("hub_site.accounts.urls")),
    path("", include("hub_site.my_account.urls")),
    path("", include("hub_site.moderation.urls")),
    path("", include("hub_site.operations.urls")),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    path("compositions/", include("composer.urls")),
    path("try/", include("composer.playground.urls")),
    path("find/", include("composer.finding.urls")),
    path("shared/<str:token>/", include("composer.share.urls")),
    path("api/docs/", api_docs, name="api-docs"),
    path("api/docs/<slug:topic>/", api_topic, name="api-docs-topic"),
    path("api/v1/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/", include("hub_site.pages.api_urls")),
    path("api/v1/", include("hub_site.my_account.api_urls")),
    path("api/v1/", include("hub_site.moderation.api_urls")),
    path("api/v1/", include("hub_site.operations.api_urls")),
    path("api/v1/", include("composer.api_urls")),
    path("api/v1/", include("composer.playground.api_urls")),
    path("api/v1/", include("composer.finding.api_urls")),
    path("api/v1/", include("modules_registry.api_urls")),
    re_path(r"^api/v1/(?P<path>[\s\S]*)$", api_not_found),
    path("", include("modules_registry.hub_api.urls")),
    path("", include("modules_registry.urls")),  # last: /{namespace}/{name} takes what is left
]
