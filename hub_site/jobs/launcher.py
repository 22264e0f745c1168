"""A forkserver: it imports what jobs need once, then forks one limited child per job.

    python -m hub_site.jobs.launcher --preload PACKAGE.MODULE --call PACKAGE.MODULE:FUNCTION --control FD

A worker starts it (hub_site.jobs.children) and asks over the control socket; each request carries a
job folder, limits and two descriptors: a pipe for the child's events and a line to follow the child by.
Preloading is importing and nothing more: a fork after a first torch computation hangs in its backward.
When the worker is gone, so are the children and the launcher.
"""

import argparse
import contextlib
import faulthandler
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from hub_site.common.os_faults import os_fault_code
from hub_site.jobs import sandbox

ChildEvent = dict[str, Any]
JobFunction = Callable[[Path, Callable[[ChildEvent], None]], None]

REQUEST_BYTES_MAX = 64 * 1024
EXIT_BROKEN = 70  # sysexits.h: internal software error
EXIT_NOT_BEGUN = 71  # sysexits.h: system error; nothing of the job has run


def main() -> None:
    arguments = read_arguments()
    job = preload(arguments.preload, arguments.call)
    control = socket.socket(fileno=arguments.control)
    server = ForkServer(control, job)
    with ready_file(arguments.ready):
        server.serve()


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preload", action="append", default=[], help="a module to import before any fork")
    parser.add_argument("--call", required=True, help="module:function, called with (folder, on_event)")
    parser.add_argument("--control", type=int, required=True, help="descriptor of the control socket")
    parser.add_argument("--ready", type=Path, help="a file to write once everything is imported")
    return parser.parse_args()


def preload(modules: list[str], call: str) -> JobFunction:
    for name in modules:
        importlib.import_module(name)
    module, _, function = call.partition(":")
    job: JobFunction = getattr(importlib.import_module(module), function)
    gc.collect()
    gc.freeze()  # a child's collector then leaves these objects, and their shared pages, alone
    return job


@contextlib.contextmanager
def ready_file(ready: Path | None) -> Iterator[None]:
    """Keep a file with our process id at `ready` inside the context: we answer requests.

    Where it cannot be written, as on a full disk, the jobs run all the same.
    """
    if ready is None:
        yield
        return
    try:
        ready.write_text(f"{os.getpid()}\n")
    except OSError:
        log_error()
    try:
        yield
    finally:
        ready.unlink(missing_ok=True)


def log_error() -> None:
    """Write the traceback to the log, unless the log is on a full disk too."""
    with contextlib.suppress(OSError):
        traceback.print_exc()


class ForkServer:
    """One thread, one loop: requests, kills, and the deaths of children."""

    def __init__(self, control: socket.socket, job: JobFunction) -> None:
        self.control, self.job = control, job
        self.code = sandbox.code_folders()
        self.lines: dict[int, socket.socket] = {}  # by the child's process id
        self.woken, self.waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector = selectors.DefaultSelector()
        self.selector.register(control, selectors.EVENT_READ, self.on_request)
        self.selector.register(self.woken, selectors.EVENT_READ, self.on_death)
        self.going_on = True

    def serve(self) -> None:
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to answer; we follow it
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        while self.going_on:
            for key, _ in self.selector.select():
                key.data()
        for pid in list(self.lines):
            self.kill(pid)

    def stop(self) -> None:
        self.going_on = False

    def on_request(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self.control, REQUEST_BYTES_MAX, 2)
        except ConnectionError:
            message, descriptors = b"", []
        if not message:  # the worker is gone
            self.stop()
            return
        events, line = descriptors
        self.start_child(json.loads(message), events, socket.socket(fileno=line))

    def start_child(self, request: dict[str, Any], events: int, line: socket.socket) -> None:
        launcher = os.getpid()
        pid = os.fork()
        if pid == 0:
            folder, limits = Path(request["folder"]), sandbox.Limits(**request["limits"])
            enter = partial(sandbox.enter, folder, limits, parent=launcher, code=self.code)
            be_child(self.job, folder, enter, events)
        os.close(events)
        self.lines[pid] = line
        self.selector.register(line, selectors.EVENT_READ, lambda: self.kill(pid))
        inherited = sandbox.status_bytes(Path("/proc/self/status"), "RssAnon")
        tell(line, {"pid": pid, "inherited_bytes": inherited})

    def kill(self, pid: int) -> None:
        """End this child: its worker closed the connection."""
        if pid not in self.lines:  # it died in the same turn of the loop
            return
        self.ignore(self.lines[pid])
        for end in (os.kill, os.killpg):  # the group does not exist before the child's first line has run
            with contextlib.suppress(ProcessLookupError):
                end(pid, signal.SIGKILL)

    def ignore(self, line: socket.socket) -> None:
        with contextlib.suppress(KeyError):
            self.selector.unregister(line)

    def on_death(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.woken, 1024)
        while self.lines:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if dead is None:
                return
            self.reap(dead.si_pid)

    def reap(self, pid: int) -> None:
        # The zombie still holds its number, so this reaches what the child itself forked and nothing else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        line = self.lines.pop(pid)
        self.ignore(line)
        cpu_s = used.ru_utime + used.ru_stime
        tell(line, {"exit": os.waitstatus_to_exitcode(status), "cpu_s": cpu_s})
        line.close()


def tell(line: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the worker may have closed the connection
        line.send(json.dumps(message).encode())


def be_child(job: JobFunction, folder: Path, enter_sandbox: Callable[[], Any], events: int) -> NoReturn:
    """Everything after the fork. Never returns into the launcher's loop, whatever happens."""
    code = EXIT_NOT_BEGUN
    try:
        become_alone(folder, events)
        enter_sandbox()
        code = EXIT_BROKEN
        with os.fdopen(events, "w", encoding="utf-8") as pipe:
            code = run(job, folder, lambda event: write_event(pipe, event))
    except BaseException:  # noqa: BLE001  the process ends here; the log must say why
        log_error()
    finally:
        with contextlib.suppress(OSError):  # the log may be on a full disk
            sys.stderr.flush()
        os._exit(code)


def become_alone(folder: Path, events: int) -> None:
    """A session of our own, no inherited descriptor, environment or signal handler."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, events)
    os.closerange(events + 1, os.sysconf("SC_OPEN_MAX"))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a library prints belongs in the log
    faulthandler.enable()
    os.environ.clear()
    os.environ["TMPDIR"] = str(folder)
    os.chdir(folder)


def run(job: JobFunction, folder: Path, on_event: Callable[[ChildEvent], None]) -> int:
    """Call the job; a refusal and a breakdown both become the last event. Returns the exit code."""
    try:
        job(folder, on_event)
    except BaseException as error:  # noqa: BLE001  a Rust panic is no Exception, and must be told as well
        on_event(last_event(error))
        return EXIT_BROKEN
    return 0


def last_event(error: BaseException) -> ChildEvent:
    code = refusal_code(error)
    if code is not None:
        return {"event": "refused", "code": code, "message": str(error)}
    return {"event": "broken", "traceback": "".join(traceback.format_exception(error))}


def refusal_code(error: BaseException) -> str | None:
    """A typed error carries its own code; memory is refused by the limits, a disk is the site's fault."""
    if is_out_of_memory(error):
        return "out_of_memory"
    if fault := os_fault_code(error):
        return fault
    code = getattr(error, "code", None)
    return code if isinstance(error, Exception) and isinstance(code, str) else None


def is_out_of_memory(error: BaseException) -> bool:
    # Native allocators report through RuntimeError and their own words.
    words = ("allocate memory", "bad_alloc", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(word in str(error) for word in words)
    )


def write_event(pipe: Any, event: ChildEvent) -> None:
    pipe.write(json.dumps(event, allow_nan=False) + "\n")
    pipe.flush()


if __name__ == "__main__":
    main()
