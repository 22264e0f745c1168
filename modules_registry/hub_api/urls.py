"""The protocol's addresses. A name may have one part (gpt2) or two; a revision may hold slashes."""

from django.urls import re_path

from modules_registry.hub_api import repo, resolve

REPO = r"(?P<repo>[^/]+(?:/[^/]+)?)"
REVISION = r"(?P<revision>.+)"
ADDRESS = r"(?P<address>[\s\S]+)"  # revision/path

urlpatterns = [
    re_path(r"^api/whoami-v2$", repo.whoami),
    re_path(r"^api/(?:users|organizations)/(?P<name>[^/]+)/overview$", repo.overview),
    re_path(r"^api/models/?$", repo.model_list),
    re_path(r"^api/models-tags-by-type$", repo.tags_by_type),
    re_path(rf"^api/models/{REPO}/revision/{REVISION}$", repo.model_info),
    re_path(rf"^api/models/{REPO}/tree/{ADDRESS}$", repo.tree),
    re_path(rf"^api/models/{REPO}/paths-info/{REVISION}$", repo.paths_info),
    re_path(rf"^api/models/{REPO}/commits/{REVISION}$", repo.commits),
    re_path(rf"^api/models/{REPO}/refs$", repo.refs),
    re_path(rf"^api/models/{REPO}/auth-check$", repo.auth_check),
    re_path(rf"^api/models/{REPO}/auth-check/write$", repo.auth_check_write),
    re_path(rf"^api/models/{REPO}$", repo.model_info),
    re_path(rf"^{REPO}/resolve/{ADDRESS}$", resolve.resolve, name="hub-resolve"),
]
