"""A fault of the site is answered with 503 or 507 in the shape of the address, and says when to come back."""

import errno

import httpx2
import psycopg
import pytest
from django.db import InternalError, OperationalError
from kombu.exceptions import OperationalError as BrokerError

from composer.models import Composition
from hub_site.common import disk
from hub_site.common.errors import Refusal
from hub_site.common.site_faults import SENTENCES, site_fault_code
from modules_registry.importing.models import BaseImport, ModuleImport
from modules_registry.importing.services import import_request
from modules_registry.storage import StorageFaultError, StorageFullError
from tests.composer.conftest import SHOTS
from tests.factories import adapter_files, make_base, make_module

pytestmark = pytest.mark.django_db


def database_without_space():
    """As Django raises it when Postgres cannot extend a file."""
    error = OperationalError("could not extend file")
    error.__cause__ = psycopg.errors.DiskFull("could not extend file: No space left on device")
    return error


def from_postgres(kind, cause):
    """As Django raises what psycopg raised."""
    error = kind(str(cause))
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (psycopg.errors.ReadOnlySqlTransaction, "database_read_only"),
        (psycopg.errors.IdleInTransactionSessionTimeout, "database_unreachable"),
        (psycopg.errors.DataCorrupted, "database_unreachable"),
        (psycopg.errors.TooManyConnections, "database_unreachable"),
        (psycopg.errors.OutOfMemory, "database_unreachable"),
        (psycopg.errors.AdminShutdown, "database_unreachable"),
        (psycopg.errors.CannotConnectNow, "database_unreachable"),
        (psycopg.errors.IoError, "database_unreachable"),
        (psycopg.errors.ConnectionException, "database_unreachable"),
        (psycopg.errors.SerializationFailure, "database_unreachable"),
        (psycopg.errors.DeadlockDetected, "database_unreachable"),
        (psycopg.errors.InFailedSqlTransaction, None),
        (psycopg.errors.InvalidCursorState, None),
    ],
)
def test_what_postgres_says_is_the_site_s_fault_or_ours(cause, code):
    kind = InternalError if issubclass(cause, psycopg.InternalError) else OperationalError
    assert site_fault_code(from_postgres(kind, cause("no"))) == code


@pytest.mark.parametrize(
    "number",
    [errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ESHUTDOWN, errno.EREMOTEIO, errno.ENODEV],
)
def test_a_network_disk_that_is_away_is_a_fault_of_a_machine_but_another_site_is_not(number):
    fault = OSError(number, "away")
    assert site_fault_code(fault) == "machine_fault"
    if number != errno.ENODEV:  # of a disk alone
        refused = httpx2.ConnectError("could not connect")
        refused.__cause__ = fault
        assert site_fault_code(refused) is None


def test_the_store_and_the_site_call_a_fault_by_one_name():
    for error in (StorageFullError(), StorageFaultError("Permission denied")):
        assert SENTENCES[error.code] == error.sentence
        assert site_fault_code(error) == error.code
    assert str(StorageFullError()).startswith("The site's disk is full")


FAULTS = [
    (from_postgres(InternalError, psycopg.errors.ReadOnlySqlTransaction("no")), 503, "database_read_only"),
    (StorageFaultError("Permission denied"), 503, "machine_fault"),
    (OperationalError("the database system is shutting down"), 503, "database_unreachable"),
    (database_without_space(), 507, "disk_full"),
    (BrokerError("Connection refused"), 503, "broker_unreachable"),
    (OSError(errno.ENOSPC, "No space left on device"), 507, "disk_full"),
]


def breaking(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(("error", "status", "code"), FAULTS)
def test_the_api_tells_it_as_an_error_of_its_own_shape(api_of, alice, monkeypatch, error, status, code):
    monkeypatch.setattr("composer.selectors.compositions_of", breaking(error))
    answer = api_of(alice).get("/api/v1/compositions")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "Nothing was changed" in answer.json()["error"]["message"]
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(("error", "status", "code"), FAULTS)
def test_a_hub_client_reads_it_in_the_header_that_it_prints(client, monkeypatch, error, status, code):
    monkeypatch.setattr("modules_registry.selectors.module_find", breaking(error))
    answer = client.get("/api/models/alice/french")
    assert answer.status_code == status
    assert "Try again in a minute" in answer.headers["X-Error-Message"]
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(("error", "status", "code"), FAULTS)
def test_a_page_says_it_in_words_without_asking_the_database(client, monkeypatch, error, status, code):
    monkeypatch.setattr("modules_registry.selectors.module_find", breaking(error))
    answer = client.get("/alice/french")
    assert answer.status_code == status
    assert "Temporarily unavailable" in answer.content.decode()


def files_of(user):
    return {
        "namespace": user.username,
        "name": "more",
        "sentence": "One.",
        "licence": "mit",
        **adapter_files(seed=2),
    }


UPLOADS = {
    "a module by the API": lambda api, pages, files: api.post("/api/v1/modules", files, format="multipart"),
    "a version by the API": lambda api, pages, files: api.post(
        "/api/v1/modules/bob/french/versions",
        {name: files[name] for name in ("config_file", "weights_file")},
        format="multipart",
    ),
    "a module by the form": lambda api, pages, files: pages.post("/modules/new/", files),
    "a version by the form": lambda api, pages, files: pages.post("/bob/french/upload", files),
    "a module by the form's script": lambda api, pages, files: pages.post(
        "/modules/new/", files, headers={"Accept": "application/json"}
    ),
}


@pytest.mark.parametrize("upload", UPLOADS.values(), ids=UPLOADS)
def test_every_upload_is_told_that_the_store_is_full_and_when_to_come_back(
    api_of, browser_of, bob, tmp_path, monkeypatch, upload
):
    make_base(tmp_path / "base")
    make_module(bob, "french", seed=1)
    monkeypatch.setattr("modules_registry.storage.disk._write", breaking(StorageFullError()))
    answer = upload(api_of(bob), browser_of(bob), files_of(bob))
    assert answer.status_code == 507
    assert "disk is full" in answer.content.decode()
    assert int(answer.headers["Retry-After"]) > 0


def test_a_script_of_the_pages_is_told_in_json(client, monkeypatch):
    monkeypatch.setattr("modules_registry.selectors.module_find", breaking(OperationalError("gone")))
    answer = client.get("/alice/french", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unreachable")


def test_a_fault_outside_of_any_view_is_told_too(client, monkeypatch):
    client.raise_request_exception = False
    middleware = "django.contrib.messages.middleware.MessageMiddleware.process_response"
    monkeypatch.setattr(middleware, breaking(OperationalError("gone")))
    answer = client.get("/modules/")
    assert answer.status_code == 503
    assert "database could not be reached" in answer.content.decode()
    assert int(answer.headers["Retry-After"]) > 0


def test_an_error_of_ours_is_still_an_error(client, monkeypatch):
    monkeypatch.setattr("modules_registry.selectors.module_find", breaking(ValueError("a bug")))
    client.raise_request_exception = False
    assert client.get("/alice/french").status_code == 500


@pytest.fixture
def low_disk(settings):
    settings.HUB_DISK_SPARE_MB = 10**12
    assert disk.is_disk_low()


def test_new_jobs_are_refused_before_the_disk_is_full(low_disk, alice, bob, tmp_path, api_of):
    make_base(tmp_path / "base")
    make_module(bob, "french", seed=1)
    body = {"name": "x", "examples": [{"input": pair.input, "output": pair.output} for pair in SHOTS]}
    answer = api_of(alice).post("/api/v1/compositions", body, format="json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
    with pytest.raises(Refusal) as refused:
        import_request(owner=alice, namespace=alice.namespace, sources=["far/french"])
    assert refused.value.status == 507
    assert [model.objects.count() for model in (Composition, ModuleImport, BaseImport)] == [0, 0, 0]


def test_staff_are_told_and_nobody_else(low_disk, alice, bob, browser_of):
    bob.is_staff = True
    bob.save()
    assert "disk is nearly full" in browser_of(bob).get("/").content.decode()
    assert "disk is nearly full" not in browser_of(alice).get("/").content.decode()
