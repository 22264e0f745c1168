"""A fault of the site is answered with 503 or 507 in the shape of the address, and says when to come back."""

import errno

import pytest
from django.db import OperationalError
from kombu.exceptions import OperationalError as BrokerError

from composer.models import Composition
from hub_site.common import disk
from hub_site.common.errors import Refusal
from modules_registry.importing.models import BaseImport, ModuleImport
from modules_registry.importing.services import import_request
from tests.composer.conftest import SHOTS
from tests.factories import make_base, make_module

pytestmark = pytest.mark.django_db

FAULTS = [
    (OperationalError("the database system is shutting down"), 503, "database_unreachable"),
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
    assert "This is not possible just now" in answer.content.decode()


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
