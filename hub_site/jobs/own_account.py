"""Give up root: every child gets an account of its own, which nothing else on the machine has."""

import os
import struct
from pathlib import Path

from hub_site.jobs import kernel

PR_SET_KEEPCAPS = 8
CAPABILITY_VERSION = 0x20080522
CAP_DAC_READ_SEARCH = 2  # read whatever the permissions of files say; Landlock still has its say

# Numbers no account has (systemd's UIDS-GIDS.md calls the range unused); a container may have only the first
# 65536, so there it is one of those that systemd lends to services.
FIRST_UID = 2_000_000_000
FIRST_LENT_UID, LENT_UIDS = 61184, 4336


def leave_root(folder: Path) -> bool:
    """Become an account made up from the process's number, the owner of `folder`; False if that cannot be.

    The right to read files stays if we had it: the site, its Python and the job's files may lie where only
    root can read. Landlock must bound it (hub_site.jobs.landlock). Every other capability goes.
    """
    kernel.prctl(PR_SET_KEEPCAPS, 1)
    for uid in (FIRST_UID + os.getpid(), FIRST_LENT_UID + os.getpid() % LENT_UIDS):
        if become(uid, folder):
            return True
    return False


def become(uid: int, folder: Path) -> bool:
    try:
        os.chown(folder, uid, uid)
        os.setgroups(device_groups())
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:  # the container has no such number, or its root may not do this
        return False
    return True


def device_groups() -> list[int]:
    """The groups that may use graphics cards, where those are not for everybody."""
    devices = [*Path("/dev").glob("kfd"), *Path("/dev").glob("dri/render*")]
    return sorted({device.stat().st_gid for device in devices} - {0})


def keep_no_capability_but_reading(is_kept: bool) -> None:
    """Drop every capability, that to read any file too unless `is_kept`; nothing that we lack is gained."""
    kept = permitted_capabilities() & (1 << CAP_DAC_READ_SEARCH) if is_kept else 0
    # two rows of effective, permitted and inheritable: the lower and the upper 32 capabilities
    kernel.capset(struct.pack("Ii", CAPABILITY_VERSION, 0), struct.pack("6I", kept, kept, 0, 0, 0, 0))


def permitted_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapPrm":
            return int(value, 16)
    return 0
