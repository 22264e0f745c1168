"""The worker's side of the launcher: start a child for a job folder, follow it, end it.

The worker never computes: it reads events, and may do something else (beat, look for a cancellation)
whenever the child is quiet for a moment.
"""

import contextlib
import json
import logging
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hub_site.common.os_faults import DISK_FULL, MACHINE_FAULT
from hub_site.common.site_faults import MachineFault
from hub_site.jobs.child_folder import measure_folder
from hub_site.jobs.launcher import EXIT_NOT_BEGUN
from hub_site.jobs.sandbox import MIB, Limits, status_bytes

logger = logging.getLogger(__name__)

EVENT_BYTES_MAX = 4 * MIB  # one event; a child that writes more without a line's end is broken
READ_BYTES = 64 * 1024
STOP_TIMEOUT_S = 5.0
KILL_TIMEOUT_S = 5.0
START_TIMEOUT_S = 20.0  # of a child, which is one fork; a launcher that takes longer is stopped or hangs
IMPORT_TIMEOUT_S = 600.0  # of a launcher until it starts children; on a slow disk its imports take minutes
EXIT_TIMEOUT_S = 20.0  # of a child that has closed its pipe
DISK_LOOK_S = 1.0  # so often its folder is measured
REWRITES_MAX = 4  # times disk_mb, of all it writes: what a deleted file holds is in no folder
SENT_BY_LIMITS = (signal.SIGXCPU, signal.SIGXFSZ, signal.SIGSYS)
ASK_TO_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class ChildError(Exception):
    """The child ended without a result."""


class ChildRefused(ChildError):
    """The job refused its input, with a stable code and a sentence for the page's reader."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ChildHindered(ChildError, MachineFault):
    """The job met a fault of the site, such as a full disk: a code of site_faults, and words for the log."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ChildBroke(ChildError):
    """The job raised something nobody foresaw; the text is its traceback."""


class ChildDied(ChildError):
    """The process ended without a word, by a signal or os._exit, and the job may have done it."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"The child ended with {exit_code}.")
        self.exit_code = exit_code

    @property
    def may_be_of_the_site(self) -> bool:
        """Whether a signal ended it that no limit sends, such as the kernel's when memory is short."""
        return self.exit_code < 0 and -self.exit_code not in SENT_BY_LIMITS


class ChildInterrupted(ChildError, MachineFault):
    """The process was ended by the machine: the job did not do it.

    Its launcher went away (exit code None), it never came to the job's function, or somebody asked it to end.
    """

    def __init__(self, exit_code: int | None) -> None:
        how = (
            "The launcher is gone."
            if exit_code is None
            else f"The child was ended from outside: {exit_code}."
        )
        super().__init__(how)
        self.exit_code = exit_code


def death(exit_code: int | None) -> ChildDied | ChildInterrupted:
    """Return the error for an exit code that is not 0; None: the launcher went away, perhaps before a fork.

    A shutdown or the operator sends the signals that ask for an end; no job sends them to itself. SIGKILL may
    also be the kernel's, when memory is short: the two look alike, so it counts as the job's.
    """
    if exit_code in (None, EXIT_NOT_BEGUN) or (exit_code < 0 and -exit_code in ASK_TO_END):
        return ChildInterrupted(exit_code)
    return ChildDied(exit_code)


@dataclass
class LauncherProcess:
    """A launcher process as its children know it."""

    popen: subprocess.Popen[bytes]
    ready: Path | None
    has_answered: bool = False  # a child of its began
    started_s: float = field(default_factory=time.monotonic)

    def start_by(self) -> float:
        """Return the time.monotonic() by which a child that is asked for now must have begun."""
        is_ready = self.has_answered or (self.ready is not None and self.ready.exists())
        imports_end = 0.0 if is_ready else self.started_s + IMPORT_TIMEOUT_S
        return max(time.monotonic() + START_TIMEOUT_S, imports_end)

    def kill(self) -> None:
        """End it, and with it all its children, for it answers no more; the next request starts another."""
        logger.error("the launcher %s does not answer, so it is killed", self.popen.pid)
        self.popen.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(KILL_TIMEOUT_S)


@dataclass
class Launcher:
    """One launcher process, started on demand and again when it dies or answers no more."""

    preload: str
    call: str
    root: Path  # the folder from which the modules are importable
    threads: int = 2
    ready: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _control: socket.socket | None = field(default=None, init=False)
    _shared: LauncherProcess | None = field(default=None, init=False)  # with its children
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def start(self) -> None:
        """Start the process; it imports in the background, and takes requests meanwhile."""
        with self._lock:
            self._ensure_running()

    def has_imported(self) -> bool:
        """Whether the process runs and has imported what jobs need; only where it writes a file `ready`."""
        is_running = self.process is not None and self.process.poll() is None
        return is_running and self.ready is not None and self.ready.exists()

    def start_child(self, folder: Path, limits: Limits) -> "Child":
        """Ask for a child that works in `folder`. Returns at once, even while the launcher still imports."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps({"folder": str(folder), "limits": asdict(limits)}).encode()
        with self._lock, theirs:
            try:
                self._send(request, [write_end, theirs.fileno()])
            finally:
                os.close(write_end)
            assert self._shared is not None  # whoever sends has started it
            return Child(read_end, ours, folder, limits, self._shared)

    def stop(self) -> None:
        with self._lock:
            if self._control is not None:
                self._control.close()
                self._control = None
            if self.process is not None:
                self.process.terminate()  # while it still imports it reads no message
                end(self.process)
                self.process = None

    def _send(self, request: bytes, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._ensure_running(), [request], descriptors)
        except ConnectionError:  # it died a moment ago
            if self.process is not None:
                end(self.process)
            socket.send_fds(self._ensure_running(), [request], descriptors)

    def _ensure_running(self) -> socket.socket:
        if self._control is not None and self.process is not None and self.process.poll() is None:
            return self._control
        if self._control is not None:
            self._control.close()
        if self.ready is not None:
            self.ready.parent.mkdir(parents=True, exist_ok=True)
            self.ready.unlink(missing_ok=True)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                self._command(theirs.fileno()),
                cwd=self.root,
                env=launcher_environment(self.threads),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._shared = LauncherProcess(self.process, self.ready)
        return self._control

    def _command(self, control: int) -> list[str]:
        command = [sys.executable, "-m", "hub_site.jobs.launcher"]
        command += ["--preload", self.preload, "--call", self.call, "--control", str(control)]
        return [*command, "--ready", str(self.ready)] if self.ready is not None else command


def launcher_environment(threads: int) -> dict[str, str]:
    """All that the launcher gets to know: no secret, no address, nothing of the worker's own."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONHASHSEED": "0",  # the same job, the same order of every set
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # Waiting threads sleep. Left to spin, they take the cores from each other whenever something else
        # runs beside them: a job of 6 s took 30 s on two busy cores.
        "OMP_WAIT_POLICY": "PASSIVE",
        "OPENBLAS_NUM_THREADS": "1",  # numpy's own pool would start threads on import, before the fork
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


def end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Child:
    """One running job. Use as a context manager: leaving it ends the process, however we leave."""

    def __init__(
        self, events: int, line: socket.socket, folder: Path, limits: Limits, launcher: LauncherProcess
    ) -> None:
        self._events, self._line, self._folder, self._limits = events, line, folder, limits
        self._launcher, self._is_over = launcher, False
        self._start_by = launcher.start_by()
        self._disk_at_start = measure_folder(folder).size_bytes
        self._next_disk_look = 0.0
        self.pid: int | None = None
        self.began: float | None = None  # time.monotonic() when it was first seen to exist
        self.exit_code: int | None = None
        self.inherited_bytes = 0  # the launcher's imports, shared with every child
        self.cpu_s = 0.0  # processor time of all its threads, as far as it was looked at
        os.set_blocking(events, False)
        line.setblocking(False)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Close the connection: the launcher then kills the process group. Wait for it. Harmless twice.

        A launcher that does not do it is killed itself.
        """
        if self._events < 0:
            return
        os.close(self._events)
        self._events = -1
        with self._line:
            if not self._is_over:
                self._line.shutdown(socket.SHUT_WR)
                self._line.settimeout(KILL_TIMEOUT_S)
            while self._receive_status():
                pass
        if self.began is not None and not self._is_over:
            self._launcher.kill()

    def events(self, tick_s: float) -> Iterator[dict[str, Any] | None]:
        """Every event in order, and None about every `tick_s`, whether the child is busy or quiet.

        Raises ChildRefused, ChildHindered, ChildBroke, ChildDied or ChildInterrupted if the job ended
        without a result.
        """
        waiting, next_tick = b"", time.monotonic() + tick_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._events, selectors.EVENT_READ)
            while True:
                if time.monotonic() >= next_tick:
                    next_tick = time.monotonic() + tick_s
                    self._watch_memory()
                    self._watch_start()
                    self._watch_disk()
                    self._read_cpu()
                    yield None
                if not selector.select(max(0.0, next_tick - time.monotonic())):
                    continue
                chunk = os.read(self._events, READ_BYTES)
                if not chunk:
                    break
                *lines, waiting = (waiting + chunk).split(b"\n")
                if len(waiting) > EVENT_BYTES_MAX:
                    raise ChildBroke(f"An event of more than {EVENT_BYTES_MAX} bytes.")
                yield from map(understand, lines)
        yield from self._wait_for_exit(tick_s)

    def _watch_start(self) -> None:
        """A launcher that starts no child, because it is stopped or hangs, must not hold the job for ever."""
        if self.began is None and time.monotonic() > self._start_by:
            self._launcher.kill()
            raise ChildInterrupted(None)

    def _watch_memory(self) -> None:
        """RLIMIT_DATA stops what is reserved; this stops what is used, in case the limit did not bite."""
        if self.memory_bytes() > self.inherited_bytes + self._limits.memory_mb * MIB:
            raise ChildRefused(
                "out_of_memory", f"The work needed more than {self._limits.memory_mb} MB of memory."
            )

    def _watch_disk(self) -> None:
        """A limit of the kernel's would hold for one file alone; this one holds for all of them."""
        if time.monotonic() < self._next_disk_look:
            return
        self._next_disk_look = time.monotonic() + DISK_LOOK_S
        most = self._limits.disk_mb * MIB
        use = measure_folder(self._folder)
        if (
            use.size_bytes - self._disk_at_start > most
            or use.has_too_many
            or self._written_bytes() > REWRITES_MAX * most
        ):
            raise ChildRefused(
                "too_much_disk",
                f"The work wrote more than the {self._limits.disk_mb} MB it may keep on disk.",
            )

    def _written_bytes(self) -> int:
        """What it has sent to the disk so far; 0 where the kernel does not tell us."""
        with contextlib.suppress(OSError):
            if self.pid is not None:
                return written_bytes(self.pid)
        return 0

    def _read_cpu(self) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if self.pid is not None:
                self.cpu_s = max(self.cpu_s, cpu_seconds(self.pid))

    def computing_s(self) -> float:
        """Seconds since it was first seen to exist; 0 while the launcher still imports."""
        self._receive_status()
        return 0.0 if self.began is None else time.monotonic() - self.began

    def is_gone(self) -> bool:
        """Whether it ended while nobody listened: the other end of its pipe is closed."""
        poll = select.poll()
        poll.register(self._events, 0)
        return any(said & select.POLLHUP for _, said in poll.poll(0))

    def memory_bytes(self) -> int:
        """What the child uses now, its file pages left out; 0 before it began and after it ended."""
        self._receive_status()
        if self.pid is None:
            return 0
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{self.pid}/status")
            return status_bytes(status, "RssAnon") + status_bytes(status, "RssShmem")
        return 0

    def _wait_for_exit(self, tick_s: float) -> Iterator[None]:
        """The pipe is closed, so the process is ending: read how, with a None about every `tick_s` meanwhile.

        A child that does not end is killed. Raises ChildDied or ChildInterrupted unless it ended well.
        """
        kill_at = time.monotonic() + EXIT_TIMEOUT_S
        self._line.settimeout(tick_s)
        while not self._is_over:
            if self._receive_status() or self._is_over:
                continue
            if time.monotonic() > kill_at:
                self.kill()
                break
            yield None
        if self.exit_code != 0:
            raise death(self.exit_code)

    def _receive_status(self) -> bool:
        """Read one message, if there is one; False if the launcher closed the connection or sent none."""
        try:
            message = self._line.recv(1024)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError:  # the connection is broken, or closed by us
            message = b""
        self._is_over = not message
        if message:
            status = json.loads(message)
            self.pid, self.exit_code = status.get("pid", self.pid), status.get("exit", self.exit_code)
            self.began = self.began or time.monotonic()
            self._launcher.has_answered = True
            self.cpu_s = max(self.cpu_s, status.get("cpu_s", 0.0))
            self.inherited_bytes = status.get("inherited_bytes", self.inherited_bytes)
        return bool(message)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, its threads together (proc(5): utime and stime of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written_bytes(pid: int) -> int:
    """Bytes a process has sent to disks (proc(5): io), less what it took back before it got there."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    figures = {name: int(value) for name, _, value in (line.partition(":") for line in lines)}
    return figures["write_bytes"] - figures["cancelled_write_bytes"]


def understand(line: bytes) -> dict[str, Any]:
    """One event; the last one of a job that failed becomes its exception."""
    event: dict[str, Any] = json.loads(line)
    if event["event"] == "refused":
        if event["code"] in (DISK_FULL, MACHINE_FAULT):
            raise ChildHindered(event["code"], event["message"])
        raise ChildRefused(event["code"], event["message"])
    if event["event"] == "broken":
        raise ChildBroke(event["traceback"])
    return event
