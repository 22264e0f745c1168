"""What the site bears as it grows: compositions an hour on 1, 2 and 4 compose workers, and what each part costs.

    python -m benchmarks.growth [--jobs 24] [--workers 1,2,4] [--out FILE]     measure, and write the table
    python -m benchmarks.growth --table                                        write the table of the kept figures

Starts the site's own database, broker and compose workers in a folder of their own, on this machine, and asks for
compositions of the demo's ready-made tasks. All of them share its cores. docs/growth.md is written from the result,
with what benchmarks.watching and benchmarks.compose_speed measured: its arithmetic is in this file.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.hub_upload import manage
from benchmarks.machine import machine
from hub_site.embedded.environment import site_environment
from hub_site.embedded.folders import REPOSITORY, DataFolder
from hub_site.embedded.processes import wait_for
from hub_site.embedded.servers import running_servers

RESULT = REPOSITORY / "benchmarks" / "results" / "growth.json"
TABLE = REPOSITORY / "docs" / "growth.md"
JOB_TIMEOUT_S = 1800
DAY_S = 24 * 3600
MODULES, JOBS_A_DAY, WATCHERS = 1_000_000, 10_000, 2_000  # what is reckoned with beyond what is measured
QUEUE_THREADS, QUEUE_S = 4, 5.0
SIZES_MEASURED = ("S", "M", "D", "L")  # of benchmarks.compose_speed
CANDIDATES = 100
PEAK = 3.0  # the busiest hour has so many times the mean
SIZES = """
SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND relname LIKE %s
"""
COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if not arguments.table:
        numbers = [int(number) for number in arguments.workers.split(",")]
        result = measure(arguments.jobs, numbers)
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(result, indent=2))
    TABLE.write_text(table(json.loads(arguments.out.read_text(encoding="utf-8"))), encoding="utf-8")


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
    return {
        "machine": machine(),
        "kernel": platform.release(),
        "load_average_before": before,
        "jobs": n_jobs,
        "workers": workers,
        "queue": queue,
        "broker": broker,
    }


def measure_workers(
    environment: Mapping[str, str], folder: DataFolder, number: int, n_jobs: int
) -> dict[str, Any]:
    """Compositions that wait already, and the time until the last one is done."""
    with (
        compose_workers(environment, folder, number) as processes,
        psycopg.connect(environment["DATABASE_URL"], autocommit=True) as database,
    ):
        bytes_before, commits_before = table_bytes(database, "composer_%"), value(database, COMMITS)
        cpu_before = cpu_s(processes)
        began_s = time.monotonic()
        manage(
            environment,
            "shell",
            "--verbosity",
            "0",
            "-c",
            f"from benchmarks import growth; growth.ask({n_jobs})",
        )
        asked_s = time.monotonic() - began_s
        done = wait_for(lambda: not unfinished(database), timeout_s=JOB_TIMEOUT_S)
        taken_s = time.monotonic() - began_s
        if not done:
            raise SystemExit("Not all compositions ended in time.")
        database.execute("SELECT pg_stat_force_next_flush()")
        return {
            "workers": number,
            "slots": 2 * number,
            "seconds": round(taken_s, 1),
            "asking_s": round(asked_s, 1),
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


# --- inside manage.py -----------------------------------------------------------


def ask(n_jobs: int) -> None:
    """Ask for compositions of ready-made tasks, each for an account of its own: none knows what others scored."""
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
            seed=number,
        )


def queue_and_close() -> None:
    from django.contrib.auth import get_user_model
    from django.db import connection

    from hub_site.jobs import leases
    from hub_site.jobs.models import Status
    from modules_registry.importing.models import ModuleImport

    owner = get_user_model().objects.first()
    counts = [0] * QUEUE_THREADS
    ends_at = time.monotonic() + QUEUE_S

    def work(place: int) -> None:
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


# --- the table --------------------------------------------------------------------


def table(result: Mapping[str, Any]) -> str:
    """docs/growth.md: what was measured, and what follows for a large site."""
    results = RESULT.parent
    watching = json.loads((results / "watching.json").read_text(encoding="utf-8"))["cases"]
    busiest = max(watching, key=lambda case: case["compositions"])
    one = result["workers"][0]
    peak_jobs_s = PEAK * JOBS_A_DAY / DAY_S
    lines = [
        HEAD,
        f"Measured on: {result['machine']}. Load before: {result['load_average_before'][0]}.\n",
        "## Compositions an hour",
        f"\n{result['jobs']} compositions of the demo's tasks, all waiting at once; `HUB_THREADS=1`, two places a worker.\n",
        "| compose workers | compositions an hour | processor a job | cores in use | transactions a job | rows a job |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['workers']} | {row['jobs_an_hour']:,} | {row['cpu_s_a_job']} s | {row['cores_used']} | "
            f"{row['transactions_a_job']} | {row['table_bytes_a_job'] / 1000:.0f} kB |"
            for row in result["workers"]
        ),
        LIMIT,
        "## Cost of a composition by the size of its base",
        SPEEDS,
        *speed_rows(results),
        "",
        "## What each part bears",
        "",
        "| part | measured here | a site of 1,000,000 modules, 10,000 compositions a day, 2,000 watchers | left |",
        "|---|---|---|---|",
        f"| queue in the database | {result['queue']['jobs_a_second']:,} jobs queued, claimed, renewed and closed a second "
        f"by {result['queue']['threads']} threads | {peak_jobs_s:.2f} a second in the busiest hour (three times the mean) "
        f"| {result['queue']['jobs_a_second'] / peak_jobs_s:,.0f} times |",
        f"| transactions | {one['transactions_a_job']} a composition | {one['transactions_a_job'] * peak_jobs_s:,.0f} a second "
        "in the busiest hour | see the queue |",
        f"| broker | {result['broker']['messages_a_second']:,} messages a second from one process | "
        f"{2 * peak_jobs_s:.1f} a second: it only wakes workers | "
        f"{result['broker']['messages_a_second'] / (2 * peak_jobs_s):,.0f} times |",
        f"| streams | {busiest['listeners']} watchers of {busiest['compositions']} compositions take "
        f"{busiest['web_cpu_percent']} % of a core, 95 % of the events come within {busiest['p95_ms']} ms | "
        f"{WATCHERS:,} watchers take {busiest['web_cpu_percent'] * WATCHERS / busiest['listeners'] / 100:.1f} cores: "
        f"{WATCHERS / 1000:.0f} web processes at `HUB_STREAMS_MAX=1000`, one connection to the database each | - |",
        f"| rows of compositions | {one['table_bytes_a_job'] / 1000:.0f} kB each | "
        f"{one['table_bytes_a_job'] * JOBS_A_DAY * 365 / 1e9:,.0f} GB a year, if nobody deletes any | - |",
        f"| compute | {one['jobs_an_hour']:,} an hour on one worker of this machine, with the demo's base | "
        f"{JOBS_A_DAY * PEAK / 24:,.0f} an hour in the busiest one: {JOBS_A_DAY * PEAK / 24 / one['jobs_an_hour']:.1f} "
        "such workers for the demo's base; with a large one see the table above | - |",
        "",
        TAIL,
    ]
    return "\n".join(lines)


def speed_rows(results: Path) -> list[str]:
    """A row for each encoder-decoder base that benchmarks.compose_speed has measured."""
    found = [
        json.loads((results / f"compose_speed_{size}.json").read_text(encoding="utf-8"))
        for size in SIZES_MEASURED
    ]
    rows = []
    for one in sorted(found, key=lambda result: result["parameters"]):
        seconds = {kind: statistics.median(one["seconds"][f"{kind}.one"]) for kind in ("fp32", "bf16")}
        an_hour = 3600 / (CANDIDATES * min(seconds.values()))
        rows.append(
            f"| {one['parameters'] / 1e6:,.0f} M | {seconds['fp32']:.2f} s | {seconds['bf16']:.2f} s | {an_hour:,.0f} |"
        )
    return rows


HEAD = """# How far it goes

What one machine bears, measured, and what that makes for a large site, reckoned. The command that wrote this page:
`python -m benchmarks.growth` ([result](../benchmarks/results/growth.json)); the figures of streams are those of
`python -m benchmarks.watching`, those of bases of `python -m benchmarks.compose_speed`, those of a library of 100,000
modules of `./hub manage seed_scale` and `python -m benchmarks.site_load`.
"""
LIMIT = """
The processor is the limit: a composition computes from its beginning to its end, and the workers share nothing but the queue.
Where workers have cores of their own, each adds as many compositions an hour as the first; on one machine they share its cores.
"""
SPEEDS = f"""
Seconds for one candidate weight vector on 16 examples and one core, and how many searches of {CANDIDATES} candidates that makes
in an hour on one core. A comparison takes about as long again.

| base | fp32 | bf16 | searches an hour and core |
|---|---|---|---|"""
TAIL = """## The first three bottlenecks

1. **Compute.** It is reached first, by far, and costs the most. Add compose workers: they need no more than the database, the broker and the
   store. Nothing else has to change until the queue is asked some hundred times as often as above.
2. **The disk of the modules.** 1,000,000 modules of 5 MB are 5 TB. Use an object storage (`HUB_STORE=s3`) with a cache on each machine, and
   let it keep older states of a bucket: `./hub backup` copies every file each time, and takes hours from some TB on.
3. **Web processes.** A page costs some 10 to 30 ms of a core, a download almost none where the store hands it out. Add web processes behind the
   proxy, and `HUB_DATABASE_POOL` connections for each to `max_connections`. Beyond some 20 processes put pgbouncer in session mode between,
   or lower the pool: Postgres takes a few hundred connections well.

The search of the library was measured with 100,000 modules. Ten times as many make its indexes ten times as large: give Postgres enough
memory for them (`shared_buffers`, and the page cache), about 4 GB.
"""


if __name__ == "__main__":
    main()
