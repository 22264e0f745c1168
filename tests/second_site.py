"""A second instance of this site, on disk, with a database of its own: the Hub behind the one under test."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from django.db import connection

from tests.served_site import ServedSite

OWNER = "behind"
PREPARE = """
import django, sys; django.setup()
from django.core.management import call_command
from hub_site.accounts.services import token_create, user_create
call_command("migrate", interactive=False, verbosity=0)
print(token_create(user=user_create(username=sys.argv[1]), label="tests", scope="write")[1])
"""


@dataclass(frozen=True)
class SecondSite:
    """Its address, and a token of the user that owns everything there."""

    endpoint: str
    token: str
    namespace: str = OWNER

    @property
    def remote(self) -> dict[str, str]:
        return {"endpoint": self.endpoint, "token": self.token, "namespace": self.namespace}


@contextmanager
def second_site(folder: Path, database: str) -> Iterator[SecondSite]:
    """Start it, with an empty database beside the tests' own; stop and remove it at the end."""
    with site_of_its_own(folder, database, OWNER) as (site, token):
        yield SecondSite(site.address, token)


@contextmanager
def site_of_its_own(
    folder: Path, database: str, owner: str, **environment: str
) -> Iterator[tuple[ServedSite, str]]:
    """A served site with an empty database, and the token of its only user."""
    with empty_database(database) as address:
        site = ServedSite(folder, DATABASE_URL=address, **environment)
        token = run_inside(site, PREPARE, owner).split()[-1]
        try:
            site.start()
            yield site, token
        finally:
            site.stop()


def run_inside(site: ServedSite, code: str, *arguments: str) -> str:
    """What a program prints that runs as a part of the site."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=site.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def empty_database(name: str) -> Iterator[str]:
    """The address of a new database on the tests' server."""
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}"')
    try:
        yield urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
