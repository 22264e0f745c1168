"""How soon a step that was stored reaches everyone who watches, and what that costs the database.

    python -m benchmarks.watching [--listeners 200] [--seconds 30] [--out FOLDER]

Starts the site's own web server, one process, and database in a folder of their own, on this machine. A
process in the place of the workers stores steps as they do, four times a second for each composition; the
listeners are plain HTTP clients in this process, on the same cores. Latency is from the moment before a
step's transaction begins to the moment when a client has read the event: the storing itself is in it.
"""

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.hub_upload import is_up, manage
from benchmarks.machine import machine
from hub_site.embedded.environment import site_environment
from hub_site.embedded.folders import REPOSITORY, DataFolder
from hub_site.embedded.processes import wait_for
from hub_site.embedded.servers import running_servers

RESULTS = REPOSITORY / "benchmarks" / "results"
PORT = 8159
WRITES_A_SECOND = 4  # what a worker does at most: it waits up to 250 ms for events to store together
MODULES = 27  # weights in a step, as the demo's library has
CASES = (1, 20)  # compositions watched by all listeners together
PROMISES = {"p95_ms": 500.0, "connections_used_while_streaming": 1}

# Of the web process: all that its pool keeps open, and those over which anything was asked since then.
CONNECTIONS = """
SELECT count(*), count(*) FILTER (WHERE state_change > %s) FROM pg_stat_activity
WHERE application_name = 'web'
"""


@dataclass(frozen=True)
class WatchedSite:
    """The web server under test."""

    environment: Mapping[str, str]
    process: psutil.Process
    token: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--listeners", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lora-hub-watching-") as name:
        Path(name).chmod(0o711)
        cases = [
            measured(Path(name) / str(count), arguments.listeners, count, arguments.seconds)
            for count in CASES
        ]
    result = {"machine": machine(), "kernel": platform.release(), "promises": PROMISES, "cases": cases}
    text = json.dumps(result, indent=2) + "\n"
    (arguments.out / "watching.json").write_text(text, encoding="utf-8")
    print(text)


def measured(root: Path, n_listeners: int, n_compositions: int, seconds: int) -> dict[str, Any]:
    folder = DataFolder(root / "var")
    folder.root.parent.mkdir(mode=0o711)
    folder.make()
    with running_servers(folder, is_forgetful=True) as servers:
        environment = site_environment(folder, servers.environment, "hub_site.settings.prod") | {
            "HUB_PUBLIC_URL": f"http://127.0.0.1:{PORT}",
            "HUB_DATABASE_POOL": "20",
            "HUB_STREAMS_OF_OWNER_MAX": str(n_listeners),
            "PYTHONPATH": str(REPOSITORY),
        }
        manage(environment, "migrate", "--verbosity", "0")
        manage(environment, "collectstatic", "--no-input", "--verbosity", "0")
        token, *ids = printed(environment, f"prepare({n_compositions})")
        command = ["-m", "uvicorn", "hub_site.asgi:application", "--port", str(PORT), "--lifespan", "off"]
        process = subprocess.Popen(
            [sys.executable, *command, "--no-access-log"],
            env=environment | {"PGAPPNAME": "web"},
            cwd=REPOSITORY,
        )
        try:
            wait_for(lambda: is_up(PORT), timeout_s=60)
            web = WatchedSite(environment, psutil.Process(process.pid), token)
            return asyncio.run(watched(web, ids, n_listeners, seconds))
        finally:
            process.terminate()
            process.wait()


async def watched(web: WatchedSite, ids: Sequence[str], n_listeners: int, seconds: int) -> dict[str, Any]:
    """Connect everybody, store steps for a while, and compare when each was stored and read."""
    read: list[tuple[str, int, float]] = []
    everybody_hears = asyncio.Barrier(n_listeners + 1)
    listeners = [
        asyncio.create_task(listen(ids[number % len(ids)], web.token, read, everybody_hears))
        for number in range(n_listeners)
    ]
    await asyncio.wait_for(everybody_hears.wait(), timeout=120)
    threads = web.process.num_threads()
    cpu_before = web.process.cpu_times()
    steps = seconds * WRITES_A_SECOND
    stored_of = asyncio.create_task(asyncio.to_thread(printed, web.environment, f"write({steps})"))
    begun_at = datetime.now(UTC)
    while not stored_of.done():
        await asyncio.sleep(0.5)
        kept_open, used = web_connections(web, begun_at)
    stored = {(pk, int(number)): float(at) for pk, number, at in map(str.split, await stored_of)}
    await asyncio.wait_for(asyncio.gather(*listeners), timeout=60)
    cpu = web.process.cpu_times()
    late_ms = sorted(1000 * (at - stored[pk, number]) for pk, number, at in read)
    return {
        "listeners": n_listeners,
        "compositions": len(ids),
        "steps_stored": len(stored),
        "events_read": len(read),
        "every_event_read_once_by_everybody": sorted(f"{pk} {number}" for pk, number, _ in read)
        == sorted(
            f"{pk} {number}"
            for listener in range(n_listeners)
            for pk, number in stored
            if pk == ids[listener % len(ids)]
        ),
        "median_ms": round(statistics.median(late_ms), 1),
        "p95_ms": round(late_ms[int(0.95 * len(late_ms))], 1),
        "most_ms": round(late_ms[-1], 1),
        "connections_used_while_streaming": used,
        "connections_kept_open_by_the_pool": kept_open,
        "web_threads": threads,
        "web_memory_mb": round(web.process.memory_info().rss / 1e6),
        "web_cpu_percent": round(
            100 * (cpu.user + cpu.system - cpu_before.user - cpu_before.system) / seconds
        ),
    }


async def listen(
    pk: str, token: str, read: list[tuple[str, int, float]], everybody_hears: asyncio.Barrier
) -> None:
    """One client: note when each event came, until the stream ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(
        f"GET /api/v1/compositions/{pk}/stream HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\n"
        f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n".encode()
    )
    status = await reader.readline()
    assert b"200" in status, status
    async for line in reader:
        if line.startswith(b"event: standing"):
            break
    await everybody_hears.wait()
    async for line in reader:
        if line.startswith(b"id: "):
            read.append((pk, int(line[4:]), time.monotonic()))
        elif line == b"0\r\n":  # the last of its chunks
            break
    writer.close()


def web_connections(web: WatchedSite, since: datetime) -> tuple[int, int]:
    """How many connections the web process has to the database, and over how many it asked since then."""
    with psycopg.connect(web.environment["DATABASE_URL"]) as connection:
        row = connection.execute(CONNECTIONS, [since]).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])


def printed(environment: Mapping[str, str], call: str) -> list[str]:
    """What a function of this module prints, line by line, run within the site's own Django."""
    code = f"from benchmarks import watching; watching.{call}"
    return manage(environment, "shell", "--verbosity", "0", "-c", code).split("\n")[:-1]


# --- in the place of the site and of its worker, inside manage.py ------------------


def prepare(n_compositions: int) -> None:
    """An owner with a token, and compositions that a worker holds."""
    from composer.models import Composition
    from hub_site.accounts.services import token_create, user_create
    from hub_site.jobs import leases
    from modules_registry.models import BaseModel

    owner = user_create(username="alice", password=None)
    base = BaseModel.objects.create(
        name="tests/none", revision="0", kind="seq2seq", architecture="none", parameters=0
    )
    print(token_create(user=owner, label="benchmark", scope="read")[1])
    for _ in range(n_compositions):
        asked = {"name": "Watched", "method": "exact", "budget": 40, "seed": 1, "request_digest": ""}
        composition = Composition.objects.create(owner=owner, base=base, **asked)
        leases.claim(Composition, composition.pk, worker="benchmark")
        print(composition.pk)


def write(steps: int) -> None:
    """Store so many steps of each composition, as a worker does; print when each one's transaction began."""
    from composer.models import Composition
    from composer.run.events import store_events
    from hub_site.jobs import leases
    from hub_site.jobs.models import Status

    running = list(Composition.objects.all())
    begun = time.monotonic()
    for step in range(1, steps + 1):
        for number, composition in enumerate(running):
            at = begun + (step - 1 + number / len(running)) / WRITES_A_SECOND
            time.sleep(max(0.0, at - time.monotonic()))
            event = {"event": "step", "step": step, "budget": steps, "loss": 1.0, "best_loss": 1.0}
            before = time.monotonic()
            store_events(composition, [event | {"weights": [0.123456789] * MODULES}])
            print(composition.pk, step, before)
    for composition in running:
        leases.finish(composition, Status.CANCELLED)


if __name__ == "__main__":
    main()
