"""Writing through the protocol: what the client asks before it uploads, and the commit itself."""

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from hub_site.accounts.models import User
from hub_site.common.errors import Refusal
from modules_registry import selectors
from modules_registry.commits import Change, head_of, module_commit
from modules_registry.core.accepted_paths import MODULE_FILES, UploadPlan, plan_upload
from modules_registry.core.advice import WayIn
from modules_registry.core.cards import read_any_card
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE, FolderRefusal
from modules_registry.files.lfs_uploads import incoming_open
from modules_registry.hub_api.errors import HubProtocolError, not_supported, revision_not_found, to_ascii
from modules_registry.hub_api.ndjson import Operation, read_operations
from modules_registry.hub_api.protocol import (
    Caller,
    hub_view,
    json_of,
    program_of,
    require_writable_module,
    text_of,
)
from modules_registry.hub_api.warnings import WarningResponse, left_out_warning, warning_of
from modules_registry.models import Module, Version, VersionFile
from modules_registry.repositories import files_there, note_left_out, upload_announced, upload_refused

FILES_MAX = 256  # the client's own batch
PATH_LENGTH_MAX = 1000
SHA256 = re.compile(r"[0-9a-f]{64}")
MB = 1_000_000
# Their upload-large-folder repeats a refused request, whatever is answered: it ends only once every file is
# committed or ignored, which would be a lie. It prints each answer, so the answer says how to end it.
REPEATS = re.compile(r"hf_hub/[01]\.")
NO_SAMPLES: Mapping[str, bytes] = {}
REPEATS_ADVICE = (
    " If upload-large-folder repeats this, stop it with Ctrl-C: it would never end. Correct the folder, and "
    "use hf upload."
)


@hub_view("POST")
def preupload(request: HttpRequest, caller: Caller, repo: str, revision: str) -> HttpResponseBase:
    """Say of each file whether it is taken, how to send it, and which one is there already."""
    refuse_pull_request(request)
    _, module = require_writable_module(repo, caller)
    head = branch_head(module, revision)
    asked = json_of(request).get("files")
    if not isinstance(asked, list) or len(asked) > FILES_MAX:
        raise HubProtocolError(400, f"files must be a list of at most {FILES_MAX} files.")
    sizes = {path_of(each): size_of(each) for each in asked}
    with note_refusal(request, module):
        plan = plan_of(sizes, files_there(module, head), samples_of(asked))
        for path in plan.taken:
            require_acceptable_size(path, sizes[path])
    upload_announced(module=module, plan=plan)
    known = {file.path: file for file in head.files.all()}
    answers = [
        mode_of(path, sizes[path], known.get(path)) if path in plan.taken else left_out_mode(path)
        for path in sizes
    ]
    return WarningResponse({"files": answers, "commitOid": head.commit_id}, notices(answers, plan.left_out))


def samples_of(asked: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """How each file begins, 512 bytes of it from today's clients, where that can be read."""
    samples = {}
    for each in asked:
        with suppress(ValueError, TypeError):
            samples[path_of(each)] = base64.b64decode(each.get("sample", ""))
    return samples


def plan_of(
    paths: Iterable[str], there: Collection[str], samples: Mapping[str, bytes] = NO_SAMPLES
) -> UploadPlan:
    try:
        return plan_upload(
            paths, there, way_in=WayIn.CLIENT, beginning_of=lambda path: samples.get(path, b"")
        )
    except FolderRefusal as refusal:
        raise Refusal(refusal.code, refusal.message) from refusal


def left_out_mode(path: str) -> dict[str, Any]:
    return {"path": path, "uploadMode": "regular", "shouldIgnore": True}


@contextmanager
def note_refusal(request: HttpRequest, module: Module) -> Iterator[None]:
    """Note that an upload was refused, if it is: a repository made for it alone does not stay."""
    try:
        yield
    except (Refusal, HubProtocolError) as refusal:
        upload_refused(module=module, program=program_of(request))
        error = as_hub_error(refusal) if isinstance(refusal, Refusal) else refusal
        advice = REPEATS_ADVICE if REPEATS.search(request.headers.get("User-Agent", "")) else ""
        raise HubProtocolError(
            error.status, error.message + advice, code=error.code, headers=error.headers
        ) from refusal


def mode_of(path: str, size_bytes: int, file: VersionFile | None) -> dict[str, Any]:
    """Small files come inside the commit, which needs no Xet; large ones ahead of it by LFS."""
    is_regular = size_bytes <= settings.HUB_REGULAR_UPLOAD_MAX_MB * MB
    oid = "" if file is None else file.uploaded_sha1 if is_regular else file.sha256
    answer = {"path": path, "uploadMode": "regular" if is_regular else "lfs", "shouldIgnore": False}
    return answer | ({"oid": oid} if oid else {})


def require_acceptable_size(path: str, size_bytes: int) -> None:
    if size_bytes > settings.HUB_UPLOAD_MAX_MB * MB:
        most = settings.HUB_UPLOAD_MAX_MB
        raise HubProtocolError(
            413, f"{path} has {size_bytes / MB:,.0f} MB; {most} MB are the most that is accepted here."
        )


def notices(answers: list[dict[str, Any]], left_out: Sequence[str]) -> list[str]:
    warnings = []
    if left_out:
        warnings.append(left_out_warning(left_out))
    if any(answer["uploadMode"] == "lfs" for answer in answers):
        most = settings.HUB_REGULAR_UPLOAD_MAX_MB
        warnings.append(
            warning_of(
                "lfs", f"Files above {most} MB need HF_HUB_DISABLE_XET=1 in the environment of the upload."
            )
        )
    return warnings


@hub_view("POST")
def commit(request: HttpRequest, caller: Caller, repo: str, revision: str) -> HttpResponseBase:
    """Take a commit: read in pieces, through the gate, all of it or nothing."""
    refuse_pull_request(request)
    user, module = require_writable_module(repo, caller)
    head = branch_head(module, revision)
    with ExitStack() as stack, note_refusal(request, module):
        change, left_out = read_change(request, user, module, stack)
        plan_of((*change.files, *left_out), files_there(module, head))
        note_left_out(module, left_out)
        try:
            version, _ = module_commit(author=user, module=module, branch=revision, change=change)
        except Refusal as refusal:
            raise as_hub_error(refusal) from refusal
    warnings = [left_out_warning(left_out)] if left_out else []
    warnings += [warning_of(repair["code"], repair["sentence"]) for repair in version.repairs]
    warnings += draft_notice(version)
    address = request.build_absolute_uri(f"/{module.full_name}/commit/{version.commit_id}")
    answer = {"success": True, "commitOid": version.commit_id, "commitUrl": address, "hookOutput": ""}
    return WarningResponse(answer, warnings)


def draft_notice(version: Version) -> list[str]:
    if version.is_complete:
        return []
    there = {file.path for file in version.files.all()}
    missing = " and ".join(name for name in (CONFIG_FILE, WEIGHTS_FILE) if name not in there)
    return [warning_of("draft", f"Not published yet: upload {missing} too. Until then only you see it.")]


def as_hub_error(refusal: Refusal) -> HubProtocolError:
    code = {"no_such_branch": "RevisionNotFound", "no_such_file": "EntryNotFound"}.get(refusal.code, "")
    return HubProtocolError(refusal.status, refusal.message, code=code, headers=refusal.headers)


def read_change(
    request: HttpRequest, user: User, module: Module, stack: ExitStack
) -> tuple[Change, list[str]]:
    """Read the commit; the second value is what was left out of it."""
    change, left_out = Change(message=""), []
    for operation in read_operations(cast(BinaryIO, request), stack):
        value = operation.value
        if operation.key == "header":
            read_header(change, value)
        elif operation.key in ("file", "lfsFile"):
            path = path_of(value)
            if path not in MODULE_FILES:
                left_out.append(path)
            else:
                change.files[path] = content_of(operation, user, module, path, stack)
        elif operation.key == "deletedFile":
            change.deleted.add(path_of(value))
        elif operation.key == "deletedFolder":
            raise HubProtocolError(
                404, "A file with this name doesn't exist: there are no folders here.", code="EntryNotFound"
            )
        else:
            raise HubProtocolError(400, "A line of the commit has an unknown key.")
    change.deleted -= set(change.files) | set(left_out)
    return change, left_out


def read_header(change: Change, value: dict[str, Any]) -> None:
    change.message = text_of(value, "summary", length_max=1000)[:200]
    change.description = text_of(value, "description", length_max=100_000)
    change.parent = text_of(value, "parentCommit", length_max=40)


def content_of(operation: Operation, user: User, module: Module, path: str, stack: ExitStack) -> BinaryIO:
    if operation.content is not None:
        if operation.value.get("encoding", "base64") != "base64":
            raise HubProtocolError(400, f"{path} must be encoded as base64.")
        return operation.content
    sha256 = operation.value.get("oid")
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
        raise HubProtocolError(400, f"{path} must be named by its sha256.")
    return stack.enter_context(incoming_open(user=user, module=module, path=path, sha256=sha256))


@hub_view("POST")
def validate_yaml(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Say what is wrong with a card before it is uploaded; none of it stops the upload."""
    content = json_of(request).get("content")
    if not isinstance(content, str):
        raise HubProtocolError(400, "content must be the card's text.")
    repairs = read_any_card(content.encode("utf-8", "surrogatepass")).repairs
    warnings = [{"message": to_ascii(repair.sentence)} for repair in repairs]
    return JsonResponse({"errors": [], "warnings": warnings})


def refuse_pull_request(request: HttpRequest) -> None:
    if request.GET.get("create_pr") in ("1", "true", "True"):
        raise not_supported("pull requests")


def branch_head(module: Module, revision: str) -> Version:
    """Where the branch stands. Without it clients create it, so they must be told in their own words."""
    if revision != selectors.MAIN and not selectors.REF_NAME.fullmatch(revision):
        raise revision_not_found(module.full_name, revision)
    try:
        return head_of(module, revision)
    except Refusal as refusal:
        if selectors.version_find(module, revision) is not None:
            message = (
                f"{revision[:100]} is not a branch: a tag or a commit stays as it is. Create a branch first."
            )
            raise HubProtocolError(400, message) from refusal
        raise revision_not_found(module.full_name, revision) from refusal


def path_of(value: object) -> str:
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not 0 < len(path) <= PATH_LENGTH_MAX:
        raise HubProtocolError(400, f"Each file needs a path of at most {PATH_LENGTH_MAX} characters.")
    return path


def size_of(value: dict[str, Any]) -> int:
    size_bytes = value.get("size")
    if type(size_bytes) is not int or size_bytes < 0:
        raise HubProtocolError(400, "Each file needs its size in bytes.")
    return size_bytes
