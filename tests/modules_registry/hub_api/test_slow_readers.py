"""Clients that read slowly keep nothing from anybody else."""

import socket
import urllib.request
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.factories import config_file, make_module, weights_file

pytestmark = pytest.mark.slow

MORE_THAN_THE_POOL = 12  # the tests' web server has 8 connections to the database
WIDTH, RANK = 16_384, 64  # 16 MB: more than the kernel keeps for a client


def begin_to_read(address: str, path: str) -> socket.socket:
    """Ask for a file, and read the first line of the answer alone."""
    client = socket.socket()
    client.settimeout(30)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((urlsplit(address).hostname, urlsplit(address).port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert client.recv(15) == b"HTTP/1.1 200 OK"
    return client


def test_more_slow_downloads_than_connections_to_the_database_leave_pages_to_others(site, alice):
    config = config_file(base_model_name_or_path="someone/large", r=RANK, lora_alpha=RANK)
    make_module(alice, "large", config_file=config, weights_file=weights_file(rank=RANK, width=WIDTH))
    path = "/alice/large/resolve/main/adapter_model.safetensors"
    with ExitStack() as held:
        for _ in range(MORE_THAN_THE_POOL):
            held.enter_context(begin_to_read(site.address, path))
        with urllib.request.urlopen(f"{site.address}/modules/", timeout=30) as page:
            assert b"large" in page.read()
