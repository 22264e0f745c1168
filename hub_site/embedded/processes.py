"""Start a program in a process group of its own, know it again later, and end it with all it started."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hub_site.embedded.accounts import Account
from hub_site.embedded.refusal import EmbeddedError

POLL_S = 0.05
CLOCK_SLACK_S = 2.0  # the system derives a start time from its clock, which may be set in between
KILL_TIMEOUT_S = 5.0  # after SIGKILL only the kernel can be late
LOG_BYTES_MAX = 10 * 1024 * 1024  # a longer log is set aside as NAME.log.1, the one before as NAME.log.2
LOGS_KEPT = 3  # set aside, beside the one that grows
TAIL_LINES = 15


@dataclass(frozen=True)
class Part:
    """A program of the running system: how to start it, when it is well, how to stop it."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    folder: Path = Path("/")
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 15.0
    ready_timeout_s: float = 60.0
    ready_files: tuple[Path, ...] = ()  # what an earlier run may have left


@dataclass(frozen=True)
class Identity:
    """A process id and when it began: the id alone may belong to a stranger by now."""

    pid: int
    began: float

    @classmethod
    def of(cls, pid: int) -> "Identity":
        return cls(pid, psutil.Process(pid).create_time())

    def is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            is_same: bool = abs(process.create_time() - self.began) < CLOCK_SLACK_S
            return is_same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass
class Running:
    """A part that was started."""

    part: Part
    popen: "subprocess.Popen[bytes]"
    identity: Identity
    started_s: float = field(default_factory=time.monotonic)

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.started_s

    @property
    def exit_text(self) -> str:
        code = self.popen.returncode
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def start(part: Part, log_file: Path) -> Running:
    for stale in part.ready_files:
        stale.unlink(missing_ok=True)
    rotate_log(log_file)
    account = part.account
    with log_file.open("ab") as log:
        popen = subprocess.Popen(
            part.command,
            env=dict(part.environment),
            cwd=part.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor alone
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    return Running(part, popen, Identity.of(popen.pid))


def rotate_log(log_file: Path) -> None:
    """Set a long log aside. Its process goes on writing to the same file, which is empty then.

    A line that is written in this very moment may be lost.
    """
    if not log_file.exists() or log_file.stat().st_size <= LOG_BYTES_MAX:
        return
    for number in range(LOGS_KEPT - 1, 0, -1):
        older = log_file.with_suffix(f".log.{number}")
        if older.exists():
            older.replace(log_file.with_suffix(f".log.{number + 1}"))
    shutil.copy2(log_file, log_file.with_suffix(".log.1"))
    os.truncate(log_file, 0)  # it was opened to append: the next line begins at 0


def ask_to_stop(running: Running) -> None:
    with contextlib.suppress(ProcessLookupError):
        running.popen.send_signal(running.part.stop_signal)


def finish(running: Running, *, deadline_s: float) -> None:
    """Wait for it until the deadline, then end it; whatever it started goes with it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.popen.wait(max(0.0, deadline_s - time.monotonic()))
    kill_group(running.identity.pid)
    running.popen.wait(KILL_TIMEOUT_S)


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def stop_stranded(identity: Identity, stop_signal: signal.Signals, *, timeout_s: float) -> bool:
    """End a process that an earlier supervisor left behind. False if it was gone already."""
    if not identity.is_alive():
        return False
    os.kill(identity.pid, stop_signal)
    wait_for(lambda: not identity.is_alive(), timeout_s=timeout_s)
    kill_group(identity.pid)
    if not wait_for(lambda: not identity.is_alive(), timeout_s=KILL_TIMEOUT_S):
        raise EmbeddedError(
            f"The process {identity.pid} of an earlier run cannot be ended. Please end it by hand."
        )
    return True


def wait_for(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True


def tail(log_file: Path, n_lines: int = TAIL_LINES) -> str:
    with log_file.open("rb") as log:
        log.seek(max(0, log_file.stat().st_size - 64 * 1024))
        lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-n_lines:])
