"""The protocol's addresses. A name may have one part (gpt2) or two; a revision may hold slashes."""

from django.urls import re_path

from modules_registry.hub_api import commit, lfs, likes, manage, repo, resolve

REPO = r"(?P<repo>[^/]+(?:/[^/]+)?)"
REVISION = r"(?P<revision>[\s\S]+)"
ADDRESS = r"(?P<address>[\s\S]+)"  # revision/path
REST = r"(?P<rest>[\s\S]*)"
OTHER_KINDS = r"(?P<kind>datasets|spaces|kernels|buckets|collections|papers|jobs)"

urlpatterns = [
    re_path(r"^api/whoami-v2$", repo.whoami),
    re_path(r"^api/(?:users|organizations)/(?P<name>[^/]+)/overview$", repo.overview),
    re_path(r"^api/users/(?P<name>[^/]+)/likes$", likes.liked),
    re_path(r"^api/settings/repositories$", repo.storage_list),
    re_path(r"^api/organizations/(?P<name>[^/]+)/settings/repositories$", repo.storage_list),
    re_path(r"^api/validate-yaml$", commit.validate_yaml),
    re_path(r"^api/repos/create$", manage.create),
    re_path(r"^api/repos/delete$", manage.delete),
    re_path(r"^api/repos/move$", manage.move),
    re_path(r"^api/models/?$", repo.model_list),
    re_path(r"^api/models-tags-by-type$", repo.tags_by_type),
    re_path(rf"^api/models/{REPO}/revision/{REVISION}$", repo.model_info),
    re_path(rf"^api/models/{REPO}/tree/{ADDRESS}$", repo.tree),
    re_path(rf"^api/models/{REPO}/paths-info/{REVISION}$", repo.paths_info),
    re_path(rf"^api/models/{REPO}/commits/{REVISION}$", repo.commits),
    re_path(rf"^api/models/{REPO}/refs$", repo.refs),
    re_path(rf"^api/models/{REPO}/auth-check$", repo.auth_check),
    re_path(rf"^api/models/{REPO}/auth-check/write$", repo.auth_check_write),
    re_path(rf"^api/models/{REPO}/preupload/{REVISION}$", commit.preupload),
    re_path(rf"^api/models/{REPO}/commit/{REVISION}$", commit.commit),
    re_path(rf"^api/models/{REPO}/settings$", manage.settings),
    re_path(rf"^api/models/{REPO}/branch/{REVISION}$", manage.branch),
    re_path(rf"^api/models/{REPO}/tag/{REVISION}$", manage.tag),
    re_path(
        rf"^api/models/{REPO}/discussions{REST}$",
        manage.unsupported_page,
        {"what": "pull requests or discussions"},
    ),
    re_path(
        rf"^api/models/{REPO}/super-squash/{REST}$", manage.unsupported_page, {"what": "squashing of history"}
    ),
    re_path(
        rf"^api/models/{REPO}/xet-(?:write|read)-token/{REST}$",
        manage.unsupported_page,
        {"what": "Xet storage: set HF_HUB_DISABLE_XET=1 in the environment of the upload"},
    ),
    re_path(rf"^api/models/{REPO}/lfs-files{REST}$", manage.unsupported_page, {"what": "list of LFS files"}),
    re_path(rf"^api/models/{REPO}/like$", likes.like),
    re_path(rf"^api/models/{REPO}/likers$", likes.likers),
    re_path(rf"^api/models/{REPO}$", repo.model_info),
    re_path(rf"^api/models/{REPO}/{REST}$", manage.nothing_here),
    re_path(rf"^api/{OTHER_KINDS}(?:/{REST})?$", manage.other_kind),
    re_path(rf"^{OTHER_KINDS}/{REST}/resolve/", manage.other_kind),
    re_path(rf"^{REPO}\.git/info/lfs/objects/batch$", lfs.batch),
    re_path(rf"^{REPO}\.git/info/lfs/objects/verify$", lfs.verify),
    re_path(r"^lfs/(?P<signed>[^/]+)$", lfs.upload, name="hub-lfs-upload"),
    re_path(rf"^{REPO}/resolve/{ADDRESS}$", resolve.resolve),
    re_path(rf"^api/{REST}$", manage.no_such_address),
]
