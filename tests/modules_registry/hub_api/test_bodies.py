"""Bodies that nobody asked for, over real HTTP: they are stopped before Django keeps them."""

import http.client

import pytest

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
    assert "too large" in message
