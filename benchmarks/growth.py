"""What the site bears as it grows: compositions an hour on 1, 2 and 4 compose workers, and what each costs.

    python -m benchmarks.growth [--jobs 24] [--workers 1,2,4] [--out FILE]
    python -m benchmarks.growth --tables      only write the tables of the kept figures

Starts the site's own database, broker and compose workers in a folder of their own, on this machine, and
asks for compositions of the demo's ready-made tasks; then loads the database (pgbench), the broker and an
object storage (SeaweedFS) by themselves. All of them share its cores. The tables of docs/growth.md are
written from the result, and from what benchmarks.watching and benchmarks.compose_speed measured, which name
their own machines; what is reckoned from them is reckoned here.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.hub_upload import manage
from benchmarks.machine import machine
from hub_site.embedded.environment import site_environment
from hub_site.embedded.folders import REPOSITORY, DataFolder
from hub_site.embedded.postgres import find_package
from hub_site.embedded.processes import wait_for
from hub_site.embedded.servers import running_servers

RESULT = REPOSITORY / "benchmarks" / "results" / "growth.json"
PAGE = REPOSITORY / "docs" / "growth.md"
JOB_TIMEOUT_S = 1800
DAY_S = 24 * 3600
MODULES, JOBS_A_DAY, WATCHERS = 1_000_000, 10_000, 2_000  # what is reckoned with beyond what is measured
QUEUE_THREADS, QUEUE_S = 4, 10.0
DATABASE_CLIENTS, DATABASE_SCALE = 4, 10  # of pgbench; a million rows
STORAGE_THREADS, STORAGE_FILES = 4, 40
SIZES_MEASURED = ("S", "M", "D", "L")  # of benchmarks.compose_speed
CANDIDATES = 100  # of a search
MODULE_MB = 5
MODULES_READ = 40  # by a composition: as many as it composes of thousands, at most
STREAMS_MAX = 1000  # HUB_STREAMS_MAX, of one web process
PEAK = 3.0  # the busiest hour has so many times the mean
SIZES = """
SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND relname LIKE %s
"""
BETWEEN = """
SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM (
    SELECT started_at, finished_at FROM composer_composition ORDER BY created_at DESC LIMIT %s
) AS these
"""
COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--tables", action="store_true")
    arguments = parser.parse_args()
    if not arguments.tables:
        numbers = [int(number) for number in arguments.workers.split(",")]
        result = measure(arguments.jobs, numbers)
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(result, indent=2))
    write_tables(json.loads(arguments.out.read_text(encoding="utf-8")))


# --- measuring ------------------------------------------------------------------


def measure(n_jobs: int, numbers: list[int]) -> dict[str, Any]:
    before = [round(load, 1) for load in os.getloadavg()]
    with tempfile.TemporaryDirectory(prefix="lora-hub-growth-") as name:
        Path(name).chmod(0o711)
        folder = DataFolder(Path(name) / "var")
        folder.make()
        with running_servers(folder) as servers:
            environment = site_environment(folder, servers.environment, "hub_site.settings.prod") | {
                "HUB_PUBLIC_URL": "http://127.0.0.1:8160",
                "HUB_COMPOSITIONS_UNFINISHED_MAX": str(10 * n_jobs),
                "HUB_THREADS": "1",
                "PYTHONPATH": str(REPOSITORY),
            }
            manage(environment, "prepare")
            workers = [measure_workers(environment, folder, number, n_jobs) for number in numbers]
            queue = measure_queue(environment)
            broker = measure_broker(environment)
            database = measure_database(environment["DATABASE_URL"])
        storage = measure_storage(Path(name) / "storage")
    return {
        "machine": machine(),
        "kernel": platform.release(),
        "load_average_before": before,
        "jobs": n_jobs,
        "workers": workers,
        "queue": queue,
        "broker": broker,
        "database": database,
        "storage": storage,
    }


def measure_workers(
    environment: Mapping[str, str], folder: DataFolder, number: int, n_jobs: int
) -> dict[str, Any]:
    """From the beginning of the first composition to the end of the last, by the database's clock."""
    with (
        compose_workers(environment, folder, number) as processes,
        psycopg.connect(environment["DATABASE_URL"], autocommit=True) as database,
    ):
        bytes_before, commits_before = table_bytes(database, "composer_%"), value(database, COMMITS)
        cpu_before = cpu_s(processes)
        manage(
            environment,
            "shell",
            "--verbosity",
            "0",
            "-c",
            f"from benchmarks import growth; growth.ask({n_jobs})",
        )
        done = wait_for(lambda: not unfinished(database), timeout_s=JOB_TIMEOUT_S)
        if not done:
            raise SystemExit("Not all compositions ended in time.")
        between = database.execute(BETWEEN, [n_jobs]).fetchone()
        taken_s = float(between[0]) if between else 0.0
        database.execute("SELECT pg_stat_force_next_flush()")
        return {
            "workers": number,
            "slots": 2 * number,
            "seconds": round(taken_s, 1),
            "jobs_an_hour": round(3600 * n_jobs / taken_s),
            "cpu_s_a_job": round((cpu_s(processes) - cpu_before) / n_jobs, 2),
            "cores_used": round((cpu_s(processes) - cpu_before) / taken_s, 2),
            "transactions_a_job": round((value(database, COMMITS) - commits_before) / n_jobs),
            "table_bytes_a_job": round((table_bytes(database, "composer_%") - bytes_before) / n_jobs),
        }


@contextlib.contextmanager
def compose_workers(
    environment: Mapping[str, str], folder: DataFolder, number: int
) -> Iterator[list[psutil.Process]]:
    """So many worker processes that have imported all they need."""
    processes, ready = [], folder.run / "launcher.ready"
    folder.run.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        for place in range(number):
            ready.unlink(missing_ok=True)
            log = stack.enter_context((folder.logs / f"worker-{place}.log").open("ab"))
            command = ["-m", "celery", "--app", "hub_site.celery", "worker", "--queues", "compose"]
            command += ["--hostname", f"compose-{place}@%h", "--pool", "threads", "--concurrency", "1"]
            process = subprocess.Popen(
                [sys.executable, *command], env=dict(environment), cwd=REPOSITORY, stdout=log, stderr=log
            )
            stack.callback(end, process)
            processes.append(psutil.Process(process.pid))
            wait_for(ready.exists, timeout_s=180)
        yield processes


def end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(60)


def cpu_s(processes: list[psutil.Process]) -> float:
    """Of the workers with all that they started; of those that ended, what their parents counted."""
    total = 0.0
    for process in processes:
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def unfinished(database: "psycopg.Connection[Any]") -> int:
    return value(database, "SELECT count(*) FROM composer_composition WHERE status IN ('queued', 'running')")


def table_bytes(database: "psycopg.Connection[Any]", tables: str) -> int:
    row = database.execute(SIZES, [tables]).fetchone()
    return int(row[0]) if row else 0


def value(database: "psycopg.Connection[Any]", statement: str) -> int:
    row = database.execute(statement).fetchone()  # type: ignore[arg-type]
    return int(row[0]) if row else 0


def measure_queue(environment: Mapping[str, str]) -> dict[str, Any]:
    """Jobs a second that the database queues, hands out and closes, without any work in them."""
    code = "from benchmarks import growth; growth.queue_and_close()"
    found: dict[str, Any] = json.loads(manage(environment, "shell", "--verbosity", "0", "-c", code))
    return found


def measure_broker(environment: Mapping[str, str]) -> dict[str, Any]:
    code = "from benchmarks import growth; growth.send_messages()"
    found: dict[str, Any] = json.loads(manage(environment, "shell", "--verbosity", "0", "-c", code))
    return found


def measure_database(address: str) -> dict[str, Any]:
    """Transactions a second by pgbench: its usual ones of five statements that read and write, and reads."""
    program = find_package() / "pginstall" / "bin" / "pgbench"

    def bench(*options: str) -> str:
        return subprocess.run([program, *options, address], check=True, capture_output=True, text=True).stdout

    bench("--initialize", f"--scale={DATABASE_SCALE}", "--quiet")
    load = (f"--client={DATABASE_CLIENTS}", "--jobs=2", f"--time={QUEUE_S:.0f}")
    told = {"writing": bench(*load), "reading": bench(*load, "--select-only")}
    return {"clients": DATABASE_CLIENTS, "rows": 100_000 * DATABASE_SCALE} | {
        f"{kind}_transactions_a_second": round(float(re.findall(r"tps = ([0-9.]+)", text)[0]))
        for kind, text in told.items()
    }


def measure_storage(folder: Path) -> dict[str, Any]:
    """Files of a module's size a second that the site's own client writes to an object storage and reads."""
    from modules_registry.storage import Blob
    from modules_registry.storage.object_client import ObjectClient
    from tests.object_storage import ObjectStorage

    storage = ObjectStorage(folder)
    try:
        storage.start()
        objects = ObjectClient(storage.new_bucket())
        blobs = {}
        for number in range(STORAGE_FILES):
            content = os.urandom(MODULE_MB * 1_000_000)
            path = folder / f"module-{number}"
            path.write_bytes(content)
            blobs[path] = Blob(hashlib.sha256(content).hexdigest(), len(content))

        def read(blob: Blob) -> None:
            with objects.open(blob.sha256) as file:
                while file.read(1 << 20):
                    pass

        def files_a_second(work: Callable[[tuple[Path, Blob]], object]) -> float:
            begun = time.perf_counter()
            with ThreadPoolExecutor(STORAGE_THREADS) as pool:
                list(pool.map(work, blobs.items()))
            return round(len(blobs) / (time.perf_counter() - begun), 1)

        return {
            "threads": STORAGE_THREADS,
            "megabytes_a_file": MODULE_MB,
            "files_written_a_second": files_a_second(lambda each: objects.upload(*each)),
            "files_read_a_second": files_a_second(lambda each: read(each[1])),
        }
    finally:
        storage.stop()


# --- inside manage.py -----------------------------------------------------------


def ask(n_jobs: int) -> None:
    """Ask for compositions of ready-made tasks, each for an account of its own."""
    from composer.request.services import composition_request
    from composer.task.demo_tasks import demo_tasks
    from hub_site.accounts.models import User
    from hub_site.accounts.services import user_create

    tasks, first = demo_tasks(), User.objects.count()
    for number in range(n_jobs):
        task = tasks[number % len(tasks)]
        composition_request(
            owner=user_create(username=f"person-{first + number}"),
            name=task.name,
            examples=task.shots,
            held_out=task.held_out,
            base=task.base,
            method="exact",
            budget=40,
            seed=number,
        )


def queue_and_close() -> None:
    from django.db import connection

    from hub_site.accounts.models import User
    from hub_site.jobs import leases
    from hub_site.jobs.models import Status
    from modules_registry.importing.models import ModuleImport

    owner = User.objects.order_by("pk")[0]
    counts, ends_at = [0] * QUEUE_THREADS, 0.0

    ready = threading.Barrier(QUEUE_THREADS + 1)

    def work(place: int) -> None:
        connection.ensure_connection()
        ready.wait()
        while time.monotonic() < ends_at:
            asked = ModuleImport.objects.create(owner=owner, namespace=owner.namespace, sources=["a/b"])
            job = leases.claim(ModuleImport, asked.pk, worker="benchmark")
            assert job is not None
            leases.renew_lease(job)
            leases.finish(job, Status.FAILED, error_code="benchmark")
            counts[place] += 1
        connection.close()

    threads = [threading.Thread(target=work, args=(place,)) for place in range(QUEUE_THREADS)]
    for thread in threads:
        thread.start()
    ends_at = time.monotonic() + QUEUE_S
    ready.wait()
    for thread in threads:
        thread.join()
    ModuleImport.objects.filter(error_code="benchmark").delete()
    print(json.dumps({"threads": QUEUE_THREADS, "jobs_a_second": round(sum(counts) / QUEUE_S)}))


def send_messages() -> None:
    from composer.run.tasks import wake_worker

    number, ends_at = 0, time.monotonic() + QUEUE_S
    while time.monotonic() < ends_at:
        wake_worker.apply_async(expires=1)
        number += 1
    print(json.dumps({"messages_a_second": round(number / QUEUE_S)}))


# --- the tables of docs/growth.md -------------------------------------------------


def write_tables(result: Mapping[str, Any]) -> None:
    """Put each table between its two comments on the page."""
    page = PAGE.read_text(encoding="utf-8")
    tables = {"workers": workers_table(result), "bases": bases_table(), "parts": parts_table(result)}
    for name, lines in tables.items():
        begin, end = f"<!-- {name}: written by benchmarks.growth -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        page = before + begin + "".join(f"{line}\n" for line in lines) + end + rest.partition(end)[2]
    PAGE.write_text(page, encoding="utf-8")


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def workers_table(result: Mapping[str, Any]) -> list[str]:
    columns = ("compose workers", "compositions an hour", "processor each", "cores in use")
    lines = [row(*columns, "transactions each", "rows each"), "|---" * 6 + "|"]
    for found in result["workers"]:
        lines.append(
            row(
                found["workers"],
                f"{found['jobs_an_hour']:,}",
                f"{found['cpu_s_a_job']} s",
                found["cores_used"],
                found["transactions_a_job"],
                f"{found['table_bytes_a_job'] / 1000:.0f} kB",
            )
        )
    load = result["load_average_before"][0]
    about = f"{result['jobs']} compositions that all wait; {result['machine']}; load before: {load}."
    return [*lines, "", about]


def bases_table() -> list[str]:
    """A row for each encoder-decoder base that benchmarks.compose_speed has measured."""
    lines = [row("base", "fp32", "bf16", "searches an hour and core"), "|---" * 4 + "|"]
    for size in SIZES_MEASURED:
        found = read_result(f"compose_speed_{size}.json")
        fp32, bf16 = (statistics.median(found["seconds"][f"{kind}.one"]) for kind in ("fp32", "bf16"))
        an_hour = 3600 / (CANDIDATES * min(fp32, bf16))
        parameters = f"{found['parameters'] / 1e6:,.0f} M"
        lines.append(row(parameters, f"{fp32:.2f} s", f"{bf16:.2f} s", f"{an_hour:,.0f}"))
    return lines


def parts_table(result: Mapping[str, Any]) -> list[str]:
    one, queue_s = result["workers"][0], result["queue"]["jobs_a_second"]
    messages_s = result["broker"]["messages_a_second"]
    peak_s = PEAK * JOBS_A_DAY / DAY_S
    peak_hour = 3600 * peak_s
    database, storage = result["database"], result["storage"]
    transactions_s = one["transactions_a_job"] * peak_s
    watching = read_result("watching.json")
    streams = max(watching["cases"], key=lambda case: case["compositions"])
    cores = streams["web_cpu_percent"] * WATCHERS / streams["listeners"] / 100
    row_bytes = one["table_bytes_a_job"]
    return [
        row("part", "measured here", "needed", "so many times more"),
        "|---" * 4 + "|",
        row(
            "queue in the database",
            f"{queue_s:,} jobs queued, claimed, renewed and closed a second",
            f"{peak_s:.2f} a second",
            f"{queue_s / peak_s:,.0f}",
        ),
        row(
            "database, all that a composition asks",
            f"{one['transactions_a_job']} transactions a composition; it bears "
            f"{database['writing_transactions_a_second']:,} a second that read and write (pgbench, "
            f"{database['clients']} clients) and {database['reading_transactions_a_second']:,} that read",
            f"{transactions_s:,.0f} a second",
            f"{database['writing_transactions_a_second'] / transactions_s:,.0f}",
        ),
        row(
            "object storage",
            f"{storage['files_written_a_second']} files of {MODULE_MB} MB written and "
            f"{storage['files_read_a_second']} read a second, by {storage['threads']} threads",
            f"{MODULES_READ * peak_s:.0f} read a second, if a composition fetches {MODULES_READ} modules "
            "and no machine keeps any",
            f"{storage['files_read_a_second'] / (MODULES_READ * peak_s):,.0f}",
        ),
        row(
            "broker",
            f"{messages_s:,} messages a second by one process",
            f"{2 * peak_s:.1f} a second",
            f"{messages_s / (2 * peak_s):,.0f}",
        ),
        row(
            "streams",
            f"{streams['listeners']} watchers of {streams['compositions']} compositions: "
            f"{streams['web_cpu_percent']} % of a core, 95 % of the events within {streams['p95_ms']} ms",
            f"{cores:.1f} cores for {WATCHERS:,} watchers, "
            f"{max(WATCHERS // STREAMS_MAX, math.ceil(cores))} web processes, one connection to the database "
            "each",
            "",
        ),
        row(
            "rows of compositions",
            f"{row_bytes / 1000:.0f} kB each",
            f"{row_bytes * JOBS_A_DAY * 365 / 1e9:,.0f} GB a year, where nobody deletes any",
            "",
        ),
        row(
            "files of modules",
            f"{MODULE_MB} MB each (rank 8 on a base of 750 M parameters)",
            f"{MODULE_MB * MODULES / 1e6:,.0f} TB",
            "",
        ),
        row(
            "compose workers",
            f"{one['jobs_an_hour']:,} compositions an hour by one, with the demo's base",
            f"{peak_hour:,.0f} in the busiest hour: {peak_hour / one['jobs_an_hour']:.1f} of them; "
            "with larger bases see above",
            "",
        ),
        "",
        f"Streams: {watching['machine']}. The others: {result['machine']}.",
    ]


def read_result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULT.parent / name).read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
