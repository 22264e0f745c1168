"""What this machine and the site can and cannot: each check says one thing, and what to do where it is wrong.

It changes nothing but a file in the store, which it removes again.
"""

import logging
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
from django.conf import settings
from django.db import connection

from hub_site.common.clock import database_now
from hub_site.common.disk import LARGE_FOLDERS, MB
from hub_site.common.errors import Refusal
from hub_site.common.operator_texts import LOOK_AT, operator_text
from hub_site.common.readiness import COMPLETE, ask_schema
from hub_site.common.secret_key_mark import is_the_key_of_the_site
from hub_site.common.site_faults import site_fault_code
from hub_site.jobs.health_server import ask_broker
from hub_site.jobs.roles import SCHEDULER
from hub_site.jobs.sandbox import describe as describe_sandbox
from hub_site.jobs.sandbox import try_sandbox
from hub_site.operations.postgres_tools import find_tool, server_major, site_speaks_tls
from hub_site.operations.selectors import SERVED, queue_states, worker_states
from modules_registry import blobs
from modules_registry.maintenance import stored_file_models

logger = logging.getLogger(__name__)
State = Literal["ok", "look", "wrong"]
CLOCK_APART_S = 2.0  # what a machine with NTP never is
OPEN_FILES_MIN = 4096  # 1,000 streams, 200 connections of each address, files of the store
INODES_MIN = 50_000
CONNECTIONS_SHARE = 0.8
OLD_JOB_S = 3600.0
NEWEST_LOOKED_AT = 3  # stored files of each kind
CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")  # a number, or “max”
WORKER_OWN_MB = 1000  # of a compose worker beside its jobs


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, in a sentence. “look”: it works, and may not for long."""

    state: State
    sentence: str


Check = Callable[[], Iterator[Finding]]


def findings() -> Iterator[Finding]:
    """All of them, whatever each meets; a server that several do not reach is told once."""
    told: set[str] = set()
    for check in CHECKS:
        try:
            yield from check()
        except Exception as error:
            if text := operator_text(error):
                code = site_fault_code(error)
                fault = code if code in LOOK_AT else text
                if fault not in told:
                    yield Finding("wrong", text)
                told.add(str(fault))
            else:
                logger.exception("a check broke")
                yield Finding("wrong", f"{check.__name__} broke: {error}")


def check(is_well: bool, well: str, wrong: str, state: State = "wrong") -> Finding:
    return Finding("ok", well) if is_well else Finding(state, wrong)


# --- this machine -------------------------------------------------------------


def machine() -> Iterator[Finding]:
    cores, memory_mb = os.cpu_count() or 1, memory_bytes() // MB
    wanted = settings.HUB_COMPOSE_SLOTS * settings.HUB_THREADS
    yield check(
        wanted <= cores,
        f"{cores} cores; a compose worker uses up to {wanted}.",
        f"{cores} cores, of which a compose worker uses up to {wanted}: its jobs take turns. "
        "Lower HUB_THREADS or HUB_COMPOSE_SLOTS where jobs are slow.",
        "look",
    )
    needed = settings.HUB_COMPOSE_SLOTS * settings.HUB_COMPOSE_MEMORY_MB + WORKER_OWN_MB
    yield check(
        needed <= memory_mb,
        f"{memory_mb:,} MB of memory; a compose worker uses up to {needed:,} MB.",
        f"{memory_mb:,} MB of memory, of which a compose worker may use {needed:,} MB: the kernel may end "
        "it. Lower HUB_COMPOSE_MEMORY_MB or HUB_COMPOSE_SLOTS.",
        "look",
    )


def memory_bytes() -> int:
    """Of the machine, or of the container that this runs in."""
    machines = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = CONTAINER_MEMORY.read_text().strip() if CONTAINER_MEMORY.exists() else ""
    return min(machines, int(limit)) if limit.isdigit() else machines


def kernel_limits() -> Iterator[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_enough = files == resource.RLIM_INFINITY or files >= OPEN_FILES_MIN
    most = "Any number of" if files == resource.RLIM_INFINITY else f"{files:,}"
    yield check(
        is_enough,
        f"{most} files may be open in a process.",
        f"Only {files:,} files may be open in a process. Raise that to {OPEN_FILES_MIN:,} "
        "(ulimit -n; LimitNOFILE= of systemd).",
        "look",
    )
    try:
        lines = describe_sandbox(try_sandbox())
    except OSError as error:
        yield Finding("wrong", f"No job can run here: {error}")
    else:
        yield from (Finding("ok" if number == 0 else "look", line) for number, line in enumerate(lines))


def disks() -> Iterator[Finding]:
    root = Path(settings.HUB_DATA)
    seen: set[int] = set()
    for folder in (root, *(root / name for name in LARGE_FOLDERS)):
        if not folder.exists() or (device := folder.stat().st_dev) in seen:
            continue
        seen.add(device)
        free_mb, inodes = shutil.disk_usage(folder).free // MB, os.statvfs(folder).f_favail
        spare = settings.HUB_DISK_SPARE_MB
        yield check(
            free_mb >= spare,
            f"{free_mb:,} MB are free under {folder}.",
            f"Only {free_mb:,} MB are free under {folder}: uploads and jobs are refused below {spare:,} MB "
            "(HUB_DISK_SPARE_MB).",
        )
        if os.statvfs(folder).f_files and inodes < INODES_MIN:
            yield Finding("wrong", f"Only {inodes:,} more files fit on the disk of {folder}, however small.")


# --- what it stands on --------------------------------------------------------


def database() -> Iterator[Finding]:
    parameters = connection.get_connection_params() | {"cursor_factory": None}
    with connection.wrap_database_errors:
        psycopg.connect(**parameters).close()  # a pool would only say that it has no connection
    began_s = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version'), current_setting('max_connections')::int")
        version, most = cursor.fetchone()
        taken_ms = 1000 * (time.perf_counter() - began_s)
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
        (used,) = cursor.fetchone()
    yield Finding("ok", f"Postgres {version} answers in {taken_ms:.0f} ms.")
    yield check(
        used < CONNECTIONS_SHARE * most,
        f"{used} of its {most} connections are used.",
        f"{used} of its {most} connections are used. Raise max_connections, or lower HUB_DATABASE_POOL.",
        "look",
    )
    schema = ask_schema()
    yield check(
        schema == COMPLETE,
        "Its schema is that of this version.",
        f"It lacks the migration {schema}. Run ./hub manage migrate.",
    )


def backups() -> Iterator[Finding]:
    """Both programs, as a backup and a restore would take them."""
    tools = []
    for name in ("pg_dump", "pg_restore"):
        try:
            tools.append(find_tool(name, server_major()))
        except Refusal as refusal:
            yield Finding("look", f"No backup is possible from here: {refusal.message}")
            return
    over = "TLS" if site_speaks_tls() else "the same way as the site"
    yield Finding("ok", f"Backups are made with {tools[0]}, restored with {tools[1]}, over {over}.")


def clock() -> Iterator[Finding]:
    began_s = time.time()
    theirs_s = database_now().timestamp()
    apart_s = abs((began_s + time.time()) / 2 - theirs_s)
    yield check(
        apart_s < CLOCK_APART_S,
        "This machine's clock is that of the database.",
        f"This machine's clock and that of the database are {apart_s:.0f} s apart. Let both follow NTP; jobs "
        "and leases go by the database's.",
        "look",
    )


def broker() -> Iterator[Finding]:
    began_s = time.perf_counter()
    ask_broker()
    yield Finding("ok", f"The broker answers in {1000 * (time.perf_counter() - began_s):.0f} ms.")


def file_store() -> Iterator[Finding]:
    """Put a file, read it, remove it. Its bytes are new: nothing of the site can name it.

    The bucket is asked for first, as a storage may make one that is only mistyped.
    """
    kept, content = blobs.store(), os.urandom(64)
    kept.require_answer()
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        blob = kept.put(file, max_bytes=len(content))
    try:
        with kept.open(blob.sha256) as stored:
            is_same = stored.read() == content
    finally:
        kept.delete(blob.sha256)
    yield check(is_same, "The store keeps a file.", "The store gave back other bytes than it was given.")


def named_files() -> Iterator[Finding]:
    """Does the store have what the database names? The newest of each kind, and the first."""
    if blobs.has_remote_store():
        return  # what is not here, the Hub has
    kept, named = blobs.store(), set()
    for model in stored_file_models():
        hashes = model._default_manager.order_by("pk").values_list("sha256", flat=True)
        named |= {*hashes[:1], *hashes.reverse()[:NEWEST_LOOKED_AT]}
    lacking = [sha256 for sha256 in named if not kept.exists(sha256)]
    if not named:
        return
    if len(lacking) == len(named):
        what = "bucket (HUB_STORE_BUCKET)" if blobs.has_shared_store() else "folder (HUB_DATA)"
        told = f"The store has none of the files that the database names. Is it the right {what}?"
    else:
        example = min(lacking, default="")
        told = f"The store lacks files that the database names, as {example}. Run verify_storage."
    yield check(not lacking, "The store has the files that the database names.", told)


def secret_key() -> Iterator[Finding]:
    is_same = is_the_key_of_the_site()
    if is_same is not None:
        yield check(
            is_same,
            "HUB_SECRET_KEY is that of the site.",
            "HUB_SECRET_KEY is another one than the site was prepared with: sessions and private links of "
            "other processes are void here, and those of this one there. If it was changed everywhere, run "
            "manage.py prepare.",
        )


def mail() -> Iterator[Finding]:
    if not settings.MAIL_SERVER:
        yield Finding("look", "No mail server is set (HUB_EMAIL_URL): mails are files under HUB_DATA/mail.")
        return
    address = (settings.EMAIL_HOST, settings.EMAIL_PORT)
    try:
        socket.create_connection(address, timeout=settings.EMAIL_TIMEOUT).close()
    except OSError as error:
        yield Finding("wrong", f"The mail server {address[0]}:{address[1]} is not reached: {error}.")
    else:
        yield Finding("ok", f"The mail server {address[0]}:{address[1]} takes connections.")


# --- its work -----------------------------------------------------------------


def workers() -> Iterator[Finding]:
    states = {state.queue: state for state in worker_states()}
    for queue in SERVED:
        state = states[queue]
        what = "scheduler" if queue == SCHEDULER else f"worker of the queue {queue}"
        places = f", {state.places} jobs at once" if state.places else ""
        yield check(
            state.workers > 0,
            f"{what.capitalize()}: {state.workers} alive{places}.",
            f"No {what} is alive. Start the site, or look into its log.",
        )


def jobs() -> Iterator[Finding]:
    waiting = [state for state in queue_states() if state.waiting or state.running or state.put_off]
    for state in waiting:
        told = f"{state.label}: {state.waiting} wait, {state.running} run, {state.put_off} are put off"
        yield check(
            state.oldest_wait_s < OLD_JOB_S,
            f"{told}.",
            f"{told}; the oldest has waited for {state.oldest_wait_text}. Add workers, or see /staff/jobs/.",
            "look",
        )
    if not waiting:
        yield Finding("ok", "No job waits.")


CHECKS: tuple[Check, ...] = (
    machine,
    kernel_limits,
    disks,
    database,
    backups,
    clock,
    broker,
    file_store,
    named_files,
    secret_key,
    mail,
    workers,
    jobs,
)
