"""What the supervisor promises, shown on small programs of our own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hub_site.embedded import processes, supervisor
from hub_site.embedded.folders import DataFolder
from hub_site.embedded.processes import Identity, Part
from hub_site.embedded.record import SupervisorRecord, only_one
from hub_site.embedded.refusal import EmbeddedError
from hub_site.embedded.supervisor import Supervisor, stop_stranded_parts

SLEEPER = "import time; time.sleep(600)"


@pytest.fixture
def folder(tmp_path) -> DataFolder:
    folder = DataFolder(tmp_path / "hub data")
    folder.make()
    return folder


@pytest.fixture
def keeper(folder, monkeypatch):
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0, 0.0, 0.0))
    keeper = Supervisor(folder, host="127.0.0.1", port=1)
    yield keeper
    keeper.stop_everything()


def part(name: str, program: str, *, is_ready=lambda: True, **options) -> Part:
    return Part(name, [sys.executable, "-c", program], dict(os.environ), is_ready, **options)


def pid_of(keeper: Supervisor, name: str) -> int:
    return keeper.record.parts[name][0].pid


def test_a_part_that_dies_is_started_again(keeper, capsys):
    keeper.bring_up([part("sleeper", SLEEPER)])
    first = pid_of(keeper, "sleeper")
    os.kill(first, signal.SIGKILL)
    assert processes.wait_for(lambda: keeper.tick() or pid_of(keeper, "sleeper") != first, timeout_s=10)
    assert psutil.pid_exists(pid_of(keeper, "sleeper"))
    assert "sleeper was ended by SIGKILL; starting it again." in capsys.readouterr().out


def test_after_three_quick_deaths_it_gives_up_and_shows_the_end_of_the_log(keeper, folder):
    runs = folder.root / "runs"
    program = f"open({str(runs)!r}, 'a').write('x'); print('no such teapot'); raise SystemExit(7)"
    with pytest.raises(EmbeddedError) as refusal:
        keeper.bring_up([part("teapot", program, is_ready=lambda: False)])
    assert "teapot ended with exit code 7, 3 times in a row" in str(refusal.value)
    assert "no such teapot" in str(refusal.value)
    assert runs.read_text() == "xxx"


@pytest.mark.slow
def test_deaths_far_apart_are_no_reason_to_give_up(keeper, monkeypatch):
    monkeypatch.setattr(supervisor, "QUICK_DEATH_S", 0.0)
    keeper.bring_up([part("sleeper", SLEEPER)])
    for _ in range(4):
        now = pid_of(keeper, "sleeper")
        os.kill(now, signal.SIGKILL)
        assert processes.wait_for(
            lambda now=now: keeper.tick() or pid_of(keeper, "sleeper") != now, timeout_s=10
        )


def test_a_part_that_never_gets_ready_is_named(keeper):
    with pytest.raises(EmbeddedError, match="sleeper does not get ready"):
        keeper.bring_up([part("sleeper", SLEEPER, is_ready=lambda: False, ready_timeout_s=0.2)])


def test_stopping_goes_backwards_and_leaves_no_grandchild(keeper, folder):
    order = folder.root / "order"
    program = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({order!r} + "." + {name!r}, "w").write(str(child.pid))
def end(*_):
    open({order!r}, "a").write({name!r} + " ")
    raise SystemExit
signal.signal(signal.SIGTERM, end)
signal.pause()
"""
    for name in ("first", "second"):
        ready = Path(f"{order}.{name}")
        keeper.bring_up(
            [
                part(
                    name,
                    program.format(order=str(order), name=name),
                    is_ready=lambda ready=ready: ready.exists() and ready.read_text() != "",
                )
            ]
        )
    grandchildren = [int(Path(f"{order}.{name}").read_text()) for name in ("first", "second")]
    keeper.stop_everything()
    assert order.read_text().split() == ["second", "first"]
    assert processes.wait_for(lambda: not any(is_running(pid) for pid in grandchildren), timeout_s=5)


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_part_that_does_not_listen_is_killed_at_its_deadline(keeper):
    deaf = (
        f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEPER}"
    )
    log = keeper.log_file("deaf")
    keeper.bring_up([part("deaf", deaf, is_ready=lambda: b"deaf" in log.read_bytes(), stop_timeout_s=0.3)])
    asked_s = time.monotonic()
    keeper.stop_everything()
    assert time.monotonic() - asked_s < 5
    assert not is_running(pid_of(keeper, "deaf"))


def test_what_a_killed_supervisor_left_is_stopped_and_a_stranger_is_not(folder):
    left = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
    reused = Identity(stranger.pid, Identity.of(stranger.pid).began - 1000)
    record = SupervisorRecord(
        Identity(2**22 - 1, 0.0),
        "http://127.0.0.1:1",
        {"web": (Identity.of(left.pid), signal.SIGTERM), "valkey": (reused, signal.SIGTERM)},
    )
    record.write(folder)
    try:
        stop_stranded_parts(folder)
        assert left.wait(5) == -signal.SIGTERM
        assert stranger.poll() is None
        assert SupervisorRecord.read(folder) is None
    finally:
        stranger.kill()
        stranger.wait()


def test_only_one_process_holds_a_data_folder(folder):
    with only_one(folder) as first, only_one(folder) as second:
        assert (first, second) == (True, False)
    with only_one(folder) as third:
        assert third
