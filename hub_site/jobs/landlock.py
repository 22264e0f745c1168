"""Which files a process may reach, by Landlock (landlock(7)): no privilege needed, Linux 5.13 or newer.

Permissions of files still hold; Landlock only takes away.
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path

from hub_site.jobs import kernel

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every machine
ASK_VERSION = 1
RULE_PATH_BENEATH = 1

# The rights, as bits of a mask. Links, devices, sockets and named pipes are nowhere granted.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
READING = READ_FILE | READ_DIR
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV
WRITING = READING | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # the others make sense for folders alone

# How many rights each version of Landlock knows, and from which on it limits TCP, signals, abstract sockets
RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
RIGHTS_OF_NEWEST = 16
VERSION_WITH_TCP, VERSION_WITH_SCOPES = 4, 6
BIND_AND_CONNECT = 0b11
SIGNALS_AND_ABSTRACT_SOCKETS = 0b11


def landlock_version() -> int:
    """The version of this kernel's Landlock; 0 where it has none or has it switched off."""
    try:
        return kernel.system_call(CREATE_RULESET, 0, 0, ASK_VERSION)
    except OSError:
        return 0


def limit_files(
    version: int, *, reads: Iterable[Path], writes: Iterable[Path], devices: Iterable[Path]
) -> None:
    """Allow this process and its threads these files and folders, and what is in them, and no others.

    A path that does not exist is left out. Needs NO_NEW_PRIVS. Files that are open stay so.

    Args:
        version: of Landlock, at least 1.
    """
    rights = (1 << RIGHTS_BY_VERSION.get(version, RIGHTS_OF_NEWEST)) - 1
    ruleset = kernel.system_call(CREATE_RULESET, *attribute(version, rights), 0)
    try:
        for paths, granted in ((reads, READING), (writes, WRITING), (devices, DEVICE)):
            for path in paths:
                grant(ruleset, path, granted & rights)
        kernel.system_call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def attribute(version: int, rights: int) -> tuple[bytes, int]:
    """struct landlock_ruleset_attr and its size: what is limited."""
    words = [rights]
    if version >= VERSION_WITH_TCP:
        words.append(BIND_AND_CONNECT)
    if version >= VERSION_WITH_SCOPES:
        words.append(SIGNALS_AND_ABSTRACT_SOCKETS)
    packed = struct.pack(f"{len(words)}Q", *words)
    return packed, len(packed)


def grant(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = rights if path.is_dir() else rights & OF_FILES
        kernel.system_call(ADD_RULE, ruleset, RULE_PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)
