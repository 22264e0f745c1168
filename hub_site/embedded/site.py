"""The site's own programs as parts: the web server, the workers, the scheduler."""

import http.client
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from hub_site.embedded.folders import REPOSITORY, DataFolder
from hub_site.embedded.processes import Part

WEB_DATABASE_POOL = "20"  # requests at one moment; a thread of its own serves each
LAUNCHER_READY = "launcher.ready"
PRELOAD_TIMEOUT_S = 180.0  # torch, transformers and peft on a slow disk


@dataclass(frozen=True)
class Site:
    """What the parts share: the folder, the environment, and the address."""

    folder: DataFolder
    environment: Mapping[str, str]
    host: str
    port: int

    @property
    def address(self) -> str:
        return self.environment["HUB_PUBLIC_URL"]

    def manage(self, *arguments: str) -> list[str]:
        return [sys.executable, str(REPOSITORY / "manage.py"), *arguments]

    def web(self) -> Part:
        is_https = urlsplit(self.address).scheme == "https"
        proxies = os.environ.get("HUB_TRUSTED_PROXIES", "").strip() or ("127.0.0.1" if is_https else "")
        command = [
            *(sys.executable, "-m", "uvicorn", "hub_site.asgi:application"),
            *("--host", self.host, "--port", str(self.port)),
            *("--timeout-graceful-shutdown", "2", "--lifespan", "off"),
            *("--http", "hub_site.http_protocol:TimedProtocol"),
            *("--no-access-log", "--no-server-header"),  # an address may hold a password reset's key
            *(("--proxy-headers", "--forwarded-allow-ips", proxies) if proxies else ("--no-proxy-headers",)),
        ]
        pool = os.environ.get("HUB_DATABASE_POOL", "").strip() or WEB_DATABASE_POOL
        return Part(
            name="web",
            command=command,
            environment={**self.environment, "HUB_DATABASE_POOL": pool},
            is_ready=self.web_answers,
            folder=REPOSITORY,
            stop_timeout_s=8.0,
        )

    def web_answers(self) -> bool:
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        connection = http.client.HTTPConnection(reachable, self.port, timeout=5)
        try:
            connection.request("GET", "/health/ready", headers={"Host": "localhost"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def workers(self) -> list[Part]:
        return [
            self.worker("default", concurrency=2),
            self.worker("transfer", concurrency=2),
            self.worker("compose", concurrency=1, also_ready=(self.folder.run / LAUNCHER_READY,)),
            self.worker("try", concurrency=4),
            self.scheduler(),
        ]

    def worker(self, queue: str, *, concurrency: int, also_ready: tuple[Path, ...] = ()) -> Part:
        options = [
            *("worker", "--queues", queue, "--hostname", f"{queue}@%h"),
            *("--pool", "threads", "--concurrency", str(concurrency)),
            *("--without-gossip", "--without-mingle", "--loglevel", "INFO"),
        ]
        return self.celery_part(f"worker-{queue}", options, also_ready, {"HUB_QUEUE": queue})

    def scheduler(self) -> Part:
        options = ["beat", "--schedule", str(self.folder.run / "schedule"), "--pidfile", ""]
        return self.celery_part("scheduler", options, (), {})

    def celery_part(
        self, name: str, options: list[str], also_ready: tuple[Path, ...], extra: dict[str, str]
    ) -> Part:
        ready_files = (self.folder.run / f"{name}.ready", *also_ready)
        return Part(
            name=name,
            command=[sys.executable, "-m", "celery", "--app", "hub_site.celery", *options],
            environment={
                **self.environment,
                **extra,
                "HUB_DATABASE_POOL": "0",
                "HUB_READY_FILE": str(ready_files[0]),
            },
            is_ready=partial(all_exist, ready_files),
            folder=REPOSITORY,
            stop_timeout_s=15.0,
            ready_timeout_s=PRELOAD_TIMEOUT_S,
            ready_files=ready_files,
        )


def bracket_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def all_exist(files: tuple[Path, ...]) -> bool:
    return all(file.exists() for file in files)
