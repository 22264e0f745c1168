"""What a child that was taken over cannot do. A real child tries everything in tests/jobs/hostile_jobs.py."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hub_site.jobs import system_calls
from hub_site.jobs.child_folder import measure_folder, new_folder
from hub_site.jobs.children import ChildRefused, Launcher
from hub_site.jobs.sandbox import Limits, Sandbox, describe
from tests.jobs import hostile_jobs

ROOT = Path(__file__).resolve().parents[2]
TICK_S = 0.05
NOBODY = 65534
IS_ROOT = os.geteuid() == 0
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
REFUSED = ("EPERM", "EACCES")
FREE = {"work", "replace a file of the job"}  # what a job may do with its own
NEEDS_OWN_ACCOUNT = {"start many threads"}  # an account of others cannot count this job's alone


class LauncherOfNobody(Launcher):
    """As where root does not start the site. It may read all files, since Python may lie in root's home."""

    def _command(self, control: int) -> list[str]:
        keep = [f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient")]
        account = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return ["setpriv", *account, *keep, *super()._command(control)]


def new_launcher(kind: type[Launcher] = Launcher) -> Launcher:
    module = "tests.jobs.hostile_jobs"
    return kind(preload=module, call=f"{module}:run", root=ROOT, threads=1)


@pytest.fixture(scope="module")
def launcher():
    launcher = new_launcher()
    yield launcher
    launcher.stop()


@pytest.fixture(scope="module")
def victim():
    """A process that the child would like to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    )
    yield process
    process.kill()
    process.communicate()


def make_site(root: Path) -> dict[str, str]:
    """A data folder with what a child must not reach; paths by their names in hostile_jobs."""
    data = root / "data"
    paths = {
        "secret": data / "secrets.env",
        "open secret": data / "open.env",
        "blob": data / "blobs" / "ab" / "abcd",
        "mail": data / "mail" / "reset.txt",
        "database": data / "postgres" / "data" / "PG_VERSION",
        "other job": data / "jobs" / "other" / "examples.jsonl",
    }
    for name, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("private")
        path.chmod(0o600 if name == "secret" else 0o444 if name == "blob" else 0o644)
    system = {
        "shadow": "/etc/shadow",
        "code": ROOT / "hub_site" / "jobs" / "sandbox.py",
        "python": os.__file__,
        "home": Path.home(),
    }
    return {name: str(path) for name, path in (paths | system).items()}


def try_everything(launcher: Launcher, root: Path, victim: subprocess.Popen, owner: int | None) -> dict:
    """Start a child in a job folder of the site; return what each attempt said."""
    paths = make_site(root)
    folder = root / "data" / "jobs" / "ours"
    folder.mkdir(mode=0o700)
    (folder / "linked").hardlink_to(paths["blob"])
    job = {"paths": paths, "parent": os.getpid(), "victim": victim.pid}
    (folder / "job.json").write_text(json.dumps(job))
    if owner is not None:  # whatever the site's account may read, its child may not
        for path in [root, *root.rglob("*")]:
            os.chown(path, owner, owner)
    limits = Limits(threads=64)
    with launcher.start_child(folder, limits) as child:
        events = [event for event in child.events(TICK_S) if event]
    assert victim.poll() is None
    assert Path(paths["blob"]).read_text() == Path(paths["open secret"]).read_text() == "private"
    assert not list(root.rglob("planted"))
    return {event["name"]: event["said"] for event in events}


@pytest.fixture(scope="module")
def said(launcher, victim, tmp_path_factory):
    return try_everything(launcher, tmp_path_factory.mktemp("site"), victim, None)


@pytest.fixture(scope="module")
def said_without_root(victim, tmp_path_factory):
    if not IS_ROOT:
        pytest.skip("the other tests run without root already")
    launcher = new_launcher(LauncherOfNobody)
    yield try_everything(launcher, tmp_path_factory.mktemp("site"), victim, NOBODY)
    launcher.stop()


@pytest.mark.parametrize(
    "name", [name for name in hostile_jobs.ATTEMPTS if name not in FREE | NEEDS_OWN_ACCOUNT]
)
def test_a_child_cannot(said, name):
    assert said[name] in REFUSED


def test_without_root_a_child_cannot_either(said_without_root):
    could = {name: said for name, said in said_without_root.items() if said not in REFUSED}
    assert could.keys() <= FREE | NEEDS_OWN_ACCOUNT


def test_a_child_can_do_an_honest_job(said, said_without_root):
    for name in FREE:
        assert said[name] == said_without_root[name] == "done"


@pytest.mark.skipif(not IS_ROOT, reason="only root has accounts to give")
def test_a_child_with_its_own_account_starts_no_more_threads_than_its_limit(said):
    assert said["start many threads"] == "can't start new thread"


@pytest.mark.skipif(not IS_ROOT, reason="only root has accounts to give")
def test_every_child_of_root_has_an_account_of_its_own(launcher, tmp_path):
    def owner_after_a_job(name: str) -> int:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "job.json").write_text('{"only": ["work"]}')
        with launcher.start_child(folder, Limits()) as child:
            assert [event["said"] for event in child.events(TICK_S) if event] == ["done"]
        return (folder / "out" / "b.txt").stat().st_uid

    assert len({owner_after_a_job("one"), owner_after_a_job("two"), 0, NOBODY}) == 4


def test_a_child_that_fills_its_folder_is_stopped(launcher, tmp_path):
    (tmp_path / "job.json").write_text('{"only": ["fill the folder"]}')
    with (
        launcher.start_child(tmp_path, Limits(file_mb=1, disk_mb=2)) as child,
        pytest.raises(ChildRefused, match="more than the 2 MB it may keep on disk") as caught,
    ):
        list(child.events(TICK_S))
    assert caught.value.code == "too_much_disk"
    assert measure_folder(tmp_path).size_bytes < 512 * 2**20


def test_a_child_that_fills_the_disk_by_files_without_a_name_is_stopped(launcher, tmp_path):
    (tmp_path / "job.json").write_text('{"only": ["fill the disk by deleted files"]}')
    with (
        launcher.start_child(tmp_path, Limits(file_mb=1, disk_mb=2)) as child,
        pytest.raises(ChildRefused) as caught,
    ):
        list(child.events(TICK_S))
    assert caught.value.code == "too_much_disk"


def test_files_that_were_there_before_and_links_to_stored_ones_are_not_the_child_s(launcher, tmp_path):
    stored, folder = tmp_path / "blob", tmp_path / "job"
    folder.mkdir()
    stored.write_bytes(bytes(3 * 2**20))
    (folder / "linked").hardlink_to(stored)
    (folder / "copy").write_bytes(bytes(3 * 2**20))
    (folder / "job.json").write_text('{"only": ["work", "wait a moment"]}')
    with launcher.start_child(folder, Limits(disk_mb=1)) as child:
        assert [event["said"] for event in child.events(TICK_S) if event] == ["done", "done"]


def test_more_files_than_any_job_makes_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr("hub_site.jobs.child_folder.ENTRIES_MAX", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()
    assert measure_folder(tmp_path).has_too_many


def test_a_folder_is_removed_however_deep_it_is():
    with new_folder(Path("/dev/shm"), "lora-hub-deep-") as folder:  # in memory: a disk takes seconds for it
        here = os.open(folder, os.O_RDONLY)
        for _ in range(1100):
            os.mkdir("a", dir_fd=here)
            inner = os.open("a", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(here)
    assert not folder.exists()


def test_memory_that_a_child_shares_with_nobody_counts(launcher, tmp_path):
    (tmp_path / "job.json").write_text('{"only": ["take shared memory"]}')
    with launcher.start_child(tmp_path, Limits(memory_mb=64)) as child, pytest.raises(ChildRefused) as caught:
        list(child.events(TICK_S))
    assert caught.value.code == "out_of_memory"


def test_the_operator_is_told_what_holds_and_what_the_machine_cannot_do():
    assert describe(Sandbox(is_root=True, has_own_account=True, landlock_version=7)) == [
        "Each job computes in a sandbox: an account of its own, Landlock 7, a list of system calls."
    ]
    poorest = " ".join(describe(Sandbox(is_root=True, has_own_account=False, landlock_version=0)))
    assert "This kernel has no Landlock" in poorest
    assert "Root may not change its account here" in poorest
    assert "only root could give them others" in describe(Sandbox(False, False, 4))[1]


def test_what_is_told_comes_from_a_process_that_tried(tmp_path):
    command = [sys.executable, "-m", "hub_site.jobs.sandbox"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.startswith("Each job computes in a sandbox: ")


@pytest.mark.parametrize("machine", system_calls.MACHINES)
def test_no_two_calls_have_one_number(machine):
    column = system_calls.MACHINES.index(machine)
    special = ("CLONE", "CLONE3", "KILL", "TGKILL", "PRCTL", "PRLIMIT64", "FCNTL", "IOCTL")
    listed = [
        numbers[column] for numbers in system_calls.ALLOWED_CALLS.values() if numbers[column] is not None
    ]
    listed += [getattr(system_calls, name)[column] for name in special]
    assert len(listed) == len(set(listed))


@pytest.mark.skipif(not HEADER.exists(), reason="this machine has no headers of the kernel")
def test_the_numbers_of_calls_are_those_of_the_kernel_s_headers():
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text()))
    listed = {name: str(of_x86) for name, (of_x86, _) in system_calls.ALLOWED_CALLS.items()}
    assert {name: number for name, number in listed.items() if numbers.get(name, number) != number} == {}
