"""What runs, written down: for `status` and `down`, and for the next `up` after a supervisor was killed."""

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from hub_site.embedded.folders import DataFolder, write_private
from hub_site.embedded.processes import Identity


@dataclass
class SupervisorRecord:
    """Who supervises, at which address, and every part that was started, in the order of starting."""

    supervisor: Identity
    address: str
    parts: dict[str, tuple[Identity, signal.Signals]] = field(default_factory=dict)
    is_healthy: bool = False
    has_security_contact: bool = False

    def write(self, folder: DataFolder) -> None:
        parts = {name: {**asdict(who), "stop": int(how)} for name, (who, how) in self.parts.items()}
        text = json.dumps(
            {
                "supervisor": asdict(self.supervisor),
                "address": self.address,
                "is_healthy": self.is_healthy,
                "has_security_contact": self.has_security_contact,
                "parts": parts,
            }
        )
        write_private(folder.record_file, text)

    @classmethod
    def read(cls, folder: DataFolder) -> "SupervisorRecord | None":
        if not folder.record_file.exists():
            return None
        stored = json.loads(folder.record_file.read_text(encoding="utf-8"))
        parts = {
            name: (Identity(part["pid"], part["began"]), signal.Signals(part["stop"]))
            for name, part in stored["parts"].items()
        }
        return cls(
            Identity(**stored["supervisor"]),
            stored["address"],
            parts,
            stored["is_healthy"],
            stored.get("has_security_contact", False),  # an older supervisor did not write it
        )


def names_security_contact() -> bool:
    """Whether this process's environment says whom to tell of a fault of the site."""
    return bool(os.environ.get("HUB_SECURITY_CONTACT", "").strip())


@contextlib.contextmanager
def only_one(folder: DataFolder) -> Iterator[bool]:
    """Hold the data folder's lock. False if another process has it; the system lets go of a dead one's."""
    descriptor = os.open(folder.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
