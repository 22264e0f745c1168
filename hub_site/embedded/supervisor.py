"""`./hub up`: start the parts in order, keep them alive, stop them in reverse order.

postgres, valkey → prepare (migrations, demo world) → web → workers and scheduler.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hub_site.embedded import processes
from hub_site.embedded.environment import site_environment, write_environment
from hub_site.embedded.folders import REPOSITORY, DataFolder
from hub_site.embedded.processes import Identity, Part, Running
from hub_site.embedded.record import SupervisorRecord, names_security_contact
from hub_site.embedded.refusal import EmbeddedError
from hub_site.embedded.servers import Servers
from hub_site.embedded.site import Site, bracket_host

QUICK_DEATH_S = 20.0  # a part that lives less has not worked
QUICK_DEATHS_MAX = 3
BACKOFF_S = (0.5, 2.0, 5.0)  # before the next start, by how many quick deaths in a row
STRANDED_TIMEOUT_S = 10.0
TICK_S = 0.1
NO_SPACE_BYTES = 64 * 1024**2  # with less than that Postgres may not get up: its log grows by 16 MB at a time
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class StopRequested(Exception):
    """Ctrl-C or SIGTERM came."""


@dataclass
class Kept:
    """A part that is to run: the process it has now, and how its last ones fared."""

    running: Running
    quick_deaths: int = 0
    start_again_s: float | None = None  # on the monotonic clock; None while it is alive

    @property
    def part(self) -> Part:
        return self.running.part


@dataclass(frozen=True)
class StartupStep:
    """A command that has to end well before the next thing may start."""

    name: str
    popen: "subprocess.Popen[bytes]"
    printed: IO[bytes]  # may hold a password: it goes to the terminal, never to a log


class Supervisor:
    def __init__(self, folder: DataFolder, *, host: str, port: int) -> None:
        self.folder = folder
        self.host, self.port = host, port
        self.stages: list[list[Kept]] = []  # in the order of starting
        self.steps: list[StartupStep] = []
        self.servers: Servers | None = None
        self.stop_requested = False
        address = os.environ.get("HUB_PUBLIC_URL", "").strip() or f"http://{bracket_host(host)}:{port}"
        self.record = SupervisorRecord(
            Identity.of(os.getpid()), address, has_security_contact=names_security_contact()
        )

    def run(self) -> int:
        """Until somebody stops it; 0 then, 1 when it had to give up."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, self.request_stop)
        self.record.write(self.folder)
        try:
            self.servers = Servers.under(self.folder)
            self.start_everything(self.servers)
            while True:
                self.tick()
        except StopRequested:
            say("Stopping.")
            return 0
        except EmbeddedError as error:
            say(f"\n{error}\n\nStopping everything.")
            return 1
        finally:
            self.stop_everything()

    def request_stop(self, *_: object) -> None:
        self.stop_requested = True

    def start_everything(self, servers: Servers) -> None:
        site = self.plan_site(servers)
        collecting = self.start_step(site, "collectstatic", "--noinput", "--verbosity", "0")
        self.bring_up(servers.parts)
        if servers.postgres:
            servers.postgres.make_database()
        write_environment(self.folder.environment_file, servers.environment)
        announcement = self.finish_step(self.start_step(site, "prepare"))
        self.finish_step(collecting)
        self.bring_up([site.web()])
        self.bring_up(site.workers())
        self.record.is_healthy = True
        self.record.write(self.folder)
        say(
            f"\nLoRA Hub is ready: {site.address}\n{announcement}{self.served_hosts()}"
            "Stop it with Ctrl-C or ./hub down."
        )

    def served_hosts(self) -> str:
        """Listening for everybody is not answering everybody: a forged Host header must lead nowhere."""
        names_are_set = any(os.environ.get(name) for name in ("HUB_PUBLIC_URL", "HUB_ALLOWED_HOSTS"))
        if names_are_set or self.host in LOOPBACK:
            return ""
        return f"Only who calls it {self.host} is answered. Set HUB_PUBLIC_URL to the address visitors use.\n"

    def plan_site(self, servers: Servers) -> Site:
        addresses = {
            **servers.environment,
            "HUB_HOST": self.host,
            "HUB_PORT": str(self.port),
            "HUB_PUBLIC_URL": self.record.address,
        }
        environment = site_environment(self.folder, addresses, "hub_site.settings.prod")
        return Site(self.folder, environment, self.host, self.port)

    def start_step(self, site: Site, command: str, *options: str) -> StartupStep:
        printed = tempfile.TemporaryFile()  # noqa: SIM115  finish_step closes it
        with self.log_file(command).open("ab") as log:
            popen = subprocess.Popen(
                site.manage(command, *options),
                env=dict(site.environment),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=log,
                start_new_session=True,
            )
        step = StartupStep(command, popen, printed)
        self.steps.append(step)
        return step

    def finish_step(self, step: StartupStep) -> str:
        """Wait for it and return what it printed."""
        while step.popen.poll() is None:
            self.tick()
        if step.popen.returncode != 0:
            raise EmbeddedError(f"{step.name} failed. {self.end_of_log(step.name)}")
        with step.printed as printed:
            printed.seek(0)
            return printed.read().decode(errors="replace")

    def bring_up(self, parts: list[Part]) -> None:
        """Start them side by side and wait until each is well."""
        began_s = time.monotonic()
        self.stages.append(stage := [])
        for part in parts:
            stage.append(Kept(self.start(part)))
        for kept in stage:
            while not kept.part.is_ready():
                self.tick()
                if time.monotonic() - began_s > kept.part.ready_timeout_s:
                    raise EmbeddedError(
                        f"{kept.part.name} does not get ready. {self.end_of_log(kept.part.name)}"
                    )
            say(f"  {kept.part.name:<15} ready after {time.monotonic() - began_s:.1f} s")

    def start(self, part: Part) -> Running:
        running = processes.start(part, self.log_file(part.name))
        self.record.parts[part.name] = (running.identity, part.stop_signal)
        try:
            self.record.write(self.folder)
        except OSError as error:  # as on a full disk; the next start writes it
            say(f"  What runs could not be written down: {error.strerror}.")
        return running

    def tick(self) -> None:
        """One look at everything; raises when it is time to stop."""
        if self.stop_requested:
            raise StopRequested
        for stage in self.stages:
            for kept in stage:
                self.keep_alive(kept)
                processes.rotate_log(self.log_file(kept.part.name))
        time.sleep(TICK_S)

    def keep_alive(self, kept: Kept) -> None:
        if kept.start_again_s is None:
            if not kept.running.is_alive:
                self.note_death(kept)
        elif time.monotonic() >= kept.start_again_s:
            kept.running, kept.start_again_s = self.start(kept.part), None

    def note_death(self, kept: Kept) -> None:
        processes.kill_group(kept.running.identity.pid)  # what it started dies with it
        how, is_full = f"{kept.part.name} {kept.running.exit_text}", self.is_disk_full()
        is_quick = kept.running.age_s < QUICK_DEATH_S and not is_full  # else it works once there is space
        kept.quick_deaths = kept.quick_deaths + 1 if is_quick else 0
        if kept.quick_deaths >= QUICK_DEATHS_MAX:
            raise EmbeddedError(
                f"{how}, {QUICK_DEATHS_MAX} times in a row. {self.end_of_log(kept.part.name)}"
            )
        say(f"  {how}; {'the disk is full; ' if is_full else ''}starting it again.")
        kept.start_again_s = time.monotonic() + BACKOFF_S[-1 if is_full else kept.quick_deaths]

    def is_disk_full(self) -> bool:
        """Whether the data folder, or the database's where it lies elsewhere, has no space left."""
        database = self.folder.root / "postgres"
        folders = [self.folder.root, *([database] if database.exists() else [])]
        return any(shutil.disk_usage(folder).free < NO_SPACE_BYTES for folder in folders)

    def stop_everything(self) -> None:
        for step in self.steps:
            if step.popen.poll() is None:
                processes.kill_group(step.popen.pid)
                step.popen.wait()
        for stage in reversed(self.stages):
            running = [kept.running for kept in reversed(stage)]
            for one in running:
                processes.ask_to_stop(one)
            asked_s = time.monotonic()
            for one in running:
                processes.finish(one, deadline_s=asked_s + one.part.stop_timeout_s)
        if self.servers:
            self.servers.clear_away()
        self.folder.environment_file.unlink(missing_ok=True)
        self.folder.record_file.unlink(missing_ok=True)

    def log_file(self, name: str) -> Path:
        return self.folder.logs / f"{name}.log"

    def end_of_log(self, name: str) -> str:
        return f"{self.log_file(name)} ends with:\n{processes.tail(self.log_file(name))}"


def stop_stranded_parts(folder: DataFolder) -> None:
    """A supervisor that was killed outright left its parts running: end them, last started first."""
    record = SupervisorRecord.read(folder)
    for name, (identity, stop_signal) in reversed(list(record.parts.items() if record else [])):
        if processes.stop_stranded(identity, stop_signal, timeout_s=STRANDED_TIMEOUT_S):
            say(f"  Stopped {name} (pid {identity.pid}), which an earlier run left behind.")
    folder.record_file.unlink(missing_ok=True)
    folder.environment_file.unlink(missing_ok=True)


def say(text: str) -> None:
    with contextlib.suppress(OSError):  # the file it goes to may be on a full disk, its reader may be gone
        print(text, flush=True)
