"""What a child may and may not do, and what its parent learns. Real processes throughout."""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_site.common.site_faults import site_fault_code
from hub_site.jobs.children import (
    ASK_TO_END,
    Child,
    ChildBroke,
    ChildDied,
    ChildHindered,
    ChildInterrupted,
    ChildRefused,
    Launcher,
    launcher_environment,
)
from hub_site.jobs.launcher import EXIT_NOT_BEGUN
from hub_site.jobs.sandbox import Limits

ROOT = Path(__file__).resolve().parents[2]
TICK_S = 0.2
GONE_TIMEOUT_S = 10


def new_launcher(ready: Path | None = None) -> Launcher:
    return Launcher(
        preload="tests.jobs.fake_jobs", call="tests.jobs.fake_jobs:run", root=ROOT, threads=1, ready=ready
    )


@pytest.fixture(scope="module")
def launcher():
    launcher = new_launcher()
    yield launcher
    launcher.stop()


@pytest.fixture
def fake_job(launcher, tmp_path):
    """Start a child that does the named fake job."""

    def start(name: str, limits: Limits = Limits(), **details) -> Child:  # noqa: B008  frozen
        (tmp_path / "job.json").write_text(json.dumps({"job": name, **details}))
        return launcher.start_child(tmp_path, limits)

    return start


def events_of(child: Child) -> list[dict]:
    with child:
        return [event for event in child.events(TICK_S) if event is not None]


def wait_until_it_runs(child: Child, events: Iterator) -> None:
    """The launcher tells the child's number a moment after the child has begun to tell its events."""
    while child.memory_bytes() == 0:
        next(events)


def wait_until_gone(pid: int) -> None:
    """Wait for a process that is not our child to end; returns at once if it has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        assert selector.select(GONE_TIMEOUT_S), f"process {pid} still runs"
    os.close(descriptor)


def test_a_job_tells_its_events_in_order_and_leaves_its_result(fake_job, tmp_path):
    events = events_of(fake_job("finish"))
    assert [event["event"] for event in events] == ["stage", "done"]
    assert (tmp_path / "out" / "result.txt").read_text() == "done"


def test_a_typed_error_arrives_with_its_code_and_sentence(fake_job):
    with pytest.raises(ChildRefused, match=r"There are too few spoons\. Bring more\.") as caught:
        events_of(fake_job("refuse"))
    assert caught.value.code == "too_few_spoons"


def test_an_unforeseen_error_arrives_with_its_traceback(fake_job):
    with pytest.raises(ChildBroke, match="ZeroDivisionError: nobody foresaw this"):
        events_of(fake_job("break_down"))


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [("vanish", 3), ("segfault", -signal.SIGSEGV), ("kill_itself", -signal.SIGKILL)],
)
def test_a_child_that_dies_without_a_word_is_reported_with_how_it_ended(fake_job, name, exit_code):
    with pytest.raises(ChildDied) as caught:
        events_of(fake_job(name))
    assert caught.value.exit_code == exit_code


def test_half_an_event_at_the_end_is_not_taken_for_one(fake_job):
    assert [event["event"] for event in events_of(fake_job("say_half_a_line"))] == ["stage"]


@pytest.mark.parametrize(
    "name", ["fill_the_disk", "fill_the_disk_with_tensors", "exceed_the_disk_quota_with_tensors"]
)
def test_a_full_disk_is_a_fault_of_the_site(fake_job, name):
    with pytest.raises(ChildHindered) as caught:
        events_of(fake_job(name))
    assert caught.value.code == site_fault_code(caught.value) == "disk_full"


@pytest.mark.parametrize(
    "name",
    [
        "write_to_a_disk_that_is_read_only",
        "read_a_broken_disk_in_a_library",
        "refuse_what_a_broken_disk_gives",
    ],
)
def test_a_fault_of_the_machine_in_a_child_is_a_fault_of_the_site(fake_job, name):
    with pytest.raises(ChildHindered) as caught:
        events_of(fake_job(name))
    assert caught.value.code == site_fault_code(caught.value) == "machine_fault"


def test_a_refusal_that_quotes_a_fault_is_a_refusal(fake_job):
    with pytest.raises(ChildRefused) as caught:
        events_of(fake_job("refuse_words_that_look_like_a_fault"))
    assert caught.value.code == "too_few_spoons"


def test_another_fault_of_writing_tensors_is_no_full_disk(fake_job):
    with pytest.raises(ChildBroke, match="Not a directory"):
        events_of(fake_job("write_tensors_to_no_folder"))


def test_a_child_cannot_take_more_memory_than_its_limit(fake_job):
    with pytest.raises(ChildRefused) as caught:
        events_of(fake_job("eat_memory", Limits(memory_mb=64)))
    assert caught.value.code == "out_of_memory"


def test_the_same_child_has_enough_with_a_larger_limit(fake_job):
    assert events_of(fake_job("eat_memory", Limits(memory_mb=1024)))


@pytest.mark.slow
def test_a_child_that_uses_up_its_processor_time_is_ended(fake_job):
    with pytest.raises(ChildDied) as caught:
        events_of(fake_job("loop_for_ever", Limits(cpu_s=1)))
    assert caught.value.exit_code == -signal.SIGXCPU


def test_every_way_to_a_network_or_another_program_is_denied(fake_job):
    with socket.create_server(("127.0.0.1", 0)) as server:
        events = events_of(fake_job("reach_out", port=server.getsockname()[1]))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    answers = {event["name"]: event["said"] for event in events if event["event"] == "way"}
    assert answers == dict.fromkeys(
        ["connect", "udp", "unix", "program", "io_uring"], "Operation not permitted"
    )


def test_a_child_sees_no_secret_and_no_file_of_its_parent(fake_job, tmp_path, monkeypatch):
    monkeypatch.setenv("HUB_SECRET_KEY", "a-secret-of-the-worker")
    monkeypatch.setenv("HF_TOKEN", "hf_a_users_own")
    _, seen = events_of(fake_job("look_around"))
    assert seen["environment"] == {"TMPDIR": str(tmp_path)}
    assert "SECRET" not in seen["first_environment"]
    assert "HF_TOKEN" not in seen["first_environment"]
    assert seen["folder"] == str(tmp_path)
    assert seen["leads_its_group"]
    assert not [name for name in seen["open_files"] if name.startswith("socket:")]


def test_the_launcher_itself_is_given_no_secret(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere")
    monkeypatch.setenv("HF_ENDPOINT", "http://elsewhere")
    given = launcher_environment(threads=2)
    assert not {"DATABASE_URL", "HF_ENDPOINT", "HF_TOKEN", "HUB_SECRET_KEY"} & given.keys()
    assert given["OMP_NUM_THREADS"] == "2"


def test_hanging_up_ends_the_child(fake_job):
    with fake_job("sleep") as child:
        wait_until_it_runs(child, child.events(TICK_S))
    wait_until_gone(child.pid)


def test_a_quiet_child_leaves_its_parent_time_for_other_things(fake_job):
    with fake_job("sleep") as child:
        quiet = (event for event in child.events(tick_s=0.01) if event is None)
        assert [next(quiet) for _ in range(3)] == [None, None, None]


def test_a_busy_child_leaves_its_parent_time_as_well(fake_job):
    with fake_job("loop_for_ever") as child:
        assert None in (event for event in child.events(tick_s=0.01))


def test_a_dead_launcher_ends_its_child_and_is_started_again(tmp_path):
    launcher = new_launcher()
    (tmp_path / "job.json").write_text('{"job": "loop_for_ever"}')
    try:
        with launcher.start_child(tmp_path, Limits()) as child:
            events = child.events(TICK_S)
            wait_until_it_runs(child, events)
            launcher.process.kill()
            with pytest.raises(ChildInterrupted) as caught:
                list(events)
        assert caught.value.exit_code is None
        wait_until_gone(child.pid)
        (tmp_path / "job.json").write_text('{"job": "refuse"}')
        with pytest.raises(ChildRefused):
            events_of(launcher.start_child(tmp_path, Limits()))
    finally:
        launcher.stop()


@pytest.fixture
def short_patience(monkeypatch):
    for name in ("START_TIMEOUT_S", "EXIT_TIMEOUT_S", "KILL_TIMEOUT_S"):
        monkeypatch.setattr(f"hub_site.jobs.children.{name}", 0.5)


@pytest.fixture
def own_launcher(tmp_path, short_patience):
    """A launcher that this test may stop; it has imported, and done a job."""
    launcher = new_launcher()
    (tmp_path / "job.json").write_text('{"job": "refuse"}')
    with pytest.raises(ChildRefused):
        events_of(launcher.start_child(tmp_path, Limits()))
    yield launcher
    launcher.stop()


def require_new_launcher(launcher: Launcher, folder: Path, stopped: int) -> None:
    wait_until_gone(stopped)
    (folder / "job.json").write_text('{"job": "refuse"}')
    with pytest.raises(ChildRefused):
        events_of(launcher.start_child(folder, Limits()))
    assert launcher.process.pid != stopped


def test_a_stopped_launcher_starts_no_child_so_it_is_killed_and_another_one_started(own_launcher, tmp_path):
    stopped = own_launcher.process.pid
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(ChildInterrupted) as caught:
        events_of(own_launcher.start_child(tmp_path, Limits()))
    assert site_fault_code(caught.value) == "machine_fault"
    require_new_launcher(own_launcher, tmp_path, stopped)


def test_a_launcher_that_still_imports_has_more_time(monkeypatch, short_patience, tmp_path):
    monkeypatch.setattr("hub_site.jobs.children.IMPORT_TIMEOUT_S", 2.0)
    launcher = Launcher(preload="tests.jobs.slow_import", call="tests.jobs.fake_jobs:run", root=ROOT)
    began = time.monotonic()
    with pytest.raises(ChildInterrupted):
        events_of(launcher.start_child(tmp_path, Limits()))
    assert time.monotonic() - began >= 2.0
    launcher.stop()


def test_leaving_a_child_whose_launcher_is_stopped_ends_both(own_launcher, tmp_path):
    (tmp_path / "job.json").write_text('{"job": "loop_for_ever"}')
    with own_launcher.start_child(tmp_path, Limits()) as child:
        wait_until_it_runs(child, child.events(TICK_S))
        stopped = own_launcher.process.pid
        os.kill(stopped, signal.SIGSTOP)
    wait_until_gone(child.pid)
    require_new_launcher(own_launcher, tmp_path, stopped)


def test_a_child_whose_end_its_stopped_launcher_does_not_tell_is_interrupted(own_launcher, tmp_path):
    (tmp_path / "job.json").write_text('{"job": "loop_for_ever"}')
    with own_launcher.start_child(tmp_path, Limits()) as child:
        events = child.events(TICK_S)
        wait_until_it_runs(child, events)
        stopped = own_launcher.process.pid
        os.kill(stopped, signal.SIGSTOP)
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(ChildInterrupted) as caught:
            list(events)
    assert site_fault_code(caught.value) == "machine_fault"
    require_new_launcher(own_launcher, tmp_path, stopped)


def test_a_child_that_goes_on_without_its_pipe_is_ended_and_its_launcher_stays(own_launcher, tmp_path):
    (tmp_path / "job.json").write_text('{"job": "go_on_without_a_word"}')
    child = own_launcher.start_child(tmp_path, Limits())
    with pytest.raises(ChildDied) as caught:
        events_of(child)
    assert caught.value.exit_code == -signal.SIGKILL
    wait_until_gone(child.pid)
    assert own_launcher.process.poll() is None


WORKER = """
import sys
from collections.abc import Iterator
from pathlib import Path
from hub_site.jobs.children import Launcher
from hub_site.jobs.sandbox import Limits
root, folder = map(Path, sys.argv[1:])
launcher = Launcher(preload="tests.jobs.fake_jobs", call="tests.jobs.fake_jobs:run", root=root, threads=1)
child = launcher.start_child(folder, Limits())
events = child.events(0.1)
while child.memory_bytes() == 0:
    next(events)
print(launcher.process.pid, child.pid, flush=True)
next(event for event in events if event)
"""


def test_the_death_of_the_worker_leaves_no_process_behind(tmp_path):
    (tmp_path / "job.json").write_text('{"job": "sleep"}')
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(ROOT), str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    pids = [int(word) for word in worker.stdout.readline().split()]
    assert len(pids) == 2
    worker.kill()
    worker.communicate()
    for pid in pids:
        wait_until_gone(pid)


def test_the_ready_file_stands_only_while_a_launcher_can_take_jobs(tmp_path):
    ready = tmp_path / "launcher.ready"
    ready.write_text("left behind by a crash")
    launcher = new_launcher(ready)
    (tmp_path / "job.json").write_text('{"job": "finish"}')
    launcher.start()
    assert not ready.exists() or ready.read_text() != "left behind by a crash"
    events_of(launcher.start_child(tmp_path, Limits()))
    assert int(ready.read_text()) == launcher.process.pid
    launcher.stop()
    assert not ready.exists()


def test_a_launcher_that_cannot_start_is_the_machine_s_fault(tmp_path):
    launcher = Launcher(preload="no.such.package", call="no.such:run", root=ROOT)
    with pytest.raises(ChildInterrupted):
        events_of(launcher.start_child(tmp_path, Limits()))
    launcher.stop()


def test_a_child_that_never_came_to_its_job_is_the_machine_s_fault(launcher, tmp_path):
    with pytest.raises(ChildInterrupted) as caught:
        events_of(launcher.start_child(tmp_path / "gone", Limits()))
    assert caught.value.exit_code == EXIT_NOT_BEGUN


@pytest.mark.parametrize("number", ASK_TO_END)
def test_a_child_that_is_asked_to_end_by_the_machine_did_not_do_it(fake_job, number):
    with fake_job("loop_for_ever") as child:
        events = child.events(TICK_S)
        assert {"event": "looping"} in events  # from here on it no longer ignores what its launcher does
        wait_until_it_runs(child, events)
        os.kill(child.pid, number)
        with pytest.raises(ChildInterrupted) as caught:
            list(events)
    assert caught.value.exit_code == -number


def test_launcher_has_one_thread_after_preloading_so_that_forking_is_safe(launcher, fake_job):
    events_of(fake_job("finish"))
    assert len(list(Path(f"/proc/{launcher.process.pid}/task").iterdir())) == 1


def test_the_time_of_a_child_counts_from_its_own_beginning_and_not_from_the_imports_before(
    fake_job, tmp_path
):
    importing = Launcher(preload="tests.jobs.slow_import", call="tests.jobs.fake_jobs:run", root=ROOT)
    with importing.start_child(tmp_path, Limits()) as waiting:
        for _ in range(2):
            assert next(waiting.events(0.01)) is None
            assert waiting.computing_s() == 0.0
        importing.stop()
    with fake_job("loop_for_ever") as child:
        wait_until_it_runs(child, child.events(0.01))
        assert child.computing_s() > 0.0


def test_a_launcher_that_still_imports_ends_with_its_worker_at_once():
    launcher = Launcher(preload="tests.jobs.slow_import", call="tests.jobs.fake_jobs:run", root=ROOT)
    launcher.start()
    process = launcher.process
    launcher.stop()
    assert process.returncode == -signal.SIGTERM  # after five seconds it would have been killed
