"""Small jobs for children: each does one thing a real job might do to us. Imported by the launcher."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from safetensors import SafetensorError


def run(folder, on_event):
    """Do the fake job that job.json names."""
    job = json.loads((folder / "job.json").read_text())
    on_event({"event": "stage", "stage": "load", "text": job["job"]})
    FAKE_JOBS[job["job"]](folder, on_event)


class TypedError(Exception):
    code = "too_few_spoons"


def finish(folder, on_event):
    (folder / "out").mkdir()
    (folder / "out" / "result.txt").write_text("done")
    on_event({"event": "done"})


def refuse(folder, on_event):
    raise TypedError("There are too few spoons. Bring more.")


def break_down(folder, on_event):
    raise ZeroDivisionError("nobody foresaw this")


def vanish(folder, on_event):
    os._exit(3)


def segfault(folder, on_event):
    ctypes.string_at(0)


def kill_itself(folder, on_event):
    signal.raise_signal(signal.SIGKILL)


def say_half_a_line(folder, on_event):
    descriptor = next(fd for fd in range(3, 256) if is_pipe(fd))
    os.write(descriptor, b'{"event": "sta')
    os._exit(0)


def go_on_without_a_word(folder, on_event):
    os.close(next(fd for fd in range(3, 256) if is_pipe(fd)))
    time.sleep(600)


def is_pipe(descriptor):
    try:
        return "pipe" in str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return False


def eat_memory(folder, on_event):
    bytearray(512 * 1024 * 1024)


def loop_for_ever(folder, on_event):
    on_event({"event": "looping"})
    while True:
        pass


def sleep(folder, on_event):
    on_event({"event": "sleeping"})
    time.sleep(600)


def look_around(folder, on_event):
    open_files = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    on_event(
        {
            "event": "surroundings",
            "environment": dict(os.environ),
            "first_environment": Path("/proc/self/environ").read_text(),
            "folder": str(Path.cwd()),
            "open_files": open_files,
            "leads_its_group": os.getpgid(0) == os.getpid() == os.getsid(0),
        }
    )


def reach_out(folder, on_event):
    """Try every way out we know; tell what each said."""
    port = json.loads((folder / "job.json").read_text())["port"]
    for name, attempt in {
        "connect": lambda: socket.create_connection(("127.0.0.1", port), timeout=5),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "program": lambda: subprocess.run(["/bin/true"], check=True),
        "io_uring": io_uring_setup,
    }.items():
        try:
            attempt()
            on_event({"event": "way", "name": name, "said": "open"})
        except OSError as error:
            on_event({"event": "way", "name": name, "said": error.strerror})


def io_uring_setup():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(425, 1, ctypes.create_string_buffer(256)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def fill_the_disk(folder, on_event):
    raise OSError(28, "No space left on device")


def fill_the_disk_with_tensors(folder, on_event):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def exceed_the_disk_quota_with_tensors(folder, on_event):
    raise SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)")


def write_tensors_to_no_folder(folder, on_event):
    raise SafetensorError("Error while serializing: I/O error: Not a directory (os error 20)")


def write_to_a_disk_that_is_read_only(folder, on_event):
    raise OSError(30, "Read-only file system", "/srv/hub/jobs/7/out")


def read_a_broken_disk_in_a_library(folder, on_event):
    raise SafetensorError("I/O error: Input/output error (os error 5)")


def refuse_what_a_broken_disk_gives(folder, on_event):
    try:
        raise OSError(116, "Stale file handle")
    except OSError as error:
        raise TypedError("The base model cannot be read.") from error


def refuse_words_that_look_like_a_fault(folder, on_event):
    raise TypedError("No such column: “(os error 5)”.")


FAKE_JOBS = {
    job.__name__: job
    for job in (
        finish, refuse, break_down, vanish, segfault, kill_itself, say_half_a_line, eat_memory, loop_for_ever,
        sleep, go_on_without_a_word, look_around, reach_out, fill_the_disk,
        fill_the_disk_with_tensors, exceed_the_disk_quota_with_tensors, write_tensors_to_no_folder,
        write_to_a_disk_that_is_read_only, read_a_broken_disk_in_a_library, refuse_what_a_broken_disk_gives,
        refuse_words_that_look_like_a_fault,
    )
}  # fmt: skip
