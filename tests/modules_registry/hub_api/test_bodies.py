"""Bodies that nobody asked for, over real HTTP: they are stopped before Django keeps them."""

import http.client
import select
import socket

import pytest

from hub_site.common.site_faults import RETRY_AFTER_S
from hub_site.embedded.processes import wait_for
from tests.served_site import served_site

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
COMMIT = "/api/models/alice/french/commit/main"


def answer(site, *, headers, pieces=()):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.putrequest("POST", COMMIT)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    for piece in pieces:
        connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    if pieces:
        connection.send(b"0\r\n\r\n")
    said = connection.getresponse()
    return said.status, said.getheader("X-Error-Message")


def test_a_stranger_s_long_body_is_stopped_at_a_form_s_worth(site):
    status, message = answer(site, headers={"Transfer-Encoding": "chunked"}, pieces=[b"x" * 600_000] * 3)
    assert status == 401
    assert "Sign in before you upload" in message


@pytest.mark.parametrize("token", ["lh_nothing", ""])
def test_a_declared_length_beyond_the_cap_is_stopped_at_once(site, token):
    headers = {"Content-Length": str(10**10), "Authorization": f"Bearer {token}", "Connection": "close"}
    status, message = answer(site, headers=headers)
    assert status == 413
    assert "Too large" in message


def test_a_read_token_s_large_commit_is_told_that_it_may_only_read(site, alice, token_of):
    token = token_of(alice, "read")
    headers = {"Content-Length": "2000000", "Authorization": f"Bearer {token}", "Connection": "close"}
    assert answer(site, headers=headers) == (
        403,
        "This token may only read. Make one with write access under /settings/tokens/.",
    )


def test_a_body_that_trickles_in_is_given_up_while_others_go_on(site, alice, token_of):
    """Real seconds: one byte each, to a site that gives a body one second before its speed counts."""
    with served_site(site.data, HUB_BODY_GRACE_S="1") as strict, socket_to(strict) as slow:
        head = f"POST {COMMIT} HTTP/1.1\r\nHost: {strict.address[7:]}\r\nContent-Length: 100000\r\n"
        slow.sendall(f"{head}Authorization: Bearer {token_of(alice)}\r\n\r\n".encode())
        assert wait_for(lambda: trickle(slow), timeout_s=20)
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")
        assert strict.answers()
        assert spooled(site) == []


def test_when_too_much_comes_in_at_once_the_next_is_asked_to_come_later(site, alice, token_of):
    """One upload is held half-way; a second one does not fit beside it, and does once the first is gone."""
    head = {"Authorization": f"Bearer {token_of(alice)}", "Transfer-Encoding": "chunked"}
    with served_site(site.data, HUB_UPLOAD_MAX_MB="1", HUB_UPLOADS_IN_FLIGHT_MB="1") as small:
        held = http.client.HTTPConnection("127.0.0.1", small.port, timeout=60)
        begin(held, head)
        held.send(b"%x\r\n%s\r\n" % (1_500_000, b"x" * 1_500_000))
        busy = []
        wait_for(lambda: busy.append(second(small, head)) or busy[-1].status == 503, timeout_s=30)
        assert busy[-1].status == 503
        assert busy[-1].getheader("Retry-After") == str(RETRY_AFTER_S)
        assert "Too many uploads" in busy[-1].getheader("X-Error-Message")
        held.close()
        freed = []
        assert wait_for(lambda: freed.append(second(small, head)) or freed[-1].status != 503, timeout_s=30)
        assert freed[-1].status == 404  # nothing of that name, but the body was let in


def begin(connection, headers):
    connection.putrequest("POST", COMMIT)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()


def second(site, headers):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    begin(connection, headers)
    connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (600_000, b"x" * 600_000))
    said = connection.getresponse()
    said.read()
    connection.close()
    return said


def socket_to(site):
    return socket.create_connection(("127.0.0.1", site.port), timeout=60)


def trickle(connection):
    """Send one more byte; true once there is an answer."""
    readable, _, _ = select.select([connection], [], [], 0)
    if not readable:
        connection.sendall(b"x")
    return bool(readable)


def spooled(site):
    return list((site.data / "uploads").iterdir())
