"""An object storage that speaks S3, as a process of its own: SeaweedFS in a folder of its own."""

import contextlib
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub_site.embedded.processes import wait_for
from modules_registry.storage import ObjectStoreSettings
from modules_registry.storage.object_client import ObjectClient
from tests.served_site import free_port

READY_TIMEOUT_S = 180
KEY, SECRET = "hub-of-the-tests", "a-secret-of-the-tests"
SERVERS = ("master", "volume", "filer", "s3")


class ObjectStorage:
    """The server, until `stop`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "files").mkdir(parents=True)
        credentials = [{"accessKey": KEY, "secretKey": SECRET}]
        identity = {"name": "hub", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        self.log = folder / "storage.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        program = Path(sys.executable).with_name("weed")
        command = [
            *(str(program), "server", f"-dir={self.folder / 'files'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *("-master.volumeSizeLimitMB=64", "-volume.max=10000", "-volume.minFreeSpace=0"),
            *("-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"),
            *("-s3", f"-s3.config={self.folder / 's3.json'}", f"-s3.port={self.port}"),
        ]
        command += [f"-{name}.port={free_port()}" for name in SERVERS if name != "s3"]
        command += [f"-{name}.port.grpc={free_port()}" for name in SERVERS]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        assert wait_for(self.answers, timeout_s=READY_TIMEOUT_S), self.log.read_text()[-3000:]

    def answers(self) -> bool:
        """Whether it takes a file: its parts find each other some time after they listen."""
        with (
            contextlib.suppress(OSError, urllib.error.URLError),
            urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=5),
        ):
            return self.takes_files()
        return False

    def takes_files(self) -> bool:
        client = ObjectClient(self.settings("ready")).client
        with contextlib.suppress(Exception):
            client.create_bucket(Bucket="ready")
        try:
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
        except Exception:  # noqa: BLE001  whatever it says: not yet
            return False
        return True

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def settings(self, bucket: str, **changes: str | None) -> ObjectStoreSettings:
        given = {"endpoint": self.endpoint, "key": KEY, "secret": SECRET}
        return ObjectStoreSettings(bucket, **(given | changes))

    def new_bucket(self) -> ObjectStoreSettings:
        settings = self.settings(f"bucket-{uuid.uuid4().hex[:12]}")
        ObjectClient(settings).make_bucket()
        return settings


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory) -> Iterator[ObjectStorage]:
    storage = ObjectStorage(tmp_path_factory.mktemp("object-storage"))
    try:
        storage.start()
        yield storage
    finally:
        storage.stop()


@pytest.fixture
def bucket(object_storage) -> ObjectStoreSettings:
    """A bucket of the test's own."""
    return object_storage.new_bucket()


def store_in(bucket: ObjectStoreSettings, settings: Any) -> None:
    """Let the site of a test keep its files in a bucket; `settings` is pytest-django's fixture."""
    settings.HUB_STORE = "s3"
    names = ("bucket", "endpoint", "public_endpoint", "region", "key", "secret")
    settings.HUB_STORE_OBJECTS = {name: getattr(bucket, name) for name in names}
