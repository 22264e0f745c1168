"""`./hub up` as a whole, with every real part: one start that is watched, killed, and started again."""

import os
import re
import signal
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from hub_site.embedded.environment import read_environment
from hub_site.embedded.processes import wait_for
from tests.running_hub import READY_TIMEOUT_S, Hub, temporary_hub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PARTS = [
    "postgres",
    "valkey",
    "web",
    "worker-default",
    "worker-transfer",
    "worker-compose",
    "worker-try",
    "scheduler",
]
FIRST_PAGE_S = 10  # on two cores with nothing else to do; the tests' machine may be busy
BUSY_FACTOR = 3


@pytest.fixture(scope="module")
def hub():
    with temporary_hub() as hub:
        began_s = time.monotonic()
        hub.up()
        wait_for(
            lambda: hub.status_of("/") == 200 or hub.up_process.poll() is not None, timeout_s=READY_TIMEOUT_S
        )
        hub.first_page_s = time.monotonic() - began_s
        hub.wait_until_healthy()
        yield hub


def test_it_names_the_address_and_a_demo_account_with_a_password(hub):
    assert f"LoRA Hub is ready: http://127.0.0.1:{hub.port}" in hub.printed
    assert re.search(r"demo account: demo / \S{12,}", hub.printed)


def test_every_part_runs_and_has_a_log(hub):
    status = hub.call("status")
    assert status.returncode == 0
    assert "Each job computes in a sandbox: " in status.stdout
    assert "No security contact is set" in status.stdout
    for part in PARTS:
        assert re.search(rf"{part}\s+running", status.stdout), status.stdout
        assert (hub.folder.logs / f"{part}.log").exists()


@pytest.mark.parametrize("path", ["/", "/health/", "/modules/", "/accounts/login/", "/api/v1/modules"])
def test_its_pages_answer(hub, path):
    assert hub.status_of(path) == 200


def test_the_first_page_does_not_keep_anybody_waiting(hub):
    assert hub.first_page_s < FIRST_PAGE_S * BUSY_FACTOR


def test_static_files_carry_their_hash(hub):
    with urllib.request.urlopen(f"http://127.0.0.1:{hub.port}/", timeout=5) as answer:
        sheet = re.search(r"/static/css/tokens\.[0-9a-f]{12}\.css", answer.read().decode()).group()
    with urllib.request.urlopen(f"http://127.0.0.1:{hub.port}{sheet}", timeout=5) as answer:
        assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("part", ["web", "worker-default", "worker-compose", "worker-try", "scheduler"])
def test_no_torch_in_its_memory(hub, part):
    assert "libtorch" not in Path(f"/proc/{hub.pid(part)}/maps").read_text()


@pytest.mark.parametrize("part", PARTS)
def test_what_users_export_to_point_at_the_site_stays_out_of_it(hub, part):
    environment = Path(f"/proc/{hub.pid(part)}/environ").read_bytes().split(b"\0")
    assert [line for line in environment if line.startswith(b"HF_")] == []


def test_secrets_are_the_operators_alone(hub):
    for file in (hub.folder.secrets_file, hub.folder.environment_file):
        assert file.stat().st_mode & 0o077 == 0
    secret = hub.folder.secrets_file.read_text().partition("=")[2].strip()
    password = re.search(r"demo account: demo / (\S+)", hub.printed).group(1)
    for log in hub.folder.logs.glob("*.log"):
        assert secret not in log.read_text(errors="replace")
        assert password not in log.read_text(errors="replace")


def test_a_second_up_says_where_the_first_one_is(hub):
    second = hub.call("up")
    assert second.returncode == 1
    assert (
        f"already running at http://127.0.0.1:{hub.port} (pid {hub.record.supervisor.pid})" in second.stdout
    )


def test_a_taken_port_is_named_with_what_to_do(hub, tmp_path):
    other = Hub(tmp_path)
    other.port = hub.port
    refused = other.call("up", "--port", str(hub.port))
    assert refused.returncode == 1
    assert f"127.0.0.1:{hub.port}" in refused.stderr
    assert "--port" in refused.stderr


def test_manage_speaks_to_the_running_database(hub):
    shown = hub.call(
        "manage",
        "shell",
        "--no-imports",
        "-c",
        "from hub_site.accounts.models import User as U; print(U.objects.get().username)",
    )
    assert shown.stdout.strip() == "demo", shown.stderr


@pytest.mark.parametrize("part", ["web", "worker-compose", "valkey", "postgres"])
def test_a_killed_part_comes_back(hub, part):
    before = hub.pid(part)
    os.kill(before, signal.SIGKILL)
    assert wait_for(lambda: hub.pid(part) != before, timeout_s=30), hub.printed
    assert wait_for(lambda: hub.status_of("/health/") == 200, timeout_s=60), hub.printed
    assert wait_for(lambda: (hub.folder.run / "launcher.ready").exists(), timeout_s=120), hub.printed


def test_after_kill_9_of_the_supervisor_the_next_up_takes_over(hub):
    left = [psutil.Process(hub.pid(part)) for part in PARTS]
    os.kill(hub.record.supervisor.pid, signal.SIGKILL)
    hub.up_process.wait(10)
    hub.up()
    hub.wait_until_healthy()
    assert [process for process in left if process.is_running()] == []
    assert hub.status_of("/health/") == 200


def test_sigterm_stops_everything_and_leaves_no_process_behind(hub):
    broker = read_environment(hub.folder.environment_file)["CELERY_BROKER_URL"]
    socket_folder = Path(broker.removeprefix("redis+socket://")).parent
    assert socket_folder.parent == Path("/tmp")  # the data folder's own path is too long for a socket
    os.kill(hub.record.supervisor.pid, signal.SIGTERM)
    assert hub.up_process.wait(60) == 0, hub.printed
    assert wait_for(lambda: hub.processes() == [], timeout_s=10), hub.processes()
    assert not hub.folder.environment_file.exists()
    assert not socket_folder.exists()
    assert "not running" in hub.call("status").stdout


def test_a_wrong_setting_is_told_in_a_sentence_and_nothing_stays():
    with temporary_hub() as hub:
        hub.environment["HUB_UPLOAD_MAX_MB"] = "lots"
        hub.up()
        assert hub.up_process.wait(60) == 1
        assert "The setting HUB_UPLOAD_MAX_MB is “lots”, not a whole number." in hub.printed
        assert "Traceback" not in hub.printed
        assert hub.processes() == []


def test_an_interrupted_start_leaves_nothing_either():
    with temporary_hub() as hub:
        hub.up()
        assert wait_for(lambda: "valkey" in hub.printed, timeout_s=60)
        hub.up_process.send_signal(signal.SIGINT)
        assert hub.up_process.wait(60) == 0, hub.printed
        assert hub.processes() == []
