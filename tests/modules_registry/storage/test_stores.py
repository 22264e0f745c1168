"""Every promise of the store, kept by the one on disk, in front of a Hub, and in an object storage."""

import errno
import hashlib
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modules_registry.storage import (
    AlteredBlobError,
    Blob,
    MissingBlobError,
    StorageFaultError,
    StorageFullError,
    Store,
    TooLargeError,
    make_store,
)
from modules_registry.storage import disk as disk_module
from modules_registry.storage.disk import DiskStore
from modules_registry.storage.remote import RemoteStore

CONTENT = b"lora" * 700_000  # 2.8 MB: three pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ABSENT = hashlib.sha256(b"never stored").hexdigest()


def put(store: Store, content: bytes = CONTENT) -> Blob:
    return store.put(io.BytesIO(content), max_bytes=len(content))


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def alter(folder: Path, sha256: str) -> None:
    (path,) = folder.rglob(sha256)
    path.chmod(0o600)
    path.write_bytes(b"other bytes")


class Interrupted:
    """A stream that gives some bytes, and then its client is gone."""

    def __init__(self, error: BaseException) -> None:
        self.pieces: Iterator[bytes] = iter([b"first piece"])
        self.error = error

    def read(self, count: int, /) -> bytes:
        for piece in self.pieces:
            return piece
        raise self.error


def test_what_was_put_is_read_back_by_its_sha256(store):
    assert put(store) == Blob(SHA256, len(CONTENT))
    with store.open(SHA256) as file:
        assert file.read() == CONTENT


def test_an_empty_file_is_a_file(store):
    assert put(store, b"").size_bytes == 0
    with store.open(hashlib.sha256(b"").hexdigest()) as file:
        assert file.read() == b""


def test_the_same_bytes_again_change_nothing(store, folder):
    assert put(store) == put(store)
    assert len(files_in(folder)) == 1


def test_two_threads_putting_the_same_bytes_leave_one_whole_file(store, folder):
    together = threading.Barrier(2)
    blobs: list[Blob] = []

    def put_together() -> None:
        together.wait()
        blobs.append(put(store))

    threads = [threading.Thread(target=put_together) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs == [Blob(SHA256, len(CONTENT))] * 2
    assert len(files_in(folder)) == 1
    assert list(store.verify()) == []


def test_a_stream_beyond_the_limit_is_refused_and_leaves_nothing(store, folder):
    with pytest.raises(TooLargeError, match=r"larger than 2\.8 MB") as refusal:
        store.put(io.BytesIO(CONTENT), max_bytes=len(CONTENT) - 1)
    assert refusal.value.code == "file_too_large"
    assert files_in(folder) == []


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), KeyboardInterrupt(), ValueError("bad part")])
def test_an_interrupted_put_leaves_nothing_and_keeps_its_reason(store, folder, error):
    with pytest.raises(type(error)) as raised:
        store.put(Interrupted(error), max_bytes=1000)
    assert raised.value is error
    assert files_in(folder) == []


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_leaves_nothing(store, folder, monkeypatch, call, number):
    def full(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(disk_module.os, call, full)
    with pytest.raises(StorageFullError, match="disk is full") as refusal:
        put(store)
    assert refusal.value.code == "disk_full"
    assert files_in(folder) == []


def test_a_disk_that_fills_while_writing_leaves_nothing(store, folder, monkeypatch):
    write, written = os.write, []

    def fills_up(descriptor: int, data: memoryview) -> int:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(write(descriptor, data[:1000]))  # a short write, as a nearly full disk makes
        return written[0]

    monkeypatch.setattr(disk_module.os, "write", fills_up)
    with pytest.raises(StorageFullError):
        put(store)
    assert files_in(folder) == []


def test_short_writes_are_continued(store, monkeypatch):
    write = os.write
    monkeypatch.setattr(disk_module.os, "write", lambda to, data: write(to, data[:100_003]))
    put(store)
    with store.open(SHA256) as file:
        assert file.read() == CONTENT


def test_another_failure_of_the_disk_is_told_with_its_reason(store, monkeypatch):
    def broken(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk_module.os, "write", broken)
    with pytest.raises(StorageFaultError, match="Input/output error") as refusal:
        put(store)
    assert refusal.value.code == "machine_fault"


READS = {
    "open": lambda store, folder: store.open(SHA256),
    "check": lambda store, folder: store.fetch(SHA256, folder / "copy", check=True),
    "exists": lambda store, folder: store.exists(SHA256),
}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENOTCONN, errno.EIO])
@pytest.mark.parametrize("read", READS)
def test_a_stored_file_that_cannot_be_read_is_a_fault_of_the_machine(
    store_here, tmp_path, monkeypatch, number, read
):
    put(store_here)

    def broken(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "stat" if read == "exists" else "open", broken)
    monkeypatch.setattr(disk_module, "_checked", {})
    with pytest.raises(StorageFaultError, match=os.strerror(number)) as fault:
        READS[read](store_here, tmp_path)
    assert fault.value.code == "machine_fault"


def test_nothing_is_visible_before_it_is_whole(store):
    class Watching(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            assert not store.exists(SHA256)
            assert list(store.iter()) == []
            return super().read(count)

    store.put(Watching(CONTENT), max_bytes=len(CONTENT))
    assert store.exists(SHA256)


def test_putting_the_bytes_again_heals_an_altered_file(store_here, folder):
    put(store_here)
    alter(folder, SHA256)
    assert list(store_here.verify()) == [SHA256]
    put(store_here)
    assert list(store_here.verify()) == []


def test_a_fetched_file_shares_its_bytes_with_the_store(store, folder, tmp_path):
    put(store)
    store.fetch(SHA256, tmp_path / "weights")
    (stored,) = folder.rglob(SHA256)
    assert (tmp_path / "weights").samefile(stored)
    assert stored.stat().st_mode & 0o222 == 0


def test_a_fetch_across_file_systems_copies(store, tmp_path, monkeypatch):
    def other_device(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    put(store)
    monkeypatch.setattr(Path, "hardlink_to", other_device)
    store.fetch(SHA256, tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == CONTENT


def test_a_copy_that_fails_leaves_no_half_a_file(store, tmp_path, monkeypatch):
    def fails(*arguments: object) -> None:
        (tmp_path / "weights").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    put(store)
    monkeypatch.setattr(Path, "hardlink_to", fails)
    monkeypatch.setattr(disk_module.shutil, "copyfile", fails)
    with pytest.raises(StorageFullError):
        store.fetch(SHA256, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_a_fetch_replaces_what_is_there(store, tmp_path):
    put(store)
    (tmp_path / "weights").write_bytes(b"old")
    store.fetch(SHA256, tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == CONTENT


def test_a_checked_fetch_refuses_altered_bytes(store_here, folder, tmp_path):
    put(store_here)
    alter(folder, SHA256)
    with pytest.raises(AlteredBlobError, match="verify_storage") as refusal:
        store_here.fetch(SHA256, tmp_path / "weights", check=True)
    assert (refusal.value.code, refusal.value.sha256) == ("file_altered", SHA256)
    assert not (tmp_path / "weights").exists()


def test_a_checked_fetch_gives_whole_bytes(store, tmp_path):
    put(store)
    store.fetch(SHA256, tmp_path / "weights", check=True)
    assert (tmp_path / "weights").read_bytes() == CONTENT


def test_what_is_not_stored_is_missing(store, tmp_path):
    assert not store.exists(ABSENT)
    with pytest.raises(MissingBlobError) as refusal:
        store.open(ABSENT)
    assert (refusal.value.code, refusal.value.sha256) == ("file_missing", ABSENT)
    with pytest.raises(MissingBlobError):
        store.fetch(ABSENT, tmp_path / "weights")


def test_a_deleted_file_is_gone_but_its_fetched_copy_stays(store, tmp_path):
    put(store)
    store.fetch(SHA256, tmp_path / "weights")
    store.delete(SHA256)
    assert not store.exists(SHA256)
    store.delete(SHA256)  # once more does no harm
    assert (tmp_path / "weights").read_bytes() == CONTENT


def test_foreign_files_in_the_folder_are_not_listed(store, folder):
    put(store)
    (folder / SHA256[:2] / SHA256[2:4] / "notes.txt").write_text("mine")
    assert list(store.iter()) == [Blob(SHA256, len(CONTENT))]


def test_a_sweep_removes_what_a_killed_process_left_and_nothing_young(store, folder):
    put(store)
    left, running = folder / "unfinished" / "left", folder / "unfinished" / "running"
    left.write_bytes(b"half")
    running.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert store.sweep(older_than_s=3600) == 1
    assert running.exists()
    assert not left.exists()
    assert store.exists(SHA256)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "", SHA256.upper(), SHA256 + "\n", SHA256[:-1], "x" * 64]
)
@pytest.mark.parametrize("method", ["open", "exists", "delete"])
def test_only_a_sha256_becomes_a_path(store, method, name):
    with pytest.raises(ValueError, match="Not a sha256"):
        getattr(store, method)(name)


def test_what_is_nowhere_else_cannot_be_restored(store):
    with pytest.raises(MissingBlobError):
        store.restore(ABSENT)


def test_the_settings_name_the_store(settings_of, places):
    assert type(make_store(settings_of["disk"], places.get)) is DiskStore
    assert type(make_store(settings_of["hub"], places.get)) is RemoteStore
    with pytest.raises(ValueError, match=r"No store is called 'tape'\. Known: disk, hub, s3"):
        make_store(replace(settings_of["disk"], kind="tape"), places.get)


def test_the_token_is_not_printed_with_the_settings(settings_of):
    assert "hf_secret" not in repr(settings_of["hub"])


@pytest.mark.parametrize("change", ["overwrite", "truncate", "replace"])
def test_a_checked_file_is_read_once_until_it_changes(store_here, folder, tmp_path, change):
    put(store_here)
    pieces: list[None] = []
    for _ in range(2):
        store_here.fetch(SHA256, tmp_path / "weights", check=True, on_piece=lambda: pieces.append(None))
    assert len(pieces) == 3
    (stored,) = folder.rglob(SHA256)
    if change == "replace":
        stored.unlink()
        stored.write_bytes(CONTENT[::-1])
    else:
        stored.chmod(0o600)
        with stored.open("r+b") as file:
            file.write(b"other") if change == "overwrite" else file.truncate(1000)
    with pytest.raises(AlteredBlobError):
        store_here.fetch(SHA256, tmp_path / "weights", check=True)
    put(store_here)
    store_here.fetch(SHA256, tmp_path / "weights", check=True)
