"""A second instance of this site, on disk and on a port of its own: the Hub behind the one under test."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connection

from hub_site.embedded.processes import wait_for
from tests.running_hub import free_port

READY_TIMEOUT_S = 120
OWNER = "behind"
PREPARE = f"""
import django; django.setup()
from django.core.management import call_command
from hub_site.accounts.services import token_create, user_create
call_command("migrate", interactive=False, verbosity=0)
print(token_create(user=user_create(username="{OWNER}"), label="behind", scope="write")[1])
"""


@dataclass(frozen=True)
class SecondSite:
    """Its address, and a token of the user that owns everything there."""

    endpoint: str
    token: str
    data: Path
    namespace: str = OWNER

    @property
    def remote(self) -> dict[str, str]:
        return {"endpoint": self.endpoint, "token": self.token, "namespace": self.namespace}


@contextmanager
def second_site(folder: Path, database: str) -> Iterator[SecondSite]:
    """Start it, with an empty database beside the tests' own; stop and remove it at the end."""
    port = free_port()
    environment = {
        **os.environ,
        "HUB_DATA": str(folder),
        "HUB_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "DATABASE_URL": beside(database),
        "DJANGO_SETTINGS_MODULE": "hub_site.settings.test",
        "PYTHONPATH": str(settings.BASE_DIR),
    }
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{database}"')
    prepared = subprocess.run(
        [sys.executable, "-c", PREPARE], env=environment, capture_output=True, text=True, check=False
    )
    assert prepared.returncode == 0, prepared.stderr
    command = [sys.executable, "-m", "uvicorn", "hub_site.asgi:application", "--port", str(port)]
    with (folder / "web.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--lifespan", "off", "--no-access-log"], env=environment, stdout=log, stderr=log
        )
    site = SecondSite(f"http://127.0.0.1:{port}", prepared.stdout.split()[-1], folder)
    try:
        assert wait_for(lambda: answers(site), timeout_s=READY_TIMEOUT_S), (folder / "web.log").read_text()
        yield site
    finally:
        process.terminate()
        process.wait(timeout=30)
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


def beside(database: str) -> str:
    """The address of another database on the tests' server."""
    known = connection.settings_dict
    user, host, port = known["USER"], known["HOST"], known["PORT"]
    if host.startswith("/"):
        return f"postgresql://{user}@/{database}?host={host}&port={port}"
    return f"postgresql://{user}:{known['PASSWORD']}@{host}:{port}/{database}"


def answers(site: SecondSite) -> bool:
    try:
        with urllib.request.urlopen(f"{site.endpoint}/health/", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False
