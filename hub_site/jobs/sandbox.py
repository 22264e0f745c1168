"""What a child does to itself before it reads anybody's data: limits, and no way out.

Linux only. `python -m hub_site.jobs.sandbox` says what holds on this machine.
"""

import json
import os
import resource
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from hub_site.jobs import kernel
from hub_site.jobs.landlock import landlock_version, limit_files
from hub_site.jobs.own_account import keep_no_capability_but_reading, leave_root
from hub_site.jobs.system_calls import limit_system_calls

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38

MIB = 1024 * 1024

# What libraries read while they compute, beside Python itself: other libraries and the machine's figures.
SYSTEM_FILES = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/nvidia", "/etc/ld.so.cache"),
    *("/etc/localtime", "/usr/share/zoneinfo", "/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat"),
    *("/proc/sys/vm/overcommit_memory", "/proc/driver", "/proc/devices", "/sys"),
)
DEVICES = ("null", "zero", "random", "urandom", "nvidia*", "kfd", "dri")  # in /dev; graphics cards among them


@dataclass(frozen=True)
class Limits:
    """What one child may use."""

    memory_mb: int = 4096  # on top of what the launcher has already imported
    cpu_s: int = 3600  # processor time of all its threads together
    file_mb: int = 2048  # the largest file it may write
    disk_mb: int = 4096  # what its folder may grow by; its parent watches it
    open_files: int = 256
    threads: int = 512  # a library starts some for each processor


@dataclass(frozen=True)
class Sandbox:
    """What a child is kept by, beside the limits and the system-call filter, which every machine has."""

    is_root: bool  # it was started by root
    has_own_account: bool
    landlock_version: int  # 0: the kernel has none


def enter(folder: Path, limits: Limits, *, parent: int, code: list[Path]) -> Sandbox:
    """Give up everything a job does not need. There is no way back.

    Args:
        folder: the job's; the one place where it may write.
        parent: the process that must not outlive us.
        code: where the packages lie that are not among Python's own (`code_folders`).

    Raises:
        OSError: this machine cannot filter system calls.
    """
    raise_oom_score()  # root alone may, once we are another account
    limit_resources(limits)
    reads = [*python_folders(), *map(Path, SYSTEM_FILES), *code]
    is_root, version = os.geteuid() == 0, landlock_version()
    has_own_account = is_root and leave_root(folder)
    keep_no_capability_but_reading(version > 0 or not all(map(is_readable, [*reads, *folder.iterdir()])))
    if has_own_account:  # the limit counts all processes of an account
        lower_limit(resource.RLIMIT_NPROC, limits.threads)
    die_with_parent(parent)  # a change of the account would undo it
    kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)
    if version:
        devices = [path for name in DEVICES for path in Path("/dev").glob(name)]
        limit_files(version, reads=reads, writes=[folder], devices=devices)
    limit_system_calls()
    return Sandbox(is_root, has_own_account, version)


def die_with_parent(parent: int) -> None:
    kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has died before that
        os._exit(1)


def python_folders() -> list[Path]:
    """The libraries of this Python and of its environment."""
    return [Path(prefix, name) for prefix in {sys.prefix, sys.base_prefix} for name in ("lib", "lib64")]


def code_folders() -> list[Path]:
    """The packages imported by now that are not among Python's: the site's own.

    The folder around them is left out: it may hold the site's data.
    """
    found: set[Path] = set()
    for name, module in list(sys.modules.items()):
        if "." not in name:
            places = getattr(module, "__path__", None) or [getattr(module, "__file__", None)]
            found.update(Path(place) for place in places if place)
    return [path for path in sorted(found) if not any(path.is_relative_to(lib) for lib in python_folders())]


def is_readable(path: Path) -> bool:
    """Whether the permissions let us read it, our capabilities apart; what is not there hinders nobody."""
    return os.access(path, os.R_OK) or not os.path.lexists(path)


def limit_resources(limits: Limits) -> None:
    # RLIMIT_AS would count torch's large reserved mappings; RLIMIT_DATA counts what is really writable.
    lower_limit(resource.RLIMIT_DATA, data_in_use() + limits.memory_mb * MIB)
    lower_limit(resource.RLIMIT_CPU, limits.cpu_s, later=1)  # SIGXCPU first: SIGKILL may be anybody's
    lower_limit(resource.RLIMIT_FSIZE, limits.file_mb * MIB)
    lower_limit(resource.RLIMIT_NOFILE, limits.open_files)
    lower_limit(resource.RLIMIT_CORE, 0)


def lower_limit(kind: int, value: int, *, later: int = 0) -> None:
    """Set a limit, within what is allowed now; `later`: by so much the last limit lies behind the first."""
    _, most = resource.getrlimit(kind)
    first, last = (n if most == resource.RLIM_INFINITY else min(n, most) for n in (value, value + later))
    resource.setrlimit(kind, (first, last))


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


def try_sandbox() -> Sandbox:
    """Enter it in a process of its own, and say what it was kept by.

    Raises:
        OSError: no job can run safely on this machine.
    """
    read_end, write_end = os.pipe()
    parent = os.getpid()
    with tempfile.TemporaryDirectory(prefix="lora-hub-sandbox-") as folder:
        pid = os.fork()
        if pid == 0:
            try:
                told = json.dumps(asdict(enter(Path(folder), Limits(), parent=parent, code=[])))
            except OSError as error:
                told = json.dumps({"error": str(error)})
            os.write(write_end, told.encode())
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as answer:
            told = json.load(answer)
        os.waitpid(pid, 0)
    if "error" in told:
        raise OSError(told["error"])
    return Sandbox(**told)


def describe(sandbox: Sandbox) -> list[str]:
    """What holds here, and what does not, in sentences for the operator."""
    kept_by = ["an account of its own"] if sandbox.has_own_account else []
    kept_by += [f"Landlock {sandbox.landlock_version}"] if sandbox.landlock_version else []
    lines = [f"Each job computes in a sandbox: {', '.join([*kept_by, 'a list of system calls'])}."]
    if not sandbox.landlock_version:
        lines.append(
            "This kernel has no Landlock: a job that was taken over could read files that the site can read. "
            "Linux 5.13 or newer has it, unless it is switched off."
        )
    if sandbox.is_root and not sandbox.has_own_account:
        lines.append("Root may not change its account here, so jobs run as root without its rights.")
    if not sandbox.is_root:
        lines.append("Jobs run under the site's own account: only root could give them others.")
    return lines


def main() -> None:
    try:
        lines = describe(try_sandbox())
    except OSError as error:
        lines = [f"No job can run here: {error}"]
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
