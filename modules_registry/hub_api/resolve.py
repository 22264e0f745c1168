"""The files themselves, with the headers that Hub clients read."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from hub_site.common.downloads import redirect_download, serve_download
from hub_site.common.site_faults import noting
from modules_registry import selectors
from modules_registry.core.errors import WEIGHTS_FILE
from modules_registry.hub_api.errors import entry_not_found
from modules_registry.hub_api.protocol import SAFE, Caller, at_revision, hub_view, repository
from modules_registry.mirror.selectors import file_address
from modules_registry.models import Version
from modules_registry.popularity import download_count


@hub_view(*SAFE)
def resolve(request: HttpRequest, caller: Caller, repo: str, address: str) -> HttpResponseBase:
    """A file of a module or of a base model. To fetch a module's weights is to download it."""
    found = repository(repo, caller)
    revision, path = selectors.revision_and_path(found, address)
    source = at_revision(found, revision)
    download = selectors.file_download(source, path)
    if download is None:
        raise entry_not_found(str(found), path, source.commit_id)
    elsewhere = file_address(source, path) if isinstance(source, Version) else None
    # The Hub behind this site, if there is one, hands the file out at its own commit.
    response = redirect_download(download, elsewhere) if elsewhere else serve_download(request, download)
    response["X-Repo-Commit"] = source.commit_id
    if isinstance(source, Version) and path == WEIGHTS_FILE and begins(request, response):
        with noting(f"a download of version {source.pk}"):
            download_count(version=source, client=client_of(request, caller))
    return response


def begins(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Whether this answer brings the beginning of the file: neither a HEAD nor the rest of a broken fetch."""
    first_bytes = response.get("Content-Range", "bytes 0-").startswith("bytes 0-")
    return request.method == "GET" and response.status_code in (200, 206, 302) and first_bytes


def client_of(request: HttpRequest, caller: Caller) -> str:
    """What tells visitors apart for a day: the user, else the address."""
    return f"user {caller.user.pk}" if caller.user else f"address {request.META.get('REMOTE_ADDR', '')}"
