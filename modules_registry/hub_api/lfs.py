"""Large files by the LFS protocol: ask for an address, send the bytes there, ask whether they have come.

The client sends the bytes without a token, so that the address itself says who may put what there until when.
"""

import re
from typing import Any, BinaryIO, cast

from django.core import signing
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from hub_site.accounts.models import User
from modules_registry.blobs import upload_bytes_max
from modules_registry.files.lfs_uploads import incoming_known, incoming_put
from modules_registry.hub_api.errors import HubProtocolError, to_ascii
from modules_registry.hub_api.protocol import Caller, empty, hub_view, json_of, require_writable_module
from modules_registry.models import Module

SHA256 = re.compile(r"[0-9a-f]{64}")
OBJECTS_MAX = 256
SALT = "hub-lfs-upload"
ADDRESS_LASTS_S = 3600
LFS_JSON = "application/vnd.git-lfs+json"


@hub_view("POST")
def batch(request: HttpRequest, caller: Caller, repo: str) -> HttpResponseBase:
    user, module = require_writable_module(repo, caller)
    asked = json_of(request)
    if asked.get("operation") != "upload":
        raise HubProtocolError(400, "Only uploads go this way; download files by their own addresses.")
    if asked.get("hash_algo", "sha256") != "sha256":
        raise HubProtocolError(409, "Only sha256 is understood.")
    objects = asked.get("objects")
    if not isinstance(objects, list) or len(objects) > OBJECTS_MAX:
        raise HubProtocolError(400, f"objects must be a list of at most {OBJECTS_MAX} files.")
    answers = [object_answer(request, user, module, *oid_and_size(each)) for each in objects]
    return JsonResponse({"transfer": "basic", "objects": answers}, content_type=LFS_JSON)


def object_answer(
    request: HttpRequest, user: User, module: Module, sha256: str, size_bytes: int
) -> dict[str, Any]:
    answer: dict[str, Any] = {"oid": sha256, "size": size_bytes}
    if size_bytes > upload_bytes_max():
        message = to_ascii(f"{upload_bytes_max() // 1_000_000} MB are the most that is accepted here.")
        return answer | {"error": {"code": 413, "message": message}}
    if incoming_known(user=user, module=module, sha256=sha256) == size_bytes:
        return answer
    signed = signing.dumps([user.pk, module.pk, sha256, size_bytes], salt=SALT)
    upload = request.build_absolute_uri(reverse("hub-lfs-upload", args=[signed]))
    verify = request.build_absolute_uri(f"/{module.full_name}.git/info/lfs/objects/verify")
    return answer | {"actions": {"upload": {"href": upload}, "verify": {"href": verify}}}


@hub_view("PUT")
def upload(request: HttpRequest, caller: Caller, signed: str) -> HttpResponseBase:
    """Take the bytes of one file."""
    user_id, module_id, sha256, size_bytes = signed_upload(signed)
    user = User.objects.filter(pk=user_id, is_active=True).first()
    module = Module.objects.visible_to(user).select_related("namespace").filter(pk=module_id).first()
    if user is None or module is None:
        raise HubProtocolError(404, "The module is gone, or its uploader is.")
    incoming_put(user=user, module=module, sha256=sha256, size_bytes=size_bytes, body=cast(BinaryIO, request))
    return empty()


def signed_upload(signed: str) -> tuple[int, int, str, int]:
    """What a signed address allows: who, where, which sha256, how many bytes."""
    try:
        user_id, module_id, sha256, size_bytes = signing.loads(signed, salt=SALT, max_age=ADDRESS_LASTS_S)
    except signing.SignatureExpired as error:
        raise HubProtocolError(403, "This upload address has expired. Start the upload again.") from error
    except (signing.BadSignature, ValueError, TypeError) as error:
        raise HubProtocolError(403, "This upload address is not one of ours.") from error
    return user_id, module_id, sha256, size_bytes


@hub_view("POST")
def verify(request: HttpRequest, caller: Caller, repo: str) -> HttpResponseBase:
    user, module = require_writable_module(repo, caller)
    sha256, size_bytes = oid_and_size(json_of(request))
    if incoming_known(user=user, module=module, sha256=sha256) != size_bytes:
        raise HubProtocolError(404, "This file has not come. Send it again.")
    return empty()


def oid_and_size(value: object) -> tuple[str, int]:
    sha256, size_bytes = (value.get("oid"), value.get("size")) if isinstance(value, dict) else (None, None)
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
        raise HubProtocolError(422, "oid must be a sha256 in 64 hexadecimal digits.")
    if type(size_bytes) is not int or size_bytes < 0:
        raise HubProtocolError(422, "size must be a number of bytes.")
    return sha256, size_bytes
