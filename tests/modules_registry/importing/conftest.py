import pytest

from modules_registry.files.conversion import stop_launcher
from modules_registry.importing import source
from modules_registry.importing.tasks import run_import
from tests.modules_registry.importing.repositories import far_repositories
from tests.modules_registry.importing.source_server import small_hub


@pytest.fixture
def hub(settings):
    """The repositories of a Hub over HTTP, which the site reads; what a test adds is there too."""
    repositories = far_repositories()
    with small_hub(repositories) as address:
        settings.HUB_IMPORT_ENDPOINT = address
        yield repositories
    stop_launcher()


@pytest.fixture
def queued_ids(monkeypatch):
    """The ids that would have been queued; nothing reaches the broker."""
    queued = []
    monkeypatch.setattr(run_import, "delay", queued.append)
    return queued


@pytest.fixture
def impatient(monkeypatch):
    """No pause between two tries of the same request."""
    monkeypatch.setattr(source, "WAIT_S", 0.0)
