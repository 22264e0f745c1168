"""The doctor says what works and what does not, whatever it meets, and changes nothing."""

import resource

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from composer.models import Composition
from hub_site.common.secret_key_mark import leave_mark
from hub_site.jobs.models import Worker
from hub_site.operations import doctor
from modules_registry.blobs import store
from modules_registry.models import VersionFile
from tests.composer.conftest import ask, base, modules, no_flushing, wakes  # noqa: F401


@pytest.fixture
def said(db, capsys):
    """The lines of the command, and whether something was wrong."""

    def run():
        try:
            call_command("doctor")
        except CommandError:
            return capsys.readouterr().out, True
        return capsys.readouterr().out, False

    return run


@pytest.fixture
def all_workers(db):
    for queue in doctor.SERVED:
        Worker.objects.create(name=queue, queue=queue, slots=2, memory_mb=0, has_cuda=False)


def test_of_a_site_that_is_well_nothing_is_wrong(said, all_workers, data_folder):
    lines, is_wrong = said()
    assert not is_wrong, lines
    for told in (
        "cores",
        "memory",
        "Postgres",
        "connections are used",
        "schema is that",
        "The broker answers",
    ):
        assert told in lines
    for told in ("clock is that", "The store keeps a file", "MB are free", "sandbox", "No job waits"):
        assert told in lines
    assert [path for path in (data_folder / "blobs").rglob("*") if path.is_file()] == []


def test_a_site_without_workers_says_which_are_missing(said):
    lines, is_wrong = said()
    assert is_wrong
    for who in ("worker of the queue compose", "worker of the queue default", "scheduler"):
        assert f"No {who} is alive." in lines


def test_a_job_that_waits_for_long_is_told(said, all_workers, ask, wakes):  # noqa: F811
    ask()
    Composition.objects.update(due_at="2026-01-01T00:00:00Z")
    lines, is_wrong = said()
    assert "the oldest has waited for about" in lines
    assert not is_wrong  # it works, with too few workers


def test_a_disk_without_space_is_wrong(said, all_workers, settings):
    settings.HUB_DISK_SPARE_MB = 10**12
    lines, is_wrong = said()
    assert is_wrong
    assert "HUB_DISK_SPARE_MB" in lines


def test_another_bucket_or_folder_than_that_of_the_site_is_told(
    said,
    all_workers,
    modules,  # noqa: F811
    settings,
    tmp_path,
):
    assert "The store has the files that the database names." in said()[0]
    settings.HUB_DATA = tmp_path
    lines, is_wrong = said()
    assert is_wrong
    assert "none of the files that the database names. Is it the right folder (HUB_DATA)?" in lines


def test_a_single_missing_file_is_told_by_its_name(said, all_workers, modules):  # noqa: F811
    newest = VersionFile.objects.latest("pk").sha256
    store().delete(newest)
    assert f"lacks files that the database names, as {newest}" in said()[0]


def test_another_secret_key_than_that_of_the_site_is_wrong(said, all_workers, settings):
    leave_mark()
    assert "HUB_SECRET_KEY is that of the site." in said()[0]
    settings.SECRET_KEY = "of another machine, and as long as the first"
    lines, is_wrong = said()
    assert is_wrong
    assert "HUB_SECRET_KEY is another one" in lines


def test_a_limit_of_the_kernel_is_told_with_what_to_do(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))
    first = next(doctor.kernel_limits())
    assert (first.state, "LimitNOFILE" in first.sentence) == ("look", True)


def test_a_container_counts_with_its_own_memory(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(doctor, "CONTAINER_MEMORY", limit)
    machines = doctor.memory_bytes()
    limit.write_text("1000000\n")
    assert doctor.memory_bytes() == 1_000_000
    limit.write_text("max\n")
    assert doctor.memory_bytes() == machines


def test_a_check_that_breaks_is_one_finding_and_the_others_follow(db, monkeypatch):
    def away():
        raise OperationalError("connection refused")
        yield

    def odd():
        raise KeyError("odd")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (away, odd, away, doctor.clock))
    states = [(finding.state, finding.sentence) for finding in doctor.findings()]
    assert states == [
        (
            "wrong",
            "The site's database could not be reached: connection refused. "
            "Look at DATABASE_URL and DATABASE_PASSWORD.",
        ),
        ("wrong", "odd broke: 'odd'"),
        ("ok", "This machine's clock is that of the database."),
    ]
