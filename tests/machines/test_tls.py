"""Database, broker and storage over TLS, with passwords; a certificate of somebody else is refused."""

import ssl
import subprocess
from pathlib import Path

import pytest

from tests.machines.conftest import run_python, socket_of_the_database
from tests.relay import Relay

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

TRY = """
from django.db import connection
from hub_site.celery import app
from modules_registry.blobs import store

def attempt(what):
    try:
        return what()
    except Exception as error:
        return type(error).__name__

def ask_database():
    with connection.cursor() as cursor:
        cursor.execute("SHOW tcp_keepalives_idle")
        return connection.connection.pgconn.ssl_in_use, cursor.fetchone()[0] != ""

print(attempt(ask_database))
print(attempt(lambda: app.connection_for_read().ensure_connection(max_retries=1, timeout=5).connected))
print(attempt(lambda: store().exists("0" * 64)))
"""


def certificate(folder: Path, name: str) -> Path:
    """A key and its own certificate for this machine's address, in one file."""
    key, made = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made)],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


@pytest.fixture
def over_tls(new_machine, object_storage, broker, tmp_path):
    """A machine whose ways to the servers speak TLS, trusting the certificate that the test names."""
    own = certificate(tmp_path, "own")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, own.with_suffix(".key"))
    machine = new_machine("secure")
    machine.close()
    machine.database = Relay(socket_of_the_database(), tls=context, is_postgres=True)
    machine.broker = Relay(("127.0.0.1", broker.port), tls=context)
    machine.files = Relay(("127.0.0.1", object_storage.port), tls=context)
    machine.relays = (machine.database, machine.broker, machine.files)

    def try_with(trusted: Path) -> list[str]:
        plain = machine.environment
        machine.changes = {
            "DATABASE_URL": f"{plain['DATABASE_URL']}?sslmode=verify-full&sslrootcert={trusted}",
            "CELERY_BROKER_URL": plain["CELERY_BROKER_URL"].replace("redis://", "rediss://")
            + f"?ssl_cert_reqs=required&ssl_ca_certs={trusted}",
            "HUB_STORE_ENDPOINT": plain["HUB_STORE_ENDPOINT"].replace("http://", "https://"),
            "AWS_CA_BUNDLE": str(trusted),
        }
        said = run_python(TRY, machine).splitlines()
        machine.changes = {}
        return said

    try_with.own = own
    return try_with


def test_each_server_is_reached_over_tls_and_a_stranger_s_certificate_is_refused(over_tls, tmp_path):
    assert over_tls(over_tls.own) == ["(True, True)", "True", "False"]
    other = certificate(tmp_path, "other")
    database, broker, storage = over_tls(other)
    assert database == "OperationalError"
    assert broker == "OperationalError"
    assert storage == "StoreUnreachableError"
