"""Machines that share an object storage: what one stores another one has, whole or not at all."""

import hashlib
import io
import os
import threading
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from modules_registry.storage import (
    LONG_WAITING,
    SHORT_WAITING,
    AlteredBlobError,
    MissingBlobError,
    StorageFaultError,
    StoreSettings,
    StoreUnreachableError,
    make_object_store,
    object_client,
)
from modules_registry.storage.object_client import ObjectClient, key_of, make_client
from tests.relay import relay_to

pytestmark = pytest.mark.slow

CONTENT = os.urandom(100) * 28_000  # 2.8 MB: three pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def machine(tmp_path, bucket):
    """The store of a machine by name, with a folder of its own; changed as the test says."""

    def make(name, *, waiting=LONG_WAITING, **changes):
        changed = replace(bucket, **changes)
        return make_object_store(StoreSettings("s3", tmp_path / name, s3=changed, waiting=waiting))

    return make


@pytest.fixture
def relay(object_storage):
    with relay_to(("127.0.0.1", object_storage.port)) as relay:
        yield relay


def put(store, content=CONTENT):
    return store.put(io.BytesIO(content), max_bytes=len(content))


def kept(store):
    return [path.name for path in store.blobs.rglob("*") if path.is_file()]


def read(store, sha256=SHA256):
    with store.open(sha256) as file:
        return file.read()


def alter_object(store, content=b"other bytes"):
    store.objects.client.put_object(Bucket=store.objects.bucket, Key=key_of(SHA256), Body=content)


def alter_here(store):
    (path,) = store.blobs.rglob(SHA256)
    path.chmod(0o600)
    path.write_bytes(b"other bytes")


def test_what_one_machine_stores_another_one_opens_and_keeps(machine):
    web, worker = machine("web"), machine("worker")
    put(web)
    assert worker.exists(SHA256)
    assert kept(worker) == []
    assert read(worker) == CONTENT
    worker.objects = None  # not asked again
    assert read(worker) == CONTENT


def test_a_worker_without_the_file_fetches_it_and_looks_up_meanwhile(machine, tmp_path):
    put(machine("web"))
    pieces, worker = [], machine("worker")
    worker.fetch(SHA256, tmp_path / "weights", check=True, on_piece=lambda: pieces.append(1))
    assert (tmp_path / "weights").read_bytes() == CONTENT
    assert len(pieces) > 3
    machine("other").fetch(SHA256, tmp_path / "unchecked")
    assert (tmp_path / "unchecked").read_bytes() == CONTENT
    worker.objects = None  # not asked again
    worker.fetch(SHA256, tmp_path / "once more", check=True)


def test_two_that_need_the_same_file_on_one_machine_fetch_it_once(machine, tmp_path):
    put(machine("web"))
    started, asked = threading.Barrier(2), []
    worker = machine("worker")
    body_from = worker.objects.body_from
    worker.objects.body_from = lambda *position: (asked.append(position), body_from(*position))[1]

    def fetch(number):
        started.wait()
        worker.fetch(SHA256, tmp_path / f"weights-{number}", check=True)

    threads = [threading.Thread(target=fetch, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert (tmp_path / "weights-0").samefile(tmp_path / "weights-1")
    assert kept(worker) == [SHA256]


def test_work_that_is_ended_while_a_file_comes_keeps_nothing(machine, tmp_path):
    class EndedError(Exception):
        pass

    def end():
        raise EndedError

    put(machine("web"))
    worker = machine("worker")
    with pytest.raises(EndedError):
        worker.fetch(SHA256, tmp_path / "weights", check=True, on_piece=end)
    assert kept(worker) == []


def test_other_bytes_in_the_storage_are_never_kept(machine):
    web, worker = machine("web"), machine("worker")
    put(web)
    for content in (b"other bytes", CONTENT + b"more", CONTENT[::-1]):
        alter_object(web, content)
        with pytest.raises(AlteredBlobError):
            worker.open(SHA256)
        assert kept(worker) == []


def test_an_altered_file_of_a_machine_is_replaced_by_the_storage_s(machine, tmp_path):
    web = machine("web")
    put(web)
    alter_here(web)
    web.fetch(SHA256, tmp_path / "weights", check=True)
    assert (tmp_path / "weights").read_bytes() == CONTENT


def test_what_is_altered_or_lost_in_the_storage_is_found_and_sent_again_from_a_machine_that_has_it(machine):
    web, worker = machine("web"), machine("worker")
    put(web)
    assert list(worker.verify()) == []
    alter_object(web)
    assert list(worker.verify()) == [SHA256]
    with pytest.raises(AlteredBlobError):
        worker.restore(SHA256)
    web.restore(SHA256)
    assert list(worker.verify()) == []
    web.objects.delete(SHA256)
    with pytest.raises(MissingBlobError):
        worker.restore(SHA256)
    web.restore(SHA256)
    assert read(worker) == CONTENT


def test_a_check_of_all_files_removes_what_is_altered_on_this_machine(machine):
    web = machine("web")
    put(web)
    alter_here(web)
    assert list(web.verify()) == []
    assert kept(web) == []


def test_a_file_that_one_machine_deletes_is_gone_for_all_that_do_not_hold_it(machine):
    web, worker, late = machine("web"), machine("worker"), machine("late")
    put(web)
    assert read(worker) == CONTENT
    web.delete(SHA256)
    assert kept(web) == []
    assert not worker.exists(SHA256)
    with pytest.raises(MissingBlobError):
        late.open(SHA256)


def test_a_put_without_the_storage_leaves_nothing_and_says_that_it_passes(machine, relay):
    web = machine("web", waiting=SHORT_WAITING, endpoint=f"http://127.0.0.1:{relay.port}")
    relay.cut()
    with pytest.raises(StoreUnreachableError, match="could not be reached") as refusal:
        put(web)
    assert refusal.value.code == "store_unreachable"
    assert kept(web) == []
    relay.restore()
    put(web)
    assert web.exists(SHA256)


def test_a_download_goes_on_where_its_connection_broke(machine, relay):
    put(machine("web"))
    worker = machine("worker", endpoint=f"http://127.0.0.1:{relay.port}")
    relay.break_after_bytes = 1_000_000
    assert read(worker) == CONTENT
    assert relay.break_after_bytes is None


def test_a_storage_that_stays_away_in_the_middle_of_a_file_is_told_and_nothing_is_kept(
    machine, relay, tmp_path
):
    put(machine("web"))
    worker = machine("worker", waiting=SHORT_WAITING, endpoint=f"http://127.0.0.1:{relay.port}")
    relay.delay_s = 0.05  # of each 64 KB, so that it does not come all at once
    with pytest.raises(StoreUnreachableError):
        worker.fetch(SHA256, tmp_path / "weights", on_piece=relay.cut)
    assert kept(worker) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"secret": "another"}, "refused this site's key"), ({"bucket": "no-such-bucket"}, "no such bucket")],
)
def test_what_the_operator_has_to_mend_is_a_fault_of_the_machine(machine, changes, reason):
    with pytest.raises(StorageFaultError, match=reason) as fault:
        machine("web", **changes).open(SHA256)
    assert fault.value.code == "machine_fault"
    assert "another" not in str(fault.value)


def test_the_secret_is_not_printed_with_the_settings(bucket):
    assert bucket.secret not in repr(bucket)


def test_a_large_file_goes_in_parts_and_a_killed_one_s_parts_are_swept(machine, monkeypatch):
    monkeypatch.setattr(object_client, "PART_BYTES", 5 * 1024**2)
    web, content = machine("web"), os.urandom(1000) * 12_000
    blob = put(web, content)
    head = web.objects.client.head_object(Bucket=web.objects.bucket, Key=key_of(blob.sha256))
    assert head["ETag"].strip('"').endswith("-3")  # as S3 marks what came in three parts
    assert read(machine("worker"), blob.sha256) == content
    begun = web.objects.client.create_multipart_upload(Bucket=web.objects.bucket, Key=key_of(SHA256))
    assert web.sweep(older_than_s=3600) == 0
    assert web.sweep(older_than_s=-60) == 1
    left = web.objects.client.list_multipart_uploads(Bucket=web.objects.bucket).get("Uploads", [])
    assert begun["UploadId"] not in {upload["UploadId"] for upload in left}


def test_a_visitor_fetches_from_the_storage_by_a_signed_address(machine, object_storage):
    web = machine("web", public_endpoint=object_storage.endpoint)
    put(web)
    address = web.address(
        SHA256, disposition='attachment; filename="adapter.bin"', content_type="application/octet-stream"
    )
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == CONTENT
        assert answer.headers["Content-Disposition"] == 'attachment; filename="adapter.bin"'
        assert answer.headers["Content-Type"] == "application/octet-stream"
    part = urllib.request.Request(address, headers={"Range": "bytes=5-9"})
    with urllib.request.urlopen(part) as answer:
        assert answer.read() == CONTENT[5:10]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address.replace(SHA256, "0" * 64))
    assert refused.value.code == 403


def test_without_a_public_address_visitors_fetch_from_the_site(machine):
    assert machine("web").address(SHA256, disposition="attachment", content_type="text/plain") is None


def test_the_cache_gives_up_what_was_not_used_for_longest_and_nothing_in_use(machine, tmp_path):
    web = machine("web")
    blobs = [put(web, bytes([number]) * 1000) for number in range(4)]
    of_a_job = put(web, b"of a job" * 100)
    web.fetch(of_a_job.sha256, tmp_path / "weights")
    for number, blob in enumerate([*blobs[:3], of_a_job]):
        (path,) = web.blobs.rglob(blob.sha256)
        os.utime(path, (1000 + number, 1000 + number))
    assert web.make_room(3300) == 2
    assert set(kept(web)) == {blobs[2].sha256, blobs[3].sha256, of_a_job.sha256}
    assert web.make_room(0) == 1  # the last one was put a moment ago
    assert set(kept(web)) == {blobs[3].sha256, of_a_job.sha256}
    assert read(web, blobs[0].sha256) == bytes([0]) * 1000  # the storage has all of them


def test_a_site_moves_from_a_disk_by_sending_what_the_storage_lacks(machine):
    web = machine("web")
    put(web.here)
    assert not web.exists(SHA256)
    assert web.send(SHA256) is True
    assert web.send(SHA256) is False
    assert read(machine("worker")) == CONTENT
    web.objects.delete(SHA256)
    alter_here(web)
    with pytest.raises(AlteredBlobError):
        web.send(SHA256)


def test_the_bucket_is_made_once(object_storage):
    objects = ObjectClient(object_storage.settings("made-by-a-test"))
    with pytest.raises(StorageFaultError, match="no such bucket"):
        objects.look_into_bucket()
    assert objects.make_bucket() is True
    assert objects.make_bucket() is False
    objects.look_into_bucket()
    assert list(objects.iter()) == []


def test_the_environment_gives_no_other_key(machine, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-operator")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-operator")
    make_client.cache_clear()
    put(machine("web"))
    make_client.cache_clear()
