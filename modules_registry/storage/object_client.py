"""The client of an object storage that speaks S3: one bucket, one object per file, named by its sha256.

Every failure is a StorageError. An object has the path that the file has in the folder of a DiskStore, so
that any tool which copies folders moves a site from one to the other.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from modules_registry.storage.base import (
    LONG_WAITING,
    SHA256,
    Blob,
    MissingBlobError,
    ObjectStoreSettings,
    StorageError,
    StorageFaultError,
    StoreUnreachableError,
    Waiting,
    require_sha256,
)

PART_BYTES = 64 * 1024**2  # of an upload in parts; a storage takes 10,000 of them, so 640 GB
PARTS_AT_ONCE = 4
CONNECTIONS_KEPT = 32
ADDRESS_LASTS_S = 600  # a download must begin within it
GONE = frozenset({"NoSuchKey", "NotFound", "404"})
GONE_UPLOAD, GONE_BUCKET = "NoSuchUpload", "NoSuchBucket"
LOOK_AT_KEY = "HUB_STORE_KEY and HUB_STORE_SECRET, and at what that key may do in HUB_STORE_BUCKET"
LOOK_AT_BUCKET = "HUB_STORE_BUCKET; if its name is right, manage.py prepare makes it"
NOT_ALLOWED = frozenset({401, 403})
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


@contextmanager
def typed_errors(sha256: str = "") -> Iterator[None]:
    """What boto3 raises, as one of ours."""
    try:
        yield
    except S3UploadFailedError as error:  # has the reason behind it
        raise error_of(error.__context__ or error, sha256) from error
    except (BotoCoreError, ClientError) as error:
        raise error_of(error, sha256) from error


def error_of(error: BaseException, sha256: str) -> StorageError:
    if not isinstance(error, ClientError):
        return StoreUnreachableError("did not answer, or the connection broke")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in GONE and sha256:
        return MissingBlobError(sha256)
    if status in BUSY:
        return StoreUnreachableError(f"is busy or broken just now ({status})")
    if status in NOT_ALLOWED:
        return StorageFaultError("the object storage refused this site's key", look_at=LOOK_AT_KEY)
    if code == GONE_BUCKET:
        return StorageFaultError("the object storage has no such bucket", look_at=LOOK_AT_BUCKET)
    return StorageFaultError(f"the object storage said {code or status}")


@lru_cache(maxsize=8)
def make_client(settings: ObjectStoreSettings, endpoint: str | None, waiting: Waiting) -> Any:
    """A client that all threads of the process share: making one takes a tenth of a second."""
    session = boto3.session.Session(
        aws_access_key_id=settings.key, aws_secret_access_key=settings.secret, region_name=settings.region
    )
    return session.client(
        "s3",
        endpoint_url=endpoint,
        config=Config(
            signature_version="s3v4",
            connect_timeout=waiting.connect_s,
            read_timeout=waiting.read_s,
            tcp_keepalive=True,
            max_pool_connections=CONNECTIONS_KEPT,
            retries={"mode": "standard", "total_max_attempts": waiting.tries},
            s3={"addressing_style": "path" if endpoint else "auto"},
            # Our own sha256 says whether the bytes are right; not every storage knows the newer sums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


class ObjectClient:
    """What this site does in its bucket."""

    def __init__(self, settings: ObjectStoreSettings, waiting: Waiting = LONG_WAITING) -> None:
        self.settings, self.bucket, self.waiting = settings, settings.bucket, waiting

    @property
    def client(self) -> Any:
        """What asks the storage. Whoever takes it is about to wait."""
        self.waiting.begin()
        return make_client(self.settings, self.settings.endpoint, self.waiting)

    def look_into_bucket(self) -> None:
        """Do nothing but ask: a storage that is away, a key or a bucket that it does not take is an error."""
        with typed_errors():
            self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)

    def make_bucket(self) -> bool:
        """Make the bucket unless it is there; return whether it was made."""
        with typed_errors():
            try:
                self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
            except ClientError as error:
                if str(error.response["Error"]["Code"]) != GONE_BUCKET:
                    raise
                self.client.create_bucket(Bucket=self.bucket)
                return True
        return False

    def upload(self, path: Path, blob: Blob) -> None:
        """Send a file; one that is there already is replaced, in one step."""
        config = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )
        with typed_errors():
            self.client.upload_file(str(path), self.bucket, key_of(blob.sha256), Config=config)

    def open(self, sha256: str) -> "IncomingObject":
        """The bytes of a file as the storage gives them; who reads them holds them against the sha256."""
        return IncomingObject(self, sha256)

    def body_from(self, sha256: str, position: int) -> tuple[Any, int]:
        """The rest of an object from a byte on, and the size of all of it."""
        byte_range = {"Range": f"bytes={position}-"} if position else {}
        with typed_errors(sha256):
            answer = self.client.get_object(Bucket=self.bucket, Key=key_of(sha256), **byte_range)
        return answer["Body"], position + int(answer["ContentLength"])

    def size_of(self, sha256: str) -> int | None:
        """How many bytes the storage has of it; None where it has none."""
        try:
            with typed_errors(sha256):
                return int(self.client.head_object(Bucket=self.bucket, Key=key_of(sha256))["ContentLength"])
        except MissingBlobError:
            return None

    def delete(self, sha256: str) -> None:
        with typed_errors():
            self.client.delete_object(Bucket=self.bucket, Key=key_of(sha256))

    def iter(self) -> Iterator[Blob]:
        with typed_errors():
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
                for row in page.get("Contents", ()):
                    name = row["Key"].rpartition("/")[2]
                    if SHA256.fullmatch(name) and row["Key"] == key_of(name):
                        yield Blob(name, int(row["Size"]))

    def sweep(self, *, older_than_s: float) -> int:
        """End uploads in parts that began so long ago and never ended; return how many."""
        latest, swept = datetime.now(UTC) - timedelta(seconds=older_than_s), 0
        with typed_errors():
            pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket)
            for upload in (row for page in pages for row in page.get("Uploads", ())):
                if upload["Initiated"] <= latest:
                    self._abort(upload["Key"], upload["UploadId"])
                    swept += 1
        return swept

    def _abort(self, key: str, upload_id: str) -> None:
        try:
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id)
        except ClientError as error:
            if error.response["Error"]["Code"] != GONE_UPLOAD:  # it has ended meanwhile
                raise

    def signed_address(self, sha256: str, *, disposition: str, content_type: str) -> str | None:
        """An address where anybody may fetch the file within ADDRESS_LASTS_S; the storage is not asked."""
        if self.settings.public_endpoint is None:
            return None
        with typed_errors():
            address: str = make_client(
                self.settings, self.settings.public_endpoint, self.waiting
            ).generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self.bucket,
                    "Key": key_of(sha256),
                    "ResponseContentDisposition": disposition,
                    "ResponseContentType": content_type,
                },
                ExpiresIn=ADDRESS_LASTS_S,
            )
        return address


class IncomingObject:
    """A download as a stream, gone on with where a connection broke. Close it, or use it in a `with`."""

    def __init__(self, objects: ObjectClient, sha256: str) -> None:
        self.objects, self.sha256, self.position, self.breaks = objects, sha256, 0, 0
        self.body, self.size_bytes = objects.body_from(sha256, 0)

    def __enter__(self) -> "IncomingObject":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with suppress(BotoCoreError, OSError):
            self.body.close()

    def read(self, count: int, /) -> bytes:
        while self.position < self.size_bytes:
            try:
                piece: bytes = self.body.read(count)
            except (BotoCoreError, OSError):
                piece = b""
            if piece:
                self.position, self.breaks = self.position + len(piece), 0
                return piece
            self._go_on()
        return b""

    def _go_on(self) -> None:
        self.breaks += 1
        if self.breaks > self.objects.waiting.breaks_max:
            raise StoreUnreachableError("broke off in the middle of a file")
        self.close()
        self.body, size_bytes = self.objects.body_from(self.sha256, self.position)
        if size_bytes != self.size_bytes:
            raise StoreUnreachableError("changed a file while it came")


def key_of(sha256: str) -> str:
    """The name of a file in the bucket: its path in the folder of a DiskStore."""
    require_sha256(sha256)
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"
