"""Large files on their way in: a Hub client sends them ahead of the commit that names them."""

from datetime import timedelta
from typing import BinaryIO

from django.db.models import Sum
from django.db.models.functions import Now

from hub_site.accounts.models import User
from hub_site.common.errors import Refusal, log_refusals
from modules_registry.blobs import delete_unnamed_blobs, open_stored, store_files, upload_bytes_max
from modules_registry.models import IncomingFile, Module, VersionFile
from modules_registry.quotas import require_storage_left

KEPT_S = 24 * 3600
KEPT = timedelta(seconds=KEPT_S)
WAITING_UPLOADS = 4  # so many full uploads may wait for a user's commits


class WholeBody:
    """A stream that must give exactly so many bytes."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self.stream, self.left = stream, size_bytes

    def seek(self, position: int) -> None:
        """A body is read once, from its beginning."""

    def read(self, count: int) -> bytes:
        piece = self.stream.read(count)
        self.left -= len(piece)
        if (not piece and self.left) or self.left < 0:
            raise Refusal("wrong_size", "The file does not have the size that was announced. Send it again.")
        return piece


def incoming_put(*, user: User, module: Module, sha256: str, size_bytes: int, body: BinaryIO) -> None:
    """Keep a file for a later commit, if its bytes are those that were announced."""
    sweep_incoming()
    with log_refusals(user.pk):
        require_upload_quota(user, size_bytes)
    require_storage_left(module.namespace, size_bytes)
    with store_files({"lfs": WholeBody(body, size_bytes)}) as blobs:  # type: ignore[dict-item]
        if blobs["lfs"].sha256 != sha256:
            raise Refusal("wrong_sha256", "The bytes are not those of the announced sha256. Send them again.")
        IncomingFile.objects.update_or_create(
            user=user, module=module, sha256=sha256, defaults={"path": sha256, "size_bytes": size_bytes}
        )


def require_upload_quota(user: User, size_bytes: int) -> None:
    waiting = IncomingFile.objects.filter(user=user).aggregate(bytes=Sum("size_bytes"))["bytes"] or 0
    if waiting + size_bytes > WAITING_UPLOADS * upload_bytes_max():
        message = "Too many of your uploads wait for a commit. Commit them, or try again tomorrow."
        raise Refusal("too_much_waiting", message, status=429, retry_after_s=KEPT_S)


def incoming_known(*, user: User, module: Module, sha256: str) -> int | None:
    """The size of a file that this user may commit to the module without sending it again; None: send it.

    It waits for a commit of theirs, or the module has it already. What other modules have does not count:
    whoever knows a sha256 has not seen the file.
    """
    waiting = IncomingFile.objects.filter(user=user, module=module, sha256=sha256).first()
    there = waiting or VersionFile.objects.filter(version__module=module, sha256=sha256).first()
    return there.size_bytes if there else None


def incoming_open(*, user: User, module: Module, path: str, sha256: str) -> BinaryIO:
    if incoming_known(user=user, module=module, sha256=sha256) is None:
        raise Refusal("not_uploaded", f"{path} was not uploaded, or too long ago. Upload it again.")
    return open_stored(sha256)


def sweep_incoming() -> None:
    """Forget what no commit has asked for."""
    old = IncomingFile.objects.filter(created_at__lt=Now() - KEPT)
    hashes = set(old.values_list("sha256", flat=True))
    if hashes:
        old.delete()
        delete_unnamed_blobs(hashes)
