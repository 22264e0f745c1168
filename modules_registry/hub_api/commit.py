"""Writing through the protocol: what the client asks before it uploads, and the commit itself."""

import re
from contextlib import ExitStack
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from hub_site.accounts.models import User
from hub_site.common.errors import Refusal
from modules_registry import selectors
from modules_registry.cards import check_card
from modules_registry.commits import Change, head_of, module_commit
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE, GateRefusal
from modules_registry.files.accepted_paths import UploadDecision, decide_upload
from modules_registry.files.lfs_uploads import incoming_open
from modules_registry.hub_api.errors import HubProtocolError, not_supported, revision_not_found, to_ascii
from modules_registry.hub_api.ndjson import Operation, read_operations
from modules_registry.hub_api.protocol import Caller, hub_view, json_of, require_writable_module, text_of
from modules_registry.models import Module, Version

FILES_MAX = 256  # the client's own batch
PATH_LENGTH_MAX = 1000
SHA256 = re.compile(r"[0-9a-f]{64}")
MB = 1_000_000
SHOWN_MAX = 5


@hub_view("POST")
def preupload(request: HttpRequest, caller: Caller, repo: str, revision: str) -> HttpResponseBase:
    """Say of each file whether it is taken, how to send it, and which one is there already."""
    refuse_pull_request(request)
    _, module = require_writable_module(repo, caller)
    head = branch_head(module, revision)
    asked = json_of(request).get("files")
    if not isinstance(asked, list) or len(asked) > FILES_MAX:
        raise HubProtocolError(400, f"files must be a list of at most {FILES_MAX} files.")
    known = {file.path: file for file in head.files.all()}
    answers, left_out, refused = [], [], []
    for each in asked:
        path, size_bytes = path_of(each), size_of(each)
        try:
            if decide_upload(path) is UploadDecision.LEFT_OUT:
                left_out.append(path)
                answers.append({"path": path, "uploadMode": "regular", "shouldIgnore": True})
                continue
        except Refusal as refusal:
            refused.append(refusal.message)
            continue
        require_acceptable_size(path, size_bytes)
        file = known.get(path)
        answers.append(
            mode_of(path, size_bytes, file.uploaded_sha1 if file else "", file.sha256 if file else "")
        )
    if refused:
        raise HubProtocolError(400, " ".join(refused[:SHOWN_MAX]))
    return add_warnings(
        JsonResponse({"files": answers, "commitOid": head.commit_id}), notices(answers, left_out)
    )


def mode_of(path: str, size_bytes: int, uploaded_sha1: str, sha256: str) -> dict[str, Any]:
    """Small files come inside the commit, which needs no Xet; large ones ahead of it by LFS."""
    is_regular = size_bytes <= settings.HUB_REGULAR_UPLOAD_MAX_MB * MB
    oid = uploaded_sha1 if is_regular else sha256
    answer = {"path": path, "uploadMode": "regular" if is_regular else "lfs", "shouldIgnore": False}
    return answer | ({"oid": oid} if oid else {})


def require_acceptable_size(path: str, size_bytes: int) -> None:
    if size_bytes > settings.HUB_UPLOAD_MAX_MB * MB:
        most = settings.HUB_UPLOAD_MAX_MB
        raise HubProtocolError(
            413, f"{path} has {size_bytes / MB:,.0f} MB; {most} MB are the most that is accepted here."
        )


def notices(answers: list[dict[str, Any]], left_out: list[str]) -> list[str]:
    warnings = []
    if left_out:
        warnings.append(left_out_notice(left_out))
    if any(answer["uploadMode"] == "lfs" for answer in answers):
        most = settings.HUB_REGULAR_UPLOAD_MAX_MB
        warnings.append(
            f"lfs; Files above {most} MB need HF_HUB_DISABLE_XET=1 in the environment of the upload."
        )
    return warnings


def left_out_notice(paths: list[str]) -> str:
    names = ", ".join(sorted(paths)[:SHOWN_MAX]) + (", ..." if len(paths) > SHOWN_MAX else "")
    return f"left-out; Not part of a module, so left out: {names}"


def add_warnings(response: JsonResponse, warnings: list[str]) -> JsonResponse:
    """Say things that the client prints. One header carries them all: Django knows no repeated headers."""
    if warnings:
        response["X-HF-Warning"] = to_ascii(
            warnings[0] + "".join(f". {each.partition('; ')[2]}" for each in warnings[1:])
        )
    return response


@hub_view("POST")
def commit(request: HttpRequest, caller: Caller, repo: str, revision: str) -> HttpResponseBase:
    """Take a commit: read in pieces, through the gate, all of it or nothing."""
    refuse_pull_request(request)
    user, module = require_writable_module(repo, caller)
    branch_head(module, revision)
    with ExitStack() as stack:
        change, left_out = read_change(request, user, module, stack)
        try:
            version, _ = module_commit(author=user, module=module, branch=revision, change=change)
        except Refusal as refusal:
            raise as_hub_error(refusal) from refusal
    warnings = [left_out_notice(left_out)] if left_out else []
    warnings += draft_notice(version)
    address = request.build_absolute_uri(f"/{module.full_name}/commit/{version.commit_id}")
    answer = {"success": True, "commitOid": version.commit_id, "commitUrl": address, "hookOutput": ""}
    return add_warnings(JsonResponse(answer), warnings)


def draft_notice(version: Version) -> list[str]:
    if version.is_complete:
        return []
    there = {file.path for file in version.files.all()}
    missing = " and ".join(name for name in (CONFIG_FILE, WEIGHTS_FILE) if name not in there)
    return [f"draft; Not published yet: upload {missing} too. Until then only you see it."]


def as_hub_error(refusal: Refusal) -> HubProtocolError:
    code = {"no_such_branch": "RevisionNotFound", "no_such_file": "EntryNotFound"}.get(refusal.code, "")
    return HubProtocolError(refusal.status, refusal.message, code=code)


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
            if decide_upload(path) is UploadDecision.LEFT_OUT:
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
    """Check a card before it is uploaded."""
    content = json_of(request).get("content")
    if not isinstance(content, str):
        raise HubProtocolError(400, "content must be the card's text.")
    try:
        check_card(content.encode("utf-8", "surrogatepass"))
    except GateRefusal as refusal:
        return JsonResponse({"errors": [{"message": to_ascii(refusal.message)}], "warnings": []}, status=400)
    return JsonResponse({"errors": [], "warnings": []})


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
