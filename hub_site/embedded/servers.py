"""The database and the broker: ours, or those that DATABASE_URL and CELERY_BROKER_URL name."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hub_site.embedded import processes
from hub_site.embedded.folders import DataFolder, remove_short_socket_folder
from hub_site.embedded.postgres import Postgres
from hub_site.embedded.processes import Part
from hub_site.embedded.refusal import EmbeddedError
from hub_site.embedded.valkey import Valkey


@dataclass(frozen=True)
class Servers:
    """None stands for a server that somebody else runs."""

    postgres: Postgres | None
    valkey: Valkey | None
    is_forgetful: bool

    @classmethod
    def under(cls, folder: DataFolder, *, is_forgetful: bool = False) -> "Servers":
        has_database = bool(os.environ.get("DATABASE_URL", "").strip())
        has_broker = bool(os.environ.get("CELERY_BROKER_URL", "").strip())
        postgres = None if has_database else Postgres.under(folder.root / "postgres")
        if postgres:
            postgres.make_cluster()
        return cls(postgres, None if has_broker else Valkey.under(folder.root / "valkey"), is_forgetful)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.postgres.url if self.postgres else os.environ["DATABASE_URL"],
            "CELERY_BROKER_URL": self.valkey.url if self.valkey else os.environ["CELERY_BROKER_URL"],
        }

    @property
    def parts(self) -> list[Part]:
        parts = [self.postgres.part(is_forgetful=self.is_forgetful)] if self.postgres else []
        return [*parts, self.valkey.part()] if self.valkey else parts

    def clear_away(self) -> None:
        for socket_folder in (
            self.postgres.sockets if self.postgres else None,
            self.valkey.socket.parent if self.valkey else None,
        ):
            if socket_folder is not None:
                remove_short_socket_folder(socket_folder)


@contextlib.contextmanager
def running_servers(folder: DataFolder, *, is_forgetful: bool = False) -> Iterator[Servers]:
    """The servers for as long as one command needs them."""
    servers = Servers.under(folder, is_forgetful=is_forgetful)
    with contextlib.ExitStack() as stack:
        stack.callback(servers.clear_away)
        for part in servers.parts:
            log_file = folder.logs / f"{part.name}.log"
            running = processes.start(part, log_file)
            stack.callback(stop, running)
            require_ready(running, log_file)
        if servers.postgres:
            servers.postgres.make_database()
        yield servers


def require_ready(running: processes.Running, log_file: Path) -> None:
    part = running.part
    processes.wait_for(lambda: part.is_ready() or not running.is_alive, timeout_s=part.ready_timeout_s)
    if not running.is_alive or not part.is_ready():
        raise EmbeddedError(f"{part.name} did not start. {log_file} ends with:\n{processes.tail(log_file)}")


def stop(running: processes.Running) -> None:
    processes.ask_to_stop(running)
    processes.finish(running, deadline_s=time.monotonic() + running.part.stop_timeout_s)
