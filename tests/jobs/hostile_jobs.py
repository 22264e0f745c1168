"""What a child that was taken over would try. Imported by the launcher; each attempt tells how it ended."""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CALLS = {  # x86_64 and aarch64
    "clone": (56, 220), "clone3": (435, 435), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40),
    "pivot_root": (155, 41), "keyctl": (250, 219), "add_key": (248, 217), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "memfd_create": (319, 279), "shmget": (29, 194),
    "io_uring_setup": (425, 425), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138), "tkill": (200, 130), "open_by_handle_at": (304, 265), "capset": (126, 91),
    "truncate": (76, 45), "fallocate": (285, 47), "socketpair": (53, 199), "personality": (135, 92),
    "kexec_load": (246, 104), "init_module": (175, 105), "seccomp": (317, 277), "setsid": (112, 157),
}  # fmt: skip
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_PTRACER = 1, 4, 0x59616D61
F_SETSIG, F_SETOWN_EX = 10, 15
SIGCHLD = 17
libc = ctypes.CDLL(None, use_errno=True)


def run(folder, on_event):
    """Try what job.json names, or everything, one after the other; say how each ended."""
    job = json.loads((folder / "job.json").read_text())
    known = ATTEMPTS | ENDLESS
    attempts = {name: known[name] for name in job.get("only", ATTEMPTS)}
    for name, attempt in attempts.items():
        try:
            said = attempt(job, folder) or "done"
        except OSError as error:
            said = errno.errorcode[error.errno]
        except RuntimeError as error:  # of a thread that cannot start
            said = str(error)
        on_event({"event": "tried", "name": name, "said": said})


def call(name, *arguments):
    number = CALLS[name][os.uname().machine == "aarch64"]
    return checked(libc.syscall(ctypes.c_long(number), *map(as_c, arguments)))


def as_c(value):
    return ctypes.c_ulong(value) if isinstance(value, int) else value


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(name):
    return lambda job, folder: Path(job["paths"][name]).read_bytes() and None


def write(name):
    return lambda job, folder: Path(job["paths"][name]).open("ab").close()


def make_beside(name):
    return lambda job, folder: (Path(job["paths"][name]).parent / "planted").touch()


def fork(job, folder):
    if os.fork() == 0:
        os._exit(0)


def clone_a_process(job, folder):
    if call("clone", SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)


def write_over_a_stored_file(job, folder):
    """A stored file is linked into the folder: what changes it here changes it for everybody."""
    (folder / "linked").open("r+b").close()


def loosen_a_stored_file(job, folder):
    (folder / "linked").chmod(0o666)


def replace_a_file_of_the_job(job, folder):
    """Its own folder is the child's to change: the stored file keeps its bytes under its own name."""
    (folder / "linked").unlink()
    (folder / "linked").write_text("other bytes")


def signal_through_a_descriptor(job, folder):
    """Let the kernel signal another process when our pipe is written to."""
    ours, _ = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETOWN, job["victim"])


def signal_with_another_number(job, folder):
    ours, _ = os.pipe()
    fcntl.fcntl(ours, F_SETSIG, signal.SIGKILL)


def signal_by_another_structure(job, folder):
    ours, _ = os.pipe()
    fcntl.fcntl(ours, F_SETOWN_EX, struct.pack("ii", 1, job["victim"]))


def read_memory_of(name):
    def attempt(job, folder):
        with Path(f"/proc/{job[name]}/mem").open("rb") as memory:
            memory.seek(0x1000)

    return attempt


def prctl(option, *arguments):
    filled = [*arguments, 0, 0, 0, 0][:4]
    return lambda job, folder: checked(libc.prctl(option, *map(as_c, filled))) and None


def lend_limits_to_a_victim(job, folder):
    resource.prlimit(job["victim"], resource.RLIMIT_CPU, (0, 0))


def raise_its_own_limits(job, folder):
    checked(libc.setrlimit(resource.RLIMIT_FSIZE, struct.pack("QQ", 2**64 - 1, 2**64 - 1)))


def make_memory_without_a_name(job, folder):
    call("memfd_create", ctypes.c_char_p(b"hidden"), 0)


def open_a_socket(*kind):
    return lambda job, folder: socket.socket(*kind).close()


def run_a_program(job, folder):
    os.execv(sys.executable, [sys.executable, "-c", ""])


def start_a_program(job, folder):
    subprocess.run([sys.executable, "-c", ""], check=True)


def write_outside_by_a_path_with_dots(job, folder):
    (folder / ".." / "planted").touch()


def rename_out_of_the_folder(job, folder):
    (folder / "mine").touch()
    (folder / "mine").rename(Path(job["paths"]["secret"]).parent / "planted")


def call_in_the_foreign_numbering(job, folder):
    """x86_64 has the same calls once more, for programs of 32 bits: 41 is a socket."""
    checked(libc.syscall(ctypes.c_long(0x40000000 + 41), 2, 1, 0))


def start_threads(count):
    def attempt(job, folder):
        done = threading.Event()
        threads = [threading.Thread(target=done.wait) for _ in range(count)]
        try:
            for thread in threads:
                thread.start()
        finally:
            done.set()

    return attempt


def work(job, folder):
    """What an honest job does: threads, temporary files, folders, renames, locks, signals to itself."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"something")
        fcntl.flock(file, fcntl.LOCK_EX)
    (folder / "out.unfinished" / "adapters").mkdir(parents=True)
    (folder / "out.unfinished" / "adapters" / "a.txt").write_text("a")
    (folder / "out.unfinished" / "adapters" / "a.txt").rename(folder / "out.unfinished" / "b.txt")
    (folder / "out.unfinished").rename(folder / "out")
    thread = threading.Thread(target=time.sleep, args=(0.001,))
    thread.start()
    thread.join()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.raise_signal(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    import wave

    return "done" if wave and os.sched_getaffinity(0) and os.urandom(1) else "odd"


def fill_the_folder(job, folder):
    for number in range(512):
        (folder / f"{number}.bin").write_bytes(bytes(2**20))
    time.sleep(600)


def fill_the_disk_by_deleted_files(job, folder):
    """Files that are open and deleted take space and are in no folder."""
    opened = []
    for _ in range(100):
        opened.append(tempfile.TemporaryFile())  # noqa: SIM115
        opened[-1].write(bytes(2**20))
        opened[-1].flush()
    time.sleep(600)


def take_shared_memory(job, folder):
    """What is shared counts in no limit of the kernel's."""
    memory = mmap.mmap(-1, 256 * 2**20)
    memory.write(b"1" * (256 * 2**20 - 1))
    time.sleep(600)


ENDLESS = {
    "fill the folder": fill_the_folder,
    "fill the disk by deleted files": fill_the_disk_by_deleted_files,
    "take shared memory": take_shared_memory,
    "wait a moment": lambda job, folder: time.sleep(0.1),
}
ATTEMPTS = {
    "work": work,
    "read the secrets": read("secret"),
    "read secrets that everybody may read": read("open secret"),
    "read a stored file": read("blob"),
    "read a mail": read("mail"),
    "read the database": read("database"),
    "read another job": read("other job"),
    "read the passwords of the machine": read("shadow"),
    "list the data folder": lambda job, folder: list(Path(job["paths"]["secret"]).parent.iterdir()) and None,
    "list the home folder": lambda job, folder: list(Path(job["paths"]["home"]).iterdir()) and None,
    "change the secrets": write("open secret"),
    "write code": write("code"),
    "add code": make_beside("code"),
    "write into Python": make_beside("python"),
    "write beside the folder": write_outside_by_a_path_with_dots,
    "rename out of the folder": rename_out_of_the_folder,
    "shorten a file outside": lambda job, folder: call(
        "truncate", ctypes.c_char_p(os.fsencode(job["paths"]["open secret"])), 0
    ),
    "write to shared memory": lambda job, folder: Path("/dev/shm/planted").touch(),
    "write to the temporary folder": lambda job, folder: Path("/tmp/planted").touch(),
    "write over a stored file": write_over_a_stored_file,
    "loosen a stored file": loosen_a_stored_file,
    "make a link": lambda job, folder: (folder / "link").symlink_to(job["paths"]["secret"]),
    "make a hard link": lambda job, folder: (folder / "hard").hardlink_to(folder / "job.json"),
    "make a named pipe": lambda job, folder: os.mkfifo(folder / "pipe"),
    "open by a handle": lambda job, folder: call("open_by_handle_at", 0, 0, 0),
    "read the parent's memory": read_memory_of("parent"),
    "read a victim's memory": read_memory_of("victim"),
    "read the parent's environment": lambda job, folder: (
        Path(f"/proc/{job['parent']}/environ").read_bytes() and None
    ),
    "trace a victim": lambda job, folder: call("ptrace", 16, job["victim"], 0, 0),
    "read memory by a call": lambda job, folder: call("process_vm_readv", job["victim"], 0, 0, 0, 0, 0),
    "write memory by a call": lambda job, folder: call("process_vm_writev", job["victim"], 0, 0, 0, 0, 0),
    "fork": fork,
    "clone a process": clone_a_process,
    "run a program": run_a_program,
    "start a program": start_a_program,
    "kill a victim": lambda job, folder: os.kill(job["victim"], signal.SIGKILL),
    "kill the launcher": lambda job, folder: os.kill(os.getppid(), signal.SIGTERM),
    "kill a thread of a victim": lambda job, folder: call("tkill", job["victim"], signal.SIGKILL),
    "kill all": lambda job, folder: os.kill(-1, signal.SIGUSR1),
    "kill the group of a victim": lambda job, folder: os.killpg(job["victim"], signal.SIGKILL),
    "queue a signal": lambda job, folder: call("rt_sigqueueinfo", job["victim"], signal.SIGKILL, 0),
    "take a handle of a victim": lambda job, folder: call("pidfd_open", job["victim"], 0),
    "signal through a descriptor": signal_through_a_descriptor,
    "choose the signal of a descriptor": signal_with_another_number,
    "signal by another structure": signal_by_another_structure,
    "undo the death signal": prctl(PR_SET_PDEATHSIG, 0),
    "let itself be traced": prctl(PR_SET_PTRACER, 2**64 - 1),
    "become dumpable": prctl(PR_SET_DUMPABLE, 1),
    "leave its session": lambda job, folder: call("setsid") and None,
    "limit a victim": lend_limits_to_a_victim,
    "raise its own limits": raise_its_own_limits,
    "spare itself when memory is short": lambda job, folder: Path("/proc/self/oom_score_adj").write_text("0"),
    "become root": lambda job, folder: os.setuid(0),
    "take capabilities": lambda job, folder: call("capset", 0, 0),
    "filter anew": lambda job, folder: call("seccomp", 0, 0, 0),
    "unshare": lambda job, folder: call("unshare", 0x10000000),
    "enter a namespace": lambda job, folder: call("setns", 0, 0),
    "mount": lambda job, folder: call("mount", 0, 0, 0, 0, 0),
    "change the root": lambda job, folder: os.chroot(folder),
    "read keys": lambda job, folder: call("keyctl", 0, 0, 0, 0, 0),
    "load a filter into the kernel": lambda job, folder: call("bpf", 0, 0, 0),
    "load a module into the kernel": lambda job, folder: call("init_module", 0, 0, 0),
    "watch the processor": lambda job, folder: call("perf_event_open", 0, 0, 0, 0, 0),
    "handle page faults": lambda job, folder: call("userfaultfd", 1),
    "make memory without a name": make_memory_without_a_name,
    "share memory": lambda job, folder: call("shmget", 0, 4096, 0o1600),
    "reserve disk": lambda job, folder: call("fallocate", 1, 0, 0, 2**30),
    "open a socket": open_a_socket(socket.AF_INET, socket.SOCK_STREAM),
    "open a datagram socket": open_a_socket(socket.AF_INET, socket.SOCK_DGRAM),
    "open a local socket": open_a_socket(socket.AF_UNIX),
    "open a pair of sockets": lambda job, folder: socket.socketpair() and None,
    "open a ring": lambda job, folder: call("io_uring_setup", 1, ctypes.create_string_buffer(256)),
    "start many threads": start_threads(200),
    "replace a file of the job": replace_a_file_of_the_job,
}
if os.uname().machine == "x86_64":
    ATTEMPTS["call in the foreign numbering"] = call_in_the_foreign_numbering
