"""What every test may ask for: three people, their clients, and a data folder of the test's own.

Alice owns things, Bob works with her, Charlie is a stranger.
"""

import gc
import os
from collections.abc import Callable, Iterator

import psycopg
import psycopg.sql
import pytest
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from hub_site.accounts.models import User
from hub_site.accounts.services import token_create, user_create

PASSWORD = "a long walk by the sea"
NEED_THE_DATABASE = frozenset({"db", "transactional_db", "live_server", "hub"})  # fixtures
TESTS_ARE_LONG = bool(os.environ.get("HUB_TEST_LONG"))

for name in [name for name in os.environ if name.startswith("HF_")]:
    del os.environ[name]  # the tester's own Hub is none of the tests' business

gc.disable()  # until all is imported: a fifth of that time went into looking for garbage where there is none


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs the database; leave out what computes for minutes unless --long was asked for."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if NEED_THE_DATABASE.intersection(fixtures) or item.get_closest_marker("django_db"):
            item.add_marker("database")
    if TESTS_ARE_LONG:
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Collect garbage again, less often, and never look through what the imports made: it stays."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """The database as usual; at the end connections of threads are closed: Postgres waits 5 s for them.

    Tests with transactions of their own empty every table, so the audit's guard against that rests.
    """
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_auditentry DISABLE TRIGGER audit_entry_no_truncate")
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"  # not its own autovacuum, which nobody may end
        )


@pytest.fixture(autouse=True)
def data_folder(settings, tmp_path):
    settings.HUB_DATA = tmp_path / "data"
    settings.FILE_UPLOAD_TEMP_DIR = settings.HUB_DATA / "uploads"
    for name in ("blobs", "jobs", "run", "uploads"):
        (settings.HUB_DATA / name).mkdir(parents=True)
    return settings.HUB_DATA


@pytest.fixture
def alice(db) -> User:
    return user_create(username="alice", email="alice@example.org", password=PASSWORD)


@pytest.fixture
def bob(db) -> User:
    return user_create(username="bob", email="bob@example.org", password=PASSWORD)


@pytest.fixture
def charlie(db) -> User:
    return user_create(username="charlie", email="charlie@example.org", password=PASSWORD)


@pytest.fixture
def staff(db) -> User:
    return user_create(username="stella", email="stella@example.org", password=PASSWORD, staff=True)


@pytest.fixture
def read_only_database(transactional_db) -> Iterator[Callable[[bool], None]]:
    """Let the database take no changes, as a nearly full one: read_only_database(True), and back."""

    def set_read_only(value: bool) -> None:
        settings = connection.get_connection_params() | {"cursor_factory": None, "autocommit": True}
        with psycopg.connect(**settings) as other:
            other.execute("SET default_transaction_read_only = off")
            name = psycopg.sql.Identifier(other.info.dbname)
            state = psycopg.sql.SQL("on" if value else "off")
            statement = psycopg.sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
            other.execute(statement.format(name, state))
        connection.close()  # a new connection knows it

    yield set_read_only
    set_read_only(False)


@pytest.fixture
def browser_of() -> Callable[[User], Client]:
    """A signed-in client of the pages: browser_of(alice).get(…)."""

    def sign_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def api_of() -> Callable[..., APIClient]:
    """A client of the API with a token of that user: api_of(alice, scope="read").get(…)."""

    def with_token(user: User, scope: str = "write") -> APIClient:
        _, token = token_create(user=user, label="test", scope=scope)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        return client

    return with_token
