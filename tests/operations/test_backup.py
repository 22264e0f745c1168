"""A backup is the site at one moment, whole or not there; what is damaged is never restored."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import asdict

import psycopg
import pytest
from django.conf import settings as site_settings
from django.core.management import CommandError, call_command
from django.db import connection

from composer.run import runner
from hub_site.common.errors import Refusal
from hub_site.operations import archive
from hub_site.operations.archive import (
    AlteredError,
    Manifest,
    blob_name,
    manifest_text,
    opened_archive,
    written_archive,
)
from hub_site.operations.backup import files_kept, site_backup
from hub_site.operations.restore import restore_files, site_restore
from modules_registry.blobs import BACKUP_LOCK, store
from modules_registry.maintenance import sweep_files
from modules_registry.models import Module
from modules_registry.services import module_delete
from modules_registry.storage.object_client import ObjectClient
from tests.composer.conftest import base, modules, no_flushing, wakes  # noqa: F401
from tests.composer.test_resuming import ask, core, run, with_core  # noqa: F401  fixtures
from tests.object_storage import object_storage  # noqa: F401  a fixture
from tests.second_site import empty_database

CONTENT = b"the bytes of a stored file"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
DUMP = b"what pg_dump wrote"


def write(path, *, manifest=True, blobs=((SHA256, CONTENT),)):
    """A small archive; its dump is none."""
    dump = path.with_name("dump")
    dump.write_bytes(DUMP)
    with written_archive(path) as writer:
        sha256 = writer.add_database(dump)
        writer.add_text(archive.SECRETS, "HUB_SECRET_KEY=k\n")
        for name, content in blobs:
            writer.add_blob(name, len(content), io.BytesIO(content))
        told = Manifest("2026-12-02T04:00", ["a.0001"], {"t": 1}, sha256, writer.n_files, writer.n_bytes)
        if manifest:
            writer.add_text(archive.MANIFEST, manifest_text(told))


def test_what_was_written_is_read(tmp_path):
    write(tmp_path / "site.tar")
    with opened_archive(tmp_path / "site.tar") as found:
        assert (found.manifest.n_files, found.manifest.n_bytes) == (1, len(CONTENT))
        assert found.open(blob_name(SHA256)).read() == CONTENT
        assert found.open(archive.DATABASE).read() == DUMP
    assert (tmp_path / "site.tar").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("stored", [b"other bytes of equal size!", b"shorter", CONTENT + b", and more"])
def test_a_file_with_other_bytes_is_left_out_and_the_next_one_follows(tmp_path, stored):
    dump = tmp_path / "dump"
    dump.write_bytes(DUMP)
    with written_archive(tmp_path / "site.tar") as writer:
        writer.add_database(dump)
        if stored.startswith(CONTENT):  # only as much as the row says is read
            writer.add_blob(SHA256, len(CONTENT), io.BytesIO(stored))
        else:
            with pytest.raises(AlteredError):
                writer.add_blob(SHA256, len(CONTENT), io.BytesIO(stored))
            writer.add_blob(SHA256, len(CONTENT), io.BytesIO(CONTENT))
    with tarfile.open(tmp_path / "site.tar") as tar:
        assert tar.getnames() == [archive.DATABASE, blob_name(SHA256)]
        assert tar.extractfile(blob_name(SHA256)).read() == CONTENT


def test_a_backup_overwrites_no_file_and_leaves_none_that_is_half_made(tmp_path):
    write(tmp_path / "site.tar")
    before = (tmp_path / "site.tar").read_bytes()
    with pytest.raises(Refusal, match="is there already"):
        write(tmp_path / "site.tar")
    assert (tmp_path / "site.tar").read_bytes() == before
    with pytest.raises(KeyboardInterrupt), written_archive(tmp_path / "other.tar"):
        raise KeyboardInterrupt
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"dump", "site.tar"}


def cut(path):
    os.truncate(path, path.read_bytes().index(CONTENT) + 3)


def change_a_byte(path):
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"stored file", b"altered one"))


def add_a_stranger(path):
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("../../etc/passwd"))


def add_a_link(path):
    link = tarfile.TarInfo(blob_name("0" * 64))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(path, "a") as tar:
        tar.addfile(link)


def say_it_is_of_another_format(path):
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 2'))


@pytest.mark.parametrize(
    "damage", [cut, change_a_byte, add_a_stranger, add_a_link, say_it_is_of_another_format]
)
def test_what_is_damaged_is_refused_before_anything_is_restored(tmp_path, damage):
    write(tmp_path / "site.tar")
    damage(tmp_path / "site.tar")
    with pytest.raises(Refusal), opened_archive(tmp_path / "site.tar"):
        pass


def test_an_archive_without_its_end_is_not_taken_for_a_small_one(tmp_path):
    write(tmp_path / "site.tar", manifest=False)
    with pytest.raises(Refusal, match="broken off"), opened_archive(tmp_path / "site.tar"):
        pass


def test_a_restore_overwrites_nothing(db, tmp_path):
    write(tmp_path / "site.tar")
    with pytest.raises(Refusal, match="holds a site already"):
        site_restore(tmp_path / "site.tar")
    assert not store().exists(SHA256)


@pytest.mark.slow  # it starts an object storage
def test_a_restore_makes_the_bucket_that_is_not_there(object_storage, settings, tmp_path):  # noqa: F811
    write(tmp_path / "site.tar")
    described = asdict(object_storage.settings("made-by-a-restore"))
    settings.HUB_STORE, settings.HUB_STORE_OBJECTS = "s3", described
    settings.HUB_DATA = tmp_path / "data"
    with opened_archive(tmp_path / "site.tar") as found:
        restore_files(found)
    assert ObjectClient(object_storage.settings("made-by-a-restore")).size_of(SHA256) == len(CONTENT)


# --- with the tools of Postgres -------------------------------------------------


@pytest.fixture
def another_session(transactional_db):
    """A connection to the same database, as of another process."""
    parameters = connection.get_connection_params() | {"cursor_factory": None, "autocommit": True}
    with psycopg.connect(**parameters) as other:
        yield other


@pytest.mark.slow
def test_a_file_that_is_deleted_while_a_backup_is_made_stays_until_the_next_sweep(
    another_session,
    bob,
    modules,  # noqa: F811
):
    module = Module.objects.get(name="upper")
    sha256 = module.current.weights_sha256
    another_session.execute("SELECT pg_advisory_lock(%s)", [BACKUP_LOCK])
    module_delete(editor=bob, module=module)
    assert store().exists(sha256)
    another_session.execute("SELECT pg_advisory_unlock(%s)", [BACKUP_LOCK])
    sweep_files()
    assert not store().exists(sha256)


@pytest.mark.slow
def test_of_two_backups_at_once_the_second_is_refused(another_session, monkeypatch):
    monkeypatch.setattr("hub_site.operations.backup.LOCK_WAIT_S", 1)
    another_session.execute("SELECT pg_advisory_lock(%s)", [BACKUP_LOCK])
    with pytest.raises(Refusal, match="Another backup"), files_kept():
        pass


@pytest.mark.slow
def test_a_missing_file_is_told_and_the_rest_is_in_the_backup(
    transactional_db,
    modules,  # noqa: F811
    tmp_path,
):
    sha256 = Module.objects.get(name="upper").current.weights_sha256
    store().delete(sha256)
    with pytest.raises(CommandError, match="and left out: 1"):
        call_command("backup", str(tmp_path / "site.tar"))
    with opened_archive(tmp_path / "site.tar") as found:
        assert found.manifest.lacking == [sha256]
        assert found.manifest.n_files > 1


UNTOUCHED = ("accounts_user", "modules_registry_version", "modules_registry_versionfile", "composer_example")
DIGEST = "SELECT md5(string_agg(row::text, '|' ORDER BY row::text)) FROM {} AS row"
GO_ON = """
import django, json, sys; django.setup()
from pathlib import Path
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from composer.models import Composition
from composer.run import runner
from hub_site.jobs.children import Launcher
root, pk, tables, digest = json.loads(sys.argv[1])
digests = {}
for table in tables:
    with connection.cursor() as cursor:
        cursor.execute(digest.format(table))
        digests[table] = cursor.fetchone()[0]
caught = Composition.objects.get(pk=pk)
Composition.objects.filter(pk=pk).update(lease_until=Now())
core = Launcher(preload="composer.run.child", call="composer.run.child:run", root=Path(root), threads=1)
runner.launcher = lambda: core
runner.sweep()
runner.composition_run(caught.pk)
core.stop()
done = Composition.objects.get(pk=pk)
print(json.dumps({
    "caught": [caught.status, caught.steps_done], "done": done.status,
    "steps": list(done.events.filter(kind="step").values_list("detail__step", flat=True)),
    "sha256": done.files.get(path="adapter_model.safetensors").sha256, "digests": digests,
}))
call_command("verify_storage")
"""


@pytest.mark.slow
def test_drill_a_site_with_a_job_in_the_middle_is_backed_up_restored_and_the_job_ends_in_the_same_bytes(
    transactional_db,
    ask,  # noqa: F811
    wakes,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    backup, digests, store_events = tmp_path / "site.tar", {}, runner.store_events

    def back_up_in_the_middle(composition, events):
        store_events(composition, events)
        if not backup.exists() and any(event["event"] == "step" for event in events):
            site_backup(backup)
            digests.update({table: digest_of(table) for table in UNTOUCHED})

    monkeypatch.setattr(runner, "store_events", back_up_in_the_middle)
    monkeypatch.setattr(runner, "TICK_S", 0.005)
    composition = run(ask())
    expected = composition.files.get(path="adapter_model.safetensors").sha256
    n_steps = composition.events.filter(kind="step").count()
    with empty_database("restored_drill") as address:
        environment = {**os.environ, "DATABASE_URL": address, "HUB_DATA": str(tmp_path / "restored"),
                       "DJANGO_SETTINGS_MODULE": "hub_site.settings.test"}  # fmt: skip
        restored = call(environment, "manage.py", "restore", str(backup))
        assert "The site of" in restored
        told, *checked = call(
            environment, "-c", GO_ON,
            json.dumps([str(site_settings.BASE_DIR), str(composition.pk), UNTOUCHED, DIGEST]),
        ).splitlines()  # fmt: skip
    found = json.loads(told)
    status, steps_done = found["caught"]
    assert status == "running"
    assert 0 < steps_done < n_steps
    assert (found["done"], found["sha256"]) == ("done", expected)
    assert found["steps"] == list(range(1, n_steps + 1))
    assert found["digests"] == digests
    assert checked == ["Every stored file is as it should be."]


def digest_of(table):
    with connection.cursor() as cursor:
        cursor.execute(DIGEST.format(table))
        return cursor.fetchone()[0]


def call(environment, *words):
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=site_settings.BASE_DIR, capture_output=True, text=True,
        check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
