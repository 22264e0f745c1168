"""The store and the rows are kept in step: every missing, altered or left-over file is found."""

import hashlib
import io
import os
import shutil
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.management import CommandError, call_command

from composer.core.spec.examples import Example
from composer.models import Composition
from composer.request.services import composition_request
from modules_registry import maintenance
from modules_registry.blobs import store
from modules_registry.core.errors import WEIGHTS_FILE
from modules_registry.models import Module, Version
from modules_registry.services import module_delete


def weights_path(module: Module, data_folder: Path) -> Path:
    (path,) = (data_folder / "blobs").rglob(module.current.weights_sha256)
    return path


def said(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_store_in_order_is_said_to_be(french, capsys):
    call_command("verify_storage")
    assert said(capsys) == ["Every stored file is as it should be."]


def test_a_missing_file_is_named_by_what_it_belongs_to(french, data_folder, capsys):
    weights_path(french, data_folder).unlink()
    with pytest.raises(CommandError, match="Findings left: 1") as error:
        call_command("verify_storage")
    assert error.value.returncode == 1
    (line,) = said(capsys)
    sha256 = french.current.weights_sha256
    assert line == f"missing: {WEIGHTS_FILE} of alice/french (v1) is missing: {sha256}."


def test_a_missing_file_of_the_base_is_found_too(base, data_folder, capsys):
    file = base.files.get(path="model.safetensors")
    store().delete(file.sha256)
    with pytest.raises(CommandError):
        call_command("verify_storage")
    assert "model.safetensors of tests/tiny is missing" in capsys.readouterr().out


def test_an_altered_file_is_found_and_stays_as_evidence(french, data_folder, capsys):
    path = weights_path(french, data_folder)
    path.chmod(0o600)
    path.write_bytes(b"altered")
    with pytest.raises(CommandError):
        call_command("verify_storage", "--repair")
    assert said(capsys) == [f"altered: {WEIGHTS_FILE} of alice/french (v1) has other bytes than were stored."]
    assert path.read_bytes() == b"altered"


def test_a_file_that_belongs_to_nothing_is_found_and_removed_when_asked(french, stored, capsys):
    orphan = store().put(io.BytesIO(b"nobody's"), max_bytes=100).sha256
    with pytest.raises(CommandError):
        call_command("verify_storage")
    assert orphan in stored()
    call_command("verify_storage", "--repair")
    assert orphan not in stored()
    assert said(capsys)[-2:] == [
        f"orphaned: {orphan} belongs to nothing. Put right.",
        "Every stored file is as it should be.",
    ]
    assert french.current.weights_sha256 in stored()


def test_a_sweep_removes_what_nothing_names_and_only_that(french, stored):
    before = stored()
    store().put(io.BytesIO(b"nobody's"), max_bytes=100)
    maintenance.sweep_files()
    assert stored() == before


def test_versions_kept_for_a_composition_go_once_it_is_gone(alice, bob, french, stored):
    composition_request(
        owner=bob,
        name="Fruit",
        base=french.current.base.name,
        method="exact",
        budget=30,
        seed=7,
        examples=[Example("apple", "APPLE"), Example("pear", "PEAR"), Example("plum", "PLUM")],
    )
    weights = french.current.weights_sha256
    module_delete(editor=alice, module=french)
    maintenance.sweep_files()
    assert weights in stored()
    assert Version.objects.filter(module=french).exists()
    Composition.objects.all().delete()
    maintenance.sweep_files()
    assert weights not in stored()
    assert not Version.objects.filter(module=french).exists()


def test_uploads_are_spooled_under_the_data_folder(data_folder):
    file = TemporaryUploadedFile("weights", "application/octet-stream", 1, None)
    assert Path(file.temporary_file_path()).parent == data_folder / "uploads"
    file.close()


def test_the_spool_is_there_as_soon_as_the_settings_are_read():
    from hub_site.settings import base

    assert base.FILE_UPLOAD_TEMP_DIR == base.HUB_DATA / "uploads"
    assert base.FILE_UPLOAD_TEMP_DIR.is_dir()


def test_spooled_uploads_of_killed_processes_are_swept_and_running_ones_stay(db):
    left = Path(django_settings.FILE_UPLOAD_TEMP_DIR, "left.upload")
    running = left.with_name("running.upload")
    for path in (left, running):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    maintenance.sweep_machine()
    assert (left.exists(), running.exists()) == (False, True)


def test_more_hashes_than_fit_one_query_are_all_asked_for(french, monkeypatch):
    monkeypatch.setattr(maintenance, "AT_ONCE", 2)
    orphans = {store().put(io.BytesIO(bytes([number])), max_bytes=1).sha256 for number in range(5)}
    assert set(maintenance.orphans(store())) == orphans
    assert hashlib.sha256(b"\x00").hexdigest() in orphans


def test_a_store_that_was_emptied_is_told_file_by_file(french, data_folder, capsys):
    shutil.rmtree(data_folder / "blobs")
    (data_folder / "blobs").mkdir()
    with pytest.raises(CommandError):
        call_command("verify_storage")
    assert len(said(capsys)) == french.current.files.count() + french.current.base.files.count()
