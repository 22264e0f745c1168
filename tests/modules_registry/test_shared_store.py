"""The registry over an object storage: nothing that this machine has on its disk is needed."""

import io
import os
import shutil
import urllib.request

import pytest
from django.core.management import CommandError, call_command

from hub_site.common import downloads
from hub_site.common.errors import Refusal
from hub_site.operations import doctor
from modules_registry import blobs, maintenance
from modules_registry.blobs import shared_store, store
from modules_registry.core.errors import WEIGHTS_FILE
from modules_registry.services import module_delete
from modules_registry.storage import SHORT_WAITING, StorageFaultError
from tests.factories import make_base, make_module
from tests.object_storage import bucket, object_storage, store_in  # noqa: F401  fixtures
from tests.relay import relay_to

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def shared(settings, bucket):  # noqa: F811
    store_in(bucket, settings)
    return settings


@pytest.fixture
def module(shared, alice, tmp_path):
    make_base(tmp_path / "base")
    return make_module(alice)


@pytest.fixture
def other_machine(data_folder):
    """From now on this process runs where no file is."""

    def move():
        shutil.rmtree(data_folder / "blobs")

    return move


@pytest.fixture
def away(shared, object_storage, monkeypatch):  # noqa: F811
    """Cut the storage off."""
    monkeypatch.setattr(blobs, "LONG_WAITING", SHORT_WAITING)
    with relay_to(("127.0.0.1", object_storage.port)) as relay:
        shared.HUB_STORE_OBJECTS |= {"endpoint": f"http://127.0.0.1:{relay.port}"}
        yield relay.cut


def here(data_folder):
    return {path.name for path in (data_folder / "blobs").glob("??/??/*")}


def address_of(module, path=WEIGHTS_FILE):
    return f"/{module.full_name}/resolve/main/{path}"


def test_pages_files_and_the_gate_work_where_no_file_is(module, other_machine, client, alice):
    expected = store().open(module.current.weights_sha256).read()
    other_machine()
    assert client.get(module.get_absolute_url()).status_code == 200
    answer = client.get(address_of(module))
    assert (answer.status_code, b"".join(answer.streaming_content)) == (200, expected)
    other_machine()
    assert make_module(alice, "second", seed=1).current.base is not None


def test_what_is_deleted_leaves_the_bucket(module, alice):
    assert len(list(store().iter())) > 0
    named = module.current.weights_sha256
    module_delete(editor=alice, module=module)
    maintenance.sweep_files()
    assert not store().exists(named)


def test_a_large_file_is_fetched_from_the_storage_by_who_may_have_it(
    module, shared, object_storage, client, alice, bob, api_of, monkeypatch  # noqa: F811
):  # fmt: skip
    monkeypatch.setattr(downloads, "REDIRECTED_BYTES_MIN", 1)
    shared.HUB_STORE_OBJECTS |= {"public_endpoint": object_storage.endpoint}
    expected = store().open(module.current.weights_sha256).read()
    for path in (address_of(module), f"/api/v1/modules/{module.full_name}/files/{WEIGHTS_FILE}"):
        answer = client.get(path)
        assert (answer.status_code, answer["Cache-Control"]) == (302, "private, no-store")
        assert answer["X-Linked-Etag"] == f'"{module.current.weights_sha256}"'
        assert answer["X-Linked-Size"] == str(len(expected))
        with urllib.request.urlopen(answer["Location"]) as fetched:
            assert fetched.read() == expected
            assert fetched.headers["Content-Disposition"] == f'attachment; filename="{WEIGHTS_FILE}"'
        assert client.head(path).status_code == 200
        assert client.get(path, headers={"If-None-Match": answer["X-Linked-Etag"]}).status_code == 304
    module.private = True
    module.save()
    assert api_of(bob).get(address_of(module)).status_code == 404
    assert api_of(alice).get(address_of(module)).status_code == 302


def test_the_doctor_makes_no_bucket_that_is_mistyped_and_tells_it_from_a_refused_key(shared):
    told = {}
    for name, change in (("bucket", {"bucket": "mistyped"}), ("key", {"secret": "another"})):
        shared.HUB_STORE_OBJECTS = shared.HUB_STORE_OBJECTS | change
        told[name] = [
            finding.sentence for finding in doctor.findings() if "object storage" in finding.sentence
        ]
        if name == "bucket":
            with pytest.raises(StorageFaultError):
                shared_store().objects.look_into_bucket()
    (bucket_told,), (key_told,) = told.values()
    assert bucket_told.startswith("The object storage has no such bucket")
    assert "Look at HUB_STORE_BUCKET" in bucket_told
    assert key_told.startswith("The object storage refused this site's key")
    assert "Look at HUB_STORE_KEY and HUB_STORE_SECRET" in key_told


def test_preparing_makes_the_bucket_and_says_so(shared, capsys, monkeypatch):
    monkeypatch.setattr("composer.management.commands.prepare.load_demo_world_once", lambda world: None)
    shared.HUB_STORE_OBJECTS |= {"bucket": "prepared"}
    call_command("prepare")
    assert "made the bucket prepared in the object storage" in capsys.readouterr().out
    call_command("prepare")
    assert "bucket" not in capsys.readouterr().out


def test_a_storage_that_is_away_is_told_and_nothing_is_taken(module, other_machine, away, client, alice):
    away()
    other_machine()
    answer = client.get(address_of(module))
    assert (answer.status_code, answer["Retry-After"]) == (503, "30")
    with pytest.raises(Refusal, match="could not be reached") as refusal:
        make_module(alice, "second", seed=1)
    assert (refusal.value.code, refusal.value.status) == ("store_unreachable", 503)


def test_what_is_missing_in_the_bucket_is_found_and_sent_again_by_a_machine_that_has_it(module, capsys):
    shared_store().objects.delete(module.current.weights_sha256)
    with pytest.raises(CommandError, match="Findings left: 1"):
        call_command("verify_storage")
    call_command("verify_storage", "--repair")
    call_command("verify_storage")
    assert capsys.readouterr().out.splitlines()[-1] == "Every stored file is as it should be."


def test_what_nothing_names_leaves_the_bucket_once_and_each_machine_by_itself(module, data_folder):
    orphan = store().put(io.BytesIO(b"nobody's"), max_bytes=100).sha256
    maintenance.sweep_machine()
    assert orphan not in here(data_folder)
    assert store().exists(orphan)
    store().open(orphan).close()
    maintenance.sweep_files()
    assert not store().exists(orphan)
    assert store().exists(module.current.weights_sha256)


def test_the_cache_of_a_machine_stays_within_its_limit(module, shared, data_folder):
    for path in (data_folder / "blobs").glob("??/??/*"):
        os.utime(path, (0, 0))
    maintenance.limit_cache()
    assert here(data_folder)  # without a limit everything stays
    shared.HUB_STORE_CACHE_MB = 1
    store().put(io.BytesIO(bytes(2_000_000)), max_bytes=2_000_000)
    maintenance.limit_cache()
    assert len(here(data_folder)) == 1  # the one in use


def test_a_site_moves_to_a_bucket_and_back(module, shared, other_machine, data_folder, capsys):
    names = here(data_folder)
    shared.HUB_STORE_OBJECTS |= {"bucket": "moved-to"}
    call_command("send_files")
    assert {blob.sha256 for blob in store().iter()} == names
    other_machine()
    call_command("fetch_files")
    assert here(data_folder) == names
    shared.HUB_STORE = "disk"
    call_command("verify_storage")
    assert capsys.readouterr().out.splitlines() == [
        f"Files sent: {len(names)}. Everything of this disk is in the object storage now.",
        f"Files fetched: {len(names)}. Everything is on this disk now.",
        "Every stored file is as it should be.",
    ]
    with pytest.raises(CommandError, match="HUB_STORE is not “s3”"):
        call_command("send_files")
    with pytest.raises(CommandError, match="HUB_STORE is “disk”"):
        call_command("fetch_files")
