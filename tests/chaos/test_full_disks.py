"""A disk that is really full, in each folder that the site writes to: jobs wait, requests are told of it."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from composer.models import Composition
from composer.run import runner
from composer.run.mail import mails_due, send_notification_mail
from composer.run.runner import composition_run
from hub_site.common.disk import LARGE_FOLDERS, is_disk_low
from hub_site.embedded import supervisor
from hub_site.embedded.folders import DataFolder
from hub_site.embedded.postgres import Postgres
from hub_site.embedded.processes import wait_for
from hub_site.embedded.supervisor import QUICK_DEATHS_MAX, Supervisor
from hub_site.jobs.children import Launcher
from hub_site.jobs.models import CRASHES_MAX, Status
from tests.composer.test_runner import fake_jobs  # noqa: F401  fixture
from tests.factories import config_file, named, weights_file
from tests.served_site import ServedSite

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("wakes")]

SIZE = "4m"  # of the small disk; a module of the upload below is larger than what is left
DATABASE_SIZE = "160m"  # a new Postgres has 40 MB
LARGE = 3_000_000  # bytes of an upload that Django does not keep in memory
TOLD = (507, "disk_full")
ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def small_disk(folder: Path, size: str = SIZE) -> Iterator[Path]:
    """A small file system in the folder's place, with what was in the folder; `fill` fills it."""
    with tempfile.TemporaryDirectory() as aside:
        shutil.copytree(folder, aside, dirs_exist_ok=True)
        mount(folder, size)
        shutil.copytree(aside, folder, dirs_exist_ok=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def mount(folder: Path, size: str) -> None:
    """Raises pytest's skip, or failure in CI under root, where no file system can be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
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


@pytest.fixture
def database_folder() -> Iterator[DataFolder]:
    """A data folder that the database's account can enter, as pytest's own cannot be."""
    with tempfile.TemporaryDirectory(prefix="lora-hub-full-") as name:
        folder = DataFolder(Path(name))
        folder.root.chmod(0o711)
        yield folder


def test_a_database_whose_disk_is_full_loses_nothing_and_gets_up_when_there_is_space(
    database_folder, monkeypatch, record
):
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0, 0.0, 0.0))
    with small_disk(database_folder.root, DATABASE_SIZE) as folder:
        database_folder.make()
        postgres = Postgres.under(folder / "postgres")
        postgres.make_cluster()
        keeper = Supervisor(database_folder, host="127.0.0.1", port=1)
        try:
            keeper.bring_up([postgres.part()])
            with postgres.connect("postgres") as connection:
                connection.execute("CREATE TABLE kept (line text)")
                connection.execute("INSERT INTO kept VALUES ('before')")
                filler = fill(folder)
                with pytest.raises(psycopg.errors.DiskFull):
                    connection.execute(
                        "INSERT INTO kept SELECT repeat('x', 900) FROM generate_series(1, 9999)"
                    )
                with pytest.raises(psycopg.OperationalError):
                    write_ahead_for_ever(connection)
            started = {keeper.record.parts["postgres"][0].pid}

            def is_started_often() -> bool:
                keeper.tick()
                started.add(keeper.record.parts["postgres"][0].pid)
                return len(started) > 2 * QUICK_DEATHS_MAX

            assert wait_for(is_started_often, timeout_s=60)
            filler.unlink()
            assert wait_for(lambda: keeper.tick() or postgres.answers(), timeout_s=60)
            with postgres.connect("postgres") as connection:
                assert connection.execute("SELECT line FROM kept").fetchall() == [("before",)]
        finally:
            keeper.stop_everything()
    record(folder="postgres", starts_while_full=len(started), lost=0)


def write_ahead_for_ever(connection: psycopg.Connection) -> None:
    """Until the database has no space for what it would do, and ends itself."""
    while True:
        connection.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))")


def test_a_full_disk_under_the_logs_costs_no_request(transactional_db, tmp_path, record):
    logs = tmp_path / "logs"
    logs.mkdir()
    with small_disk(logs) as folder:
        site = ServedSite(tmp_path / "site")
        site.log = folder / "web.log"
        site.start()
        try:
            before = asked(site)
            filler = fill(folder)
            while_full = [asked(site) for _ in range(50)]  # more lines than any buffer holds
            filler.unlink()
            assert [*while_full, asked(site)] == [before] * 51
        finally:
            site.stop()
        assert "/nobody/nothing" in site.log.read_text(encoding="utf-8", errors="replace")
    record(folder="logs", requests=len(while_full) * len(before), failed=0)


def asked(site: ServedSite) -> list[int]:
    """The status of a page, and of one that is not there, which the log tells of."""
    statuses = []
    for path in ("/modules/", "/nobody/nothing", "/api/v1/modules"):
        try:
            with urllib.request.urlopen(site.address + path, timeout=30) as answer:
                statuses.append(answer.status)
        except urllib.error.HTTPError as error:
            statuses.append(error.code)
    return statuses


@pytest.mark.parametrize("name", LARGE_FOLDERS)
def test_a_folder_s_own_disk_is_watched_too(data_folder, settings, name):
    (data_folder / name).mkdir(exist_ok=True)
    settings.HUB_DISK_SPARE_MB = 5  # more than the small disk has
    assert not is_disk_low()
    with small_disk(data_folder / name):
        assert is_disk_low()


def test_a_mail_that_finds_the_disk_full_is_sent_once_there_is_space(
    done, data_folder, alice, settings, record
):
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = data_folder / "mail"
    settings.EMAIL_FILE_PATH.mkdir(exist_ok=True)
    alice.email = "alice@example.org"
    alice.save()
    composition = done()
    type(composition).objects.filter(pk=composition.pk).update(mail_when_done=True)
    with small_disk(settings.EMAIL_FILE_PATH) as folder:
        filler = fill(folder)
        with pytest.raises(OSError, match="No space left"):
            send_notification_mail(composition.pk)
        assert mails_due() == [composition.pk]
        filler.unlink()
        send_notification_mail(composition.pk)
        assert mails_due() == []
        assert sum("To: alice@example.org" in file.read_text() for file in files_under(folder)) == 1
    record(folder="mail", lost=0)


def test_a_question_waits_while_the_disk_is_full_and_then_is_answered(
    data_folder, ask_it, queued_ids, run_it, record
):
    (data_folder / "residents").mkdir(exist_ok=True)
    with small_disk(data_folder / "residents") as folder:
        tryout, filler = ask_it(), fill(folder)
        for _ in range(3):
            assert run_it(tryout).status == Status.QUEUED
        filler.unlink()
        assert run_it(tryout).status == Status.DONE
    record(folder="residents", attempts_while_full=3, failed=0)


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
        assert (told.status_code, told.json()["error"]["code"]) == TOLD
        assert int(told.headers["Retry-After"]) > 0
        assert set(files_under(folder)) == before
    assert not alice.namespace.modules.exists()
    record(folder=name, status=507, files_left=0)
