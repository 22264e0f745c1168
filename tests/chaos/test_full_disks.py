"""A disk that is really full, in each folder that the site writes to: jobs wait, requests are told of it."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.models import Composition
from composer.run import runner
from composer.run.runner import composition_run
from hub_site.jobs.children import Launcher
from hub_site.jobs.models import CRASHES_MAX, Status
from tests.composer.test_runner import fake_jobs  # noqa: F401  fixture
from tests.factories import config_file, named, weights_file

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("wakes")]

SIZE = "4m"  # of the small disk; a module of the upload below is larger than what is left
LARGE = 3_000_000  # bytes of an upload that Django does not keep in memory
TOLD = [(507, "disk_full"), (507, "storage_full")]
ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A small file system in the folder's place, with what was in the folder; `fill` fills it."""
    with tempfile.TemporaryDirectory() as aside:
        shutil.copytree(folder, aside, dirs_exist_ok=True)
        mount(folder)
        shutil.copytree(aside, folder, dirs_exist_ok=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def mount(folder: Path) -> None:
    """Raises pytest's skip, or failure in CI under root, where no file system can be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        message = f"NOT TESTED: a full disk in {folder.name}: no small disk can be mounted: {mounted.stderr}"
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail(message)
        warnings.warn(message, stacklevel=2)
        pytest.skip(message)


def fill(folder: Path) -> Path:
    """Write one file until nothing more fits; remove it to make space."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def with_fake_jobs(fake_jobs, monkeypatch, settings):  # noqa: F811
    settings.HUB_COMPOSE_MEMORY_MB = 512
    settings.HUB_DISK_SPARE_MB = 0  # so that nothing is refused before the disk is full
    monkeypatch.setattr(runner, "launcher", lambda: fake_jobs)


def run(composition: Composition) -> Composition:
    Composition.objects.filter(pk=composition.pk).update(due_at=composition.created_at)
    composition_run(composition.pk)
    composition.refresh_from_db()
    return composition


@pytest.mark.parametrize("name", ["jobs", "blobs"])
def test_a_job_waits_while_the_disk_is_full_and_then_ends_well(ask, data_folder, name, record):
    with small_disk(data_folder / name) as folder:
        composition = ask()
        before = {*files_under(folder), filler := fill(folder)}
        for _ in range(CRASHES_MAX + 1):
            composition = run(composition)
            assert (composition.status, composition.crashes) == (Status.QUEUED, 0)
            assert "full" in composition.put_off_reason
        assert set(files_under(folder)) == before
        filler.unlink()
        assert run(composition).status == Status.DONE
    record(folder=name, attempts_while_full=CRASHES_MAX + 1, failed=0)


def test_a_launcher_s_ready_file_that_cannot_be_written_stops_no_job(ask, data_folder, monkeypatch, record):
    with small_disk(data_folder / "run") as folder:
        fill(folder)
        launcher = Launcher(
            preload="tests.composer.fake_jobs", call="tests.composer.fake_jobs:run", root=ROOT,
            threads=1, ready=folder / "launcher.ready",
        )  # fmt: skip
        monkeypatch.setattr(runner, "launcher", lambda: launcher)
        assert run(ask()).status == Status.DONE
        launcher.stop()
    record(folder="run", failed=0)


@pytest.mark.parametrize("name", ["uploads", "blobs"])
def test_an_upload_is_told_that_the_disk_is_full_and_leaves_nothing(
    api_of, alice, base, data_folder, name, record
):
    files = {"config_file": config_file(), "weights_file": weights_file()}
    if name == "uploads":  # where Django keeps what it takes in before anything looks at it
        files["weights_file"] = named(bytes(LARGE), "adapter_model.safetensors")
    body = {"namespace": "alice", "name": "french", "sentence": "One.", "licence": "mit", **files}
    with small_disk(data_folder / name) as folder:
        before = {*files_under(folder), fill(folder)}
        told = api_of(alice).post("/api/v1/modules", body, format="multipart")
        assert (told.status_code, told.json()["error"]["code"]) in TOLD
        assert int(told.headers["Retry-After"]) > 0
        assert set(files_under(folder)) == before
    assert not alice.namespace.modules.exists()
    record(folder=name, status=507, files_left=0)
