"""The site's web server as a process of its own, on the tests' database: real HTTP for real clients."""

import contextlib
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection

from hub_site.embedded.processes import wait_for

READY_TIMEOUT_S = 60
CLIENT_TIMEOUT_S = 120


class ServedSite:
    """uvicorn with the site, in a data folder of its own."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.data, self.port = data, free_port()
        for name in ("blobs", "jobs", "run", "uploads"):
            (data / name).mkdir(parents=True, exist_ok=True)
        database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "hub_site.settings.test",
            "DATABASE_URL": database.geturl(),
            "HUB_DATABASE_POOL": "8",
            "HUB_DATA": str(data),
            "CELERY_BROKER_URL": "memory://",
            "PYTHONPATH": str(settings.BASE_DIR),
            **environment,
        }
        self.log = data / "web.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = [
            "-m",
            "uvicorn",
            "hub_site.asgi:application",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        words += ["--http", "hub_site.http_protocol:TimedProtocol"]
        words += ["--lifespan", "off", "--no-access-log", "--timeout-graceful-shutdown", "1"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words], env=self.environment, cwd=settings.BASE_DIR, stdout=log, stderr=log
            )
        assert wait_for(self.answers, timeout_s=READY_TIMEOUT_S), self.log.read_text(encoding="utf-8")

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health/", timeout=5) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=20)

    def client(self, home: Path, *, token: str = "", python: Path | str = sys.executable) -> "HubCommandLine":
        return HubCommandLine(self, home, token=token, python=Path(python))


class HubCommandLine:
    """A person's machine with the Hub's client on it, its settings as they come, pointed at the site."""

    def __init__(self, site: ServedSite, home: Path, *, token: str, python: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUB_"))}
        self.site, self.home, self.python = site, home, python
        self.environment = kept | {
            "HF_ENDPOINT": site.address,
            "HOME": str(home),
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",  # it would ask a package registry
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
            "COLUMNS": "300",
        }
        self.environment.pop("PYTHONPATH", None)
        if token:
            self.environment["HF_TOKEN"] = token

    def hf(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return self._run([self.python.parent / "hf", *words], environment)

    def python_code(self, code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return self._run([self.python, "-c", code], environment)

    def says(self, code: str, **environment: str) -> str:
        """What a program prints; it must succeed."""
        done = self.python_code(code, **environment)
        assert done.returncode == 0, (
            f"{done.stdout}\n{done.stderr}\n{self.site.log.read_text(encoding='utf-8')}"
        )
        return done.stdout.strip()

    def _run(self, command: list[object], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        self.home.mkdir(parents=True, exist_ok=True)
        return subprocess.run(
            [str(word) for word in command],
            env=self.environment | environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=CLIENT_TIMEOUT_S,
        )


@contextlib.contextmanager
def served_site(data: Path, **environment: str) -> Iterator[ServedSite]:
    site = ServedSite(data, **environment)
    site.start()
    try:
        yield site
    finally:
        site.stop()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
