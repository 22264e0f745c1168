from collections.abc import Iterator
from pathlib import Path

import pytest

from modules_registry.storage import RemoteStoreSettings, StoreSettings, make_store
from tests.faulty_hub import FaultyHub, faulty_hub
from tests.object_storage import bucket, object_storage  # noqa: F401  fixtures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def hub() -> Iterator[FaultyHub]:
    with faulty_hub() as hub:
        yield hub


@pytest.fixture
def settings_of(folder, hub):
    """Both stores' settings by name."""
    remote = RemoteStoreSettings(hub.endpoint, "hf_secret", "us")
    return {"disk": StoreSettings("disk", folder), "hub": StoreSettings("hub", folder, remote)}


@pytest.fixture
def places():
    """Where on the Hub the files are, by sha256."""
    return {}


@pytest.fixture(params=["disk", "hub", pytest.param("s3", marks=pytest.mark.slow)])
def store(request, settings_of, places, folder):
    if request.param == "s3":
        return make_store(StoreSettings("s3", folder, s3=request.getfixturevalue("bucket")), places.get)
    return make_store(settings_of[request.param], places.get)


@pytest.fixture(params=["disk", "hub"])
def store_here(request, settings_of, places):
    """The stores whose only copy, for all that these tests know, is on this machine."""
    return make_store(settings_of[request.param], places.get)
