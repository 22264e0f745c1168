"""What a child does to itself before it reads anybody's data: limits, and no way out.

Linux only. The system-call filter is classic BPF through prctl: no privilege and no package needed.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

# Numbers from the kernel's syscall tables. Every way to a network or to another process or program;
# io_uring is here because it opens sockets behind the filter's back.
DENIED_CALLS = {
    "x86_64": {
        "socket": 41, "connect": 42, "accept": 43, "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50,
        "execve": 59, "ptrace": 101, "accept4": 288, "process_vm_readv": 310, "process_vm_writev": 311,
        "execveat": 322, "io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438,
    },
    "aarch64": {
        "socket": 198, "bind": 200, "listen": 201, "accept": 202, "connect": 203, "sendto": 206,
        "sendmsg": 211,
        "execve": 221, "ptrace": 117, "accept4": 242, "process_vm_readv": 270, "process_vm_writev": 271,
        "execveat": 281, "io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438,
    },
}  # fmt: skip
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_CALL_BIT = 0x40000000  # x86_64's second numbering of the same calls

LOAD_WORD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
OFFSET_OF_CALL, OFFSET_OF_ARCH = 0, 4  # in struct seccomp_data
ALLOW, DENY_WITH_EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What one child may use."""

    memory_mb: int = 4096  # on top of what the launcher has already imported
    cpu_s: int = 3600  # processor time of all its threads together
    file_mb: int = 2048  # the largest file it may write
    open_files: int = 256


def enter(limits: Limits) -> None:
    """Give up everything a job does not need. There is no way back."""
    die_with_parent()
    limit_resources(limits)
    raise_oom_score()
    forbid_network()


def die_with_parent() -> None:
    parent = os.getppid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died between the two lines
        os._exit(1)


def limit_resources(limits: Limits) -> None:
    # RLIMIT_AS would count torch's large reserved mappings; RLIMIT_DATA counts what is really writable.
    memory = data_in_use() + limits.memory_mb * MIB
    wanted = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_FSIZE: limits.file_mb * MIB,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        _, most = resource.getrlimit(kind)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))


def data_in_use() -> int:
    """The bytes RLIMIT_DATA counts already, inherited from the launcher's imports."""
    return status_bytes(Path("/proc/self/status"), "VmData")


def status_bytes(status: Path, field: str) -> int:
    """One memory figure of /proc/<pid>/status, in bytes; 0 when it is not there (a zombie has none)."""
    for line in status.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return 0


def raise_oom_score() -> None:
    """When the machine runs out of memory, let this child go rather than the worker or the database."""
    Path("/proc/self/oom_score_adj").write_text("1000")


def forbid_network() -> None:
    """Refuse the denied calls with EPERM from here on, in this process and all it may fork."""
    machine = platform.machine()
    if machine not in AUDIT_ARCH:
        raise OSError(f"No system-call filter is known for {machine}; jobs cannot run safely here.")
    program = filter_program(AUDIT_ARCH[machine], sorted(DENIED_CALLS[machine].values()))
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a 16-bit count, padding, a pointer
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(header, len(header)))


def filter_program(arch: int, denied: list[int]) -> bytes:
    """Classic BPF: a foreign architecture is killed, a denied call gets EPERM, all else passes."""
    to_deny = len(denied) + 1  # how far a jump at the first comparison has to reach
    lines = [
        (LOAD_WORD, 0, 0, OFFSET_OF_ARCH),
        (JUMP_IF_EQUAL, 0, to_deny + 3, arch),
        (LOAD_WORD, 0, 0, OFFSET_OF_CALL),
        (JUMP_IF_AT_LEAST, to_deny, 0, X32_CALL_BIT),
        *((JUMP_IF_EQUAL, to_deny - 1 - index, 0, call) for index, call in enumerate(denied)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, DENY_WITH_EPERM),
        (RETURN, 0, 0, KILL),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def prctl(option: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    filled = [*arguments, *(0,) * (4 - len(arguments))]
    as_long = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in filled]
    if libc.prctl(option, *as_long) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")
