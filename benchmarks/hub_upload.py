"""How long `hf upload` of a 100 MB module takes, how much of it is ours, and what it costs in memory.

    python -m benchmarks.hub_upload [--megabytes 100] [--repeats 3] [--out FOLDER]

Starts the site's own web server and database in a folder of their own, on this machine, and uploads with
the Hub's client as it comes (Xet installed, no other setting than where the site is). “Ours” is the time
from the first byte of the client's commit to the answer, with a body that was prepared beforehand.
"""

import argparse
import base64
import contextlib
import http.client
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil
from safetensors.numpy import save_file

from hub_site.embedded.environment import site_environment
from hub_site.embedded.folders import REPOSITORY, DataFolder
from hub_site.embedded.processes import wait_for
from hub_site.embedded.servers import running_servers

RESULTS = REPOSITORY / "benchmarks" / "results"
MB = 1_000_000
WIDTH, RANK = 12_288, 16
PAIR_BYTES = 2 * WIDTH * RANK * 4
PROMISES = {"hf_upload_s": 8.0, "commit_s": 3.0, "memory_growth_mb": 150.0}
MAKE_TOKEN = (
    "from hub_site.accounts.services import user_create, token_create;"
    "user = user_create(username='alice', password=None);"
    "print(token_create(user=user, label='benchmark', scope='write')[1])"
)


@dataclass(frozen=True)
class WebProcess:
    """The web server under test."""

    process: psutil.Process
    port: int
    token: str

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class PeakMemory(threading.Thread):
    """Watches a process's resident memory, in bytes."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.process, self.over = process, threading.Event()
        self.peak: int = process.memory_info().rss
        self.before: int = self.peak

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.peak = max(self.peak, self.process.memory_info().rss)

    @property
    def growth_mb(self) -> float:
        return (self.peak - self.before) / MB


@contextlib.contextmanager
def watched(process: psutil.Process) -> Iterator[PeakMemory]:
    memory = PeakMemory(process)
    memory.start()
    try:
        yield memory
    finally:
        memory.over.set()
        memory.join()


@contextlib.contextmanager
def running_web(root: Path) -> Iterator[WebProcess]:
    folder = DataFolder(root / "var")
    folder.make()
    with running_servers(folder, is_forgetful=True) as servers:
        port = free_port()
        environment = site_environment(folder, servers.environment, "hub_site.settings.prod") | {
            "HUB_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "HUB_DATABASE_POOL": "8",
            "PYTHONPATH": str(REPOSITORY),
        }
        manage(environment, "migrate", "--verbosity", "0")
        manage(environment, "collectstatic", "--no-input", "--verbosity", "0")
        token = manage(environment, "shell", "--verbosity", "0", "-c", MAKE_TOKEN).split()[-1]
        command = ["-m", "uvicorn", "hub_site.asgi:application", "--port", str(port), "--lifespan", "off"]
        process = subprocess.Popen(
            [sys.executable, *command, "--no-access-log"], env=environment, cwd=REPOSITORY
        )
        try:
            wait_for(lambda: is_up(port), timeout_s=60)
            yield WebProcess(psutil.Process(process.pid), port, token)
        finally:
            process.terminate()
            process.wait()


def manage(environment: Mapping[str, str], *words: str) -> str:
    command = [sys.executable, "-W", "ignore", str(REPOSITORY / "manage.py"), *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def is_up(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def make_module(folder: Path, megabytes: int, seed: int) -> Path:
    """An adapter of that size, for a base that the library does not have."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    tensors = {}
    for layer in range(megabytes * MB // PAIR_BYTES):
        for factor, shape in (("A", (RANK, WIDTH)), ("B", (WIDTH, RANK))):
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{factor}.weight"
            tensors[name] = random.normal(size=shape).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "base_model_name_or_path": "meta/large",
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ["q_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Large\n", encoding="utf-8")
    return folder


def measure(web: WebProcess, root: Path, megabytes: int, number: int) -> dict[str, float]:
    upload = make_module(root / f"upload-{number}", megabytes, seed=2 * number)
    with watched(web.process) as memory:
        upload_s = hf_upload(web, root / "home", upload, f"alice/upload-{number}")
    commit = make_module(root / f"commit-{number}", megabytes, seed=2 * number + 1)
    body = commit_body(commit, root / f"body-{number}")
    with watched(web.process) as memory_of_commit:
        commit_s = post_commit(web, body, f"alice/commit-{number}")
    return {
        "hf_upload_s": upload_s,
        "commit_s": commit_s,
        "memory_growth_mb": max(memory.growth_mb, memory_of_commit.growth_mb),
        "memory_before_mb": memory.before / MB,
    }


def hf_upload(web: WebProcess, home: Path, folder: Path, name: str) -> float:
    """Seconds from typing `hf upload` to the prompt."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    mine = {"HF_ENDPOINT": web.address, "HF_TOKEN": web.token, "HF_HOME": str(home)}
    command = [Path(sys.executable).parent / "hf", "upload", name, folder]
    begun = time.perf_counter()
    subprocess.run(
        [str(word) for word in command],
        env=kept | mine | {"HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - begun


def commit_body(folder: Path, path: Path) -> Path:
    """The commit as the client sends it."""
    lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": "Upload", "description": ""}}]
    for file in sorted(folder.iterdir()):
        content = base64.b64encode(file.read_bytes()).decode()
        value = {"content": content, "path": file.name, "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    with path.open("w", encoding="ascii") as body:
        body.writelines(json.dumps(line) + "\n" for line in lines)
    return path


def post_commit(web: WebProcess, body: Path, name: str) -> float:
    request(web, "POST", "/api/repos/create", json.dumps({"name": name}).encode())
    with body.open("rb") as stream:
        begun = time.perf_counter()
        request(web, "POST", f"/api/models/{name}/commit/main", stream, length=body.stat().st_size)
        return time.perf_counter() - begun


def request(
    web: WebProcess, method: str, path: str, body: bytes | BinaryIO, *, length: int | None = None
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=120, blocksize=1024**2)
    headers = {"Authorization": f"Bearer {web.token}", "Content-Type": "application/json"}
    if length is not None:
        headers["Content-Length"] = str(length)
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == 200, f"{path}: {answer.status} {said[:500]!r}"
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lora-hub-upload-") as name:
        root = Path(name)
        root.chmod(0o711)  # the database's account passes through
        with running_web(root) as web:
            rows = [measure(web, root, arguments.megabytes, number) for number in range(arguments.repeats)]
    medians = {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}
    result = {
        "megabytes": arguments.megabytes,
        "repeats": arguments.repeats,
        "median": medians,
        "worst": {key: round(max(row[key] for row in rows), 2) for key in rows[0]},
        "promised_at_most": PROMISES,
        "machine": {
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "hub_upload.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
