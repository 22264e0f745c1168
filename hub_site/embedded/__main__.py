"""python -m hub_site.embedded {up,down,status,run,test}: what ./hub calls."""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hub_site.embedded import processes
from hub_site.embedded.environment import read_environment, site_environment
from hub_site.embedded.folders import REPOSITORY, DataFolder
from hub_site.embedded.record import SupervisorRecord, names_security_contact, only_one
from hub_site.embedded.refusal import EmbeddedError
from hub_site.embedded.servers import running_servers
from hub_site.embedded.site import bracket_host
from hub_site.embedded.supervisor import Supervisor, say, stop_stranded_parts

STOP_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
NOT_RUNNING = 3  # the exit code of `status`, as init scripts have it


def main() -> int:
    arguments = read_arguments()
    try:
        exit_code: int = arguments.command(arguments)
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return exit_code


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hub", description="Run LoRA Hub on this machine.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("up", prog="hub up", help="start everything and stay until stopped")
    command.add_argument("--host", default=os.environ.get("HUB_HOST", "").strip() or "127.0.0.1")
    command.add_argument("--port", type=port_number, default=os.environ.get("HUB_PORT", "").strip() or "8000")
    command.set_defaults(command=up)
    commands.add_parser("down", prog="hub down", help="stop a running system").set_defaults(command=down)
    commands.add_parser("status", prog="hub status", help="say what runs").set_defaults(command=status)
    command = commands.add_parser("run", help="run a command beside the database and the broker")
    command.add_argument("words", nargs=argparse.REMAINDER)
    command.set_defaults(command=run)
    command = commands.add_parser("test", help="run pytest with servers of its own")
    command.add_argument("words", nargs=argparse.REMAINDER)
    command.set_defaults(command=test)
    return parser.parse_args()


def port_number(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(
            f"“{text}” is no port: choose a number up to 65535, or 0 for any free one"
        )
    return int(text)


def up(arguments: argparse.Namespace) -> int:
    folder = DataFolder.from_environment()
    folder.make()
    with only_one(folder) as is_ours:
        if not is_ours:
            say(already_running(folder))
            return 1
        stop_stranded_parts(folder)  # one of them may hold the port
        port = free_port(arguments.host, arguments.port)
        say(f"Starting LoRA Hub. Its data is in {folder.root}, its logs in {folder.logs}")
        return Supervisor(folder, host=arguments.host, port=port).run()


def already_running(folder: DataFolder) -> str:
    record = SupervisorRecord.read(folder)
    if record is None:
        return f"Another command is using {folder.root}. Try again when it has ended."
    return f"LoRA Hub is already running at {record.address} (pid {record.supervisor.pid})."


def free_port(host: str, port: int) -> int:
    """The port itself if nobody listens there; for 0 one that is free now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            chosen: int = probe.getsockname()[1]
            return chosen
    except OSError as error:
        raise EmbeddedError(
            f"The site cannot listen on {bracket_host(host)}:{port}: {error.strerror}. "
            f"Choose another port with ./hub up --port {port + 1}, or any free one with --port 0."
        ) from error


def down(_: argparse.Namespace) -> int:
    folder = DataFolder.from_environment()
    record = SupervisorRecord.read(folder)
    if record is None:
        say("LoRA Hub is not running.")
        return 0
    if record.supervisor.is_alive():
        os.kill(record.supervisor.pid, signal.SIGTERM)
        if not processes.wait_for(lambda: not record.supervisor.is_alive(), timeout_s=STOP_TIMEOUT_S):
            raise EmbeddedError(f"The supervisor (pid {record.supervisor.pid}) does not stop.")
    with only_one(folder) as is_ours:
        if is_ours:
            stop_stranded_parts(folder)
    say("LoRA Hub has stopped.")
    return 0


def status(_: argparse.Namespace) -> int:
    folder = DataFolder.from_environment()
    record = SupervisorRecord.read(folder)
    if record is None or not record.supervisor.is_alive():
        say("LoRA Hub is not running. Start it with ./hub up")
        say_security_contact(names_security_contact())
        say_sandbox()
        return NOT_RUNNING
    state = "is running" if record.is_healthy else "is starting"
    say(f"LoRA Hub {state} at {record.address} (pid {record.supervisor.pid}).")
    for name, (identity, _signal) in record.parts.items():
        say(f"  {name:<15} {'running' if identity.is_alive() else 'down'}  pid {identity.pid}")
    say_security_contact(record.has_security_contact)
    say_sandbox()
    return 0


def say_security_contact(is_named: bool) -> None:
    if not is_named:
        say(
            "No security contact is set, so /.well-known/security.txt leads to the help page. "
            "Set HUB_SECURITY_CONTACT to an e-mail address."
        )


def say_sandbox() -> None:
    """What keeps jobs from the site on this machine, as a process finds that has just tried."""
    subprocess.run([sys.executable, "-m", "hub_site.jobs.sandbox"], cwd=REPOSITORY, check=False)


def run(arguments: argparse.Namespace) -> int:
    """Run a command of the site with the running servers, or with servers of its own for so long."""
    folder = DataFolder.from_environment()
    folder.make()
    with only_one(folder) as is_ours:
        if is_ours:
            stop_stranded_parts(folder)
            with stopping_on_signals(), running_servers(folder) as servers:
                return call(
                    after_dashes(arguments.words), site_environment(folder, servers.environment, production())
                )
    processes.wait_for(folder.environment_file.exists, timeout_s=START_TIMEOUT_S)
    servers_of_the_other = read_environment(folder.environment_file)
    if not servers_of_the_other:
        raise EmbeddedError(already_running(folder))
    return call(after_dashes(arguments.words), site_environment(folder, servers_of_the_other, production()))


def production() -> str:
    return os.environ.get("DJANGO_SETTINGS_MODULE", "").strip() or "hub_site.settings.prod"


def test(arguments: argparse.Namespace) -> int:
    """Run pytest beside a fresh database and broker that leave nothing behind."""
    with stopping_on_signals(), tempfile.TemporaryDirectory(prefix="lora-hub-test-") as name:
        folder = DataFolder(Path(name))
        folder.root.chmod(0o711)
        folder.make()
        with running_servers(folder, is_forgetful=True) as servers:
            environment = site_environment(folder, servers.environment, "hub_site.settings.test")
            environment.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors; other tests use the other cores
            return call([sys.executable, "-m", "pytest", *after_dashes(arguments.words)], environment)


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end us by an exception, as Ctrl-C does: the servers are stopped."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    yield


def after_dashes(words: list[str]) -> list[str]:
    return words[1:] if words[:1] == ["--"] else words


def call(command: list[str], environment: dict[str, str]) -> int:
    child = subprocess.Popen(command, env=environment)
    try:
        return child.wait()
    except KeyboardInterrupt:  # the terminal has sent it to the child too
        return child.wait()
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


if __name__ == "__main__":
    sys.exit(main())
