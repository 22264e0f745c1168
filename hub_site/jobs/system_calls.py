"""Which system calls a child may make: a list, and everything else is refused with EPERM.

The filter is classic BPF (seccomp(2)): no privilege and no package needed. What a job never needs is not in
the list: sockets, programs, other processes and their signals, links, modes and owners of files, memory
without a name, mounts, keys, namespaces, tracing. Some calls are allowed with certain arguments alone.
"""

import ctypes
import os
import platform
import struct

from hub_site.jobs import kernel

PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
MACHINES = ("x86_64", "aarch64")  # the order of the numbers below
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_CALL_BIT = 0x40000000  # x86_64's second numbering of the same calls
NEWEST_CALL = (
    456  # a newer one is answered with ENOSYS, as by an older kernel: the C library then does without
)

# Numbers from the kernel's system-call tables; None: the machine has no such call.
ALLOWED_CALLS: dict[str, tuple[int, int | None]] = {
    # files that are open
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "pwrite64": (18, 68), "preadv": (295, 69), "pwritev": (296, 70), "preadv2": (327, 286),
    "pwritev2": (328, 287), "lseek": (8, 62), "close": (3, 57), "close_range": (436, 436), "dup": (32, 23),
    "dup2": (33, None), "dup3": (292, 24), "fstat": (5, 80), "ftruncate": (77, 46), "flock": (73, 32),
    "fsync": (74, 82), "fdatasync": (75, 83), "sync_file_range": (277, 84), "fadvise64": (221, 223),
    "readahead": (187, 213), "getdents": (78, None), "getdents64": (217, 61), "sendfile": (40, 71),
    "copy_file_range": (326, 285),
    # files by their path: Landlock says which, and nobody makes links, devices or pipes with a name
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "creat": (85, None), "stat": (4, None),
    "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None),
    "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78),
    "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "unlink": (87, None), "unlinkat": (263, 35), "statfs": (137, 43),
    "fstatfs": (138, 44), "umask": (95, 166),
    # memory
    "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226), "madvise": (28, 233),
    "brk": (12, 214), "msync": (26, 227), "mincore": (27, 232), "mlock": (149, 228), "mlock2": (325, 284),
    "munlock": (150, 229), "membarrier": (324, 283), "get_mempolicy": (239, 236),
    "set_mempolicy": (238, 237), "mbind": (237, 235), "pkey_alloc": (330, 289), "pkey_free": (331, 290),
    "pkey_mprotect": (329, 288),
    # threads and time
    "exit": (60, 93), "exit_group": (231, 94), "futex": (202, 98), "futex_waitv": (449, 449),
    "set_robust_list": (273, 99), "set_tid_address": (218, 96), "rseq": (334, 293),
    "restart_syscall": (219, 128), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121), "sched_getscheduler": (145, 120), "sched_getattr": (315, 275),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126), "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getitimer": (36, 102),
    "setitimer": (38, 103), "alarm": (37, None), "timer_create": (222, 107), "timer_settime": (223, 110),
    "timer_gettime": (224, 108), "timer_getoverrun": (225, 109), "timer_delete": (226, 111),
    "timerfd_create": (283, 85), "timerfd_settime": (286, 86), "timerfd_gettime": (287, 87),
    "wait4": (61, 260), "waitid": (247, 95), "futex_wake": (454, 454), "futex_wait": (455, 455),
    "futex_requeue": (456, 456),
    # waiting, and pipes without a name
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "epoll_create": (213, None), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441), "eventfd": (284, None),
    "eventfd2": (290, 19), "pipe": (22, None), "pipe2": (293, 59), "pause": (34, None),
    # its own signals
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigpending": (127, 136),
    "rt_sigreturn": (15, 139), "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    # who and where it is
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174),
    "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getresuid": (118, 148),
    "getresgid": (120, 150), "getgroups": (115, 158), "getpgrp": (111, None), "getpgid": (121, 155),
    "getsid": (124, 156), "getpriority": (140, 141), "getrlimit": (97, 163), "getrusage": (98, 165),
    "getcpu": (309, 168), "getrandom": (318, 278), "sysinfo": (99, 179), "uname": (63, 160),
    "capget": (125, 90), "arch_prctl": (158, None),
}  # fmt: skip
# Allowed with certain arguments; see `filter_program`.
CLONE, CLONE3 = (56, 220), (435, 435)
KILL, TGKILL = (62, 129), (234, 131)
PRCTL, PRLIMIT64 = (157, 167), (302, 261)
FCNTL, IOCTL = (72, 25), (16, 29)

CLONE_THREAD = 0x00010000
# PR_GET_PDEATHSIG, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_SET_VMA (the C library names its memory)
ALLOWED_PRCTL = (2, 15, 16, 21, 0x53564D41)
# Each makes the kernel send a signal on our behalf: F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY
DENIED_FCNTL = (8, 10, 15, 1024, 1026)
# FIOSETOWN and SIOCSPGRP do so too; TIOCSTI, TIOCLINUX and TIOCSCTTY type into or take a terminal
DENIED_IOCTL = (0x8901, 0x8902, 0x5412, 0x541C, 0x540E)

LOAD_WORD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
OFFSET_OF_CALL, OFFSET_OF_ARCH, OFFSET_OF_ARGUMENTS = 0, 4, 16  # in struct seccomp_data
ALLOW, DENY_WITH_EPERM, DENY_WITH_ENOSYS, KILL_PROCESS = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000

Line = tuple[int, int, int, int]  # an instruction: code, lines to skip if true, if false, and its constant


def limit_system_calls() -> None:
    """Allow this process and its threads the listed calls alone. Needs NO_NEW_PRIVS or root.

    Raises:
        OSError: the machine is of another type, or its kernel has no such filter.
    """
    machine = platform.machine()
    if machine not in AUDIT_ARCH:
        raise OSError(f"No system-call filter is known for {machine}; jobs cannot run safely here.")
    program = filter_program(machine, os.getpid())
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a 16-bit count, padding, a pointer
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    kernel.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(header, len(header)))


def filter_program(machine: str, pid: int) -> bytes:
    """The filter for one process: a foreign architecture ends it, a call outside the list gets EPERM.

    A process may make threads, signal itself, and read or lower its own limits; it may make no process.
    """
    column = MACHINES.index(machine)
    allowed = [numbers[column] for numbers in ALLOWED_CALLS.values()]
    lines = [
        (LOAD_WORD, 0, 0, OFFSET_OF_ARCH),
        (JUMP_IF_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD_WORD, 0, 0, OFFSET_OF_CALL),
        (JUMP_IF_AT_LEAST, 0, 1, X32_CALL_BIT),
        (RETURN, 0, 0, DENY_WITH_EPERM),
        *(line for number in allowed if number is not None for line in answer(number, ALLOW)),
        *answer(CLONE3[column], DENY_WITH_ENOSYS),  # its flags lie in memory; the C library takes clone then
        *when_argument(CLONE[column], 0, JUMP_IF_SET, (CLONE_THREAD,), ALLOW, DENY_WITH_EPERM),
        *when_argument(KILL[column], 0, JUMP_IF_EQUAL, (pid,), ALLOW, DENY_WITH_EPERM),
        *when_argument(TGKILL[column], 0, JUMP_IF_EQUAL, (pid,), ALLOW, DENY_WITH_EPERM),
        *when_argument(PRCTL[column], 0, JUMP_IF_EQUAL, ALLOWED_PRCTL, ALLOW, DENY_WITH_EPERM),
        *when_argument(PRLIMIT64[column], 0, JUMP_IF_EQUAL, (0, pid), ALLOW, DENY_WITH_EPERM),
        *when_argument(FCNTL[column], 1, JUMP_IF_EQUAL, DENIED_FCNTL, DENY_WITH_EPERM, ALLOW),
        *when_argument(IOCTL[column], 1, JUMP_IF_EQUAL, DENIED_IOCTL, DENY_WITH_EPERM, ALLOW),
        (JUMP_IF_AT_LEAST, 0, 1, NEWEST_CALL + 1),
        (RETURN, 0, 0, DENY_WITH_ENOSYS),
        (RETURN, 0, 0, DENY_WITH_EPERM),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def answer(number: int, said: int) -> list[Line]:
    """End the filter with `said` for this call."""
    return [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, said)]


def when_argument(
    number: int, index: int, test: int, values: tuple[int, ...], said: int, otherwise: int
) -> list[Line]:
    """End the filter for this call: `said` if its argument passes the test with any value, else `otherwise`.

    The lower 32 bits of the argument are tested; the kernel reads no more of these.
    """
    tests = [line for value in values for line in ((test, 0, 1, value), (RETURN, 0, 0, said))]
    block = [(LOAD_WORD, 0, 0, OFFSET_OF_ARGUMENTS + 8 * index), *tests, (RETURN, 0, 0, otherwise)]
    return [(JUMP_IF_EQUAL, 0, len(block), number), *block]
