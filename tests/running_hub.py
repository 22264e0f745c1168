"""The whole site as a person at a terminal has it: `./hub up` in a data folder of its own."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
from django.conf import settings

from hub_site.embedded.folders import DataFolder
from hub_site.embedded.processes import wait_for
from hub_site.embedded.record import SupervisorRecord

READY_TIMEOUT_S = 240
AWKWARD_NAME = "a folder with a long name, " * 5  # longer than a socket's path may be


class Hub:
    """./hub in a data folder of its own, as a person at a terminal uses it."""

    def __init__(self, root: Path) -> None:
        self.folder = DataFolder(root / AWKWARD_NAME.strip(" ,") / "var")
        self.port = free_port()
        kept = {name: value for name, value in os.environ.items() if name not in given_by_our_own_runner()}
        self.environment = kept | {
            "HUB_DATA": str(self.folder.root),
            "HF_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "HF_TOKEN": "hf_of_the_operator",
            "HUB_SIGNUPS_AN_HOUR": "1000",  # the tests of one run share a site
            "HUB_EXAMPLE_REPORT": "no",  # it would compute beside what a test watches
        }
        self.output = root / "output"
        self.up_process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        with self.output.open("wb") as output:
            self.up_process = subprocess.Popen(
                [settings.BASE_DIR / "hub", "up", "--port", str(self.port)],
                env=self.environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def call(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [settings.BASE_DIR / "hub", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    def wait_until_healthy(self) -> None:
        done = wait_for(
            lambda: self.is_healthy() or self.up_process.poll() is not None, timeout_s=READY_TIMEOUT_S
        )
        assert done, self.printed
        assert self.is_healthy(), self.printed

    def is_healthy(self) -> bool:
        return "LoRA Hub is ready" in self.printed

    @property
    def printed(self) -> str:
        return self.output.read_text(encoding="utf-8")

    @property
    def record(self) -> SupervisorRecord:
        return SupervisorRecord.read(self.folder)

    def pid(self, part: str) -> int:
        return self.record.parts[part][0].pid

    def status_of(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"{self.address}{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def processes(self) -> list[psutil.Process]:
        """Every process that has our data folder in its environment or on its command line."""
        marker, found = str(self.folder.root), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = [*process.cmdline(), *process.environ().values()]
                if process.pid != os.getpid() and any(marker in word for word in words):
                    found.append(process)
        return found


def given_by_our_own_runner() -> set[str]:
    return {"DATABASE_URL", "CELERY_BROKER_URL", "HUB_SECRET_KEY", "DJANGO_SETTINGS_MODULE", "HUB_DATA"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def temporary_hub() -> Iterator[Hub]:
    """A Hub that is not up yet; whatever is still there at the end is stopped and removed."""
    root = Path(tempfile.mkdtemp(prefix="lora-hub-up-"))
    root.chmod(0o711)
    hub = Hub(root)
    try:
        yield hub
    finally:
        hub.call("down")
        for process in hub.processes():
            process.kill()
        shutil.rmtree(root)
