"""No body reaches Django's spool that is too large, too slow or one too many."""

import asyncio
import errno
import json

import pytest
from django.db import OperationalError

from hub_site import body_gate
from hub_site.body_gate import EXAMPLES_MAX_BYTES, FORM_MAX_BYTES, JSON_MAX_BYTES, BodyGate, BodyRefused
from hub_site.common.security_headers import SECURITY_HEADERS

UPLOAD_MAX_BYTES = 20_000_000
COMMIT_MAX_BYTES = 16_000_000  # its own: what is larger comes by LFS


async def swallow_body(scope, receive, send):
    """Stands for Django: reads the body to its end, then says how long it was."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


class Visitor:
    """Sends a body in pieces and keeps the answer."""

    def __init__(self, path, pieces, *, declared=None, pause_s=0.0, method="POST"):
        headers = [(b"content-length", str(declared).encode())] if declared is not None else []
        self.scope = {"type": "http", "path": path, "method": method, "headers": headers}
        self.pieces, self.pause_s, self.answer = list(pieces), pause_s, []

    async def receive(self):
        await asyncio.sleep(self.pause_s)
        if not self.pieces:
            return {"type": "http.disconnect"}
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}

    async def send(self, message):
        self.answer.append(message)

    def visit(self, gate):
        asyncio.run(gate(self.scope, self.receive, self.send))
        return self.answer[0]["status"]

    @property
    def headers(self):
        return dict(self.answer[0]["headers"])

    @property
    def body(self):
        return self.answer[1]["body"].decode()


async def anybody(scope):
    return None


async def nobody(scope):
    return BodyRefused(401, "sign_in", "Sign in before you upload.")


def new_gate(application=swallow_body, why_not=anybody, **options):
    caps = {
        "upload_max_bytes": UPLOAD_MAX_BYTES,
        "commit_max_bytes": COMMIT_MAX_BYTES,
        "in_flight_max_bytes": 8 * UPLOAD_MAX_BYTES,
    }
    return BodyGate(application, **caps | {"why_not": why_not, "is_disk_low": lambda: False} | options)


@pytest.mark.parametrize(
    ("path", "cap"),
    [
        ("/modules/new/", UPLOAD_MAX_BYTES),
        ("/alice/french/upload", UPLOAD_MAX_BYTES),
        ("/api/v1/modules", UPLOAD_MAX_BYTES),
        ("/api/v1/modules/alice/french/versions", UPLOAD_MAX_BYTES),
        ("/lfs/signed:by:us", UPLOAD_MAX_BYTES),
        ("/api/models/alice/french/commit/main", COMMIT_MAX_BYTES),
        ("/api/models/alice/french/commit/feat/x", COMMIT_MAX_BYTES),
        ("/api/models/alice/french/preupload/main", JSON_MAX_BYTES),
        ("/modules/check/", JSON_MAX_BYTES),
        ("/alice/french.git/info/lfs/objects/batch", JSON_MAX_BYTES),
        ("/compositions/new/", EXAMPLES_MAX_BYTES),
        ("/api/v1/compositions", EXAMPLES_MAX_BYTES),
        ("/accounts/login/", FORM_MAX_BYTES),
        ("/alice/french/edit", FORM_MAX_BYTES),
        ("/x/modules/new/", FORM_MAX_BYTES),
    ],
)
def test_each_kind_of_address_has_its_cap_declared_or_not(path, cap):
    assert Visitor(path, [b"x" * cap], declared=cap).visit(new_gate()) == 200
    assert Visitor(path, [b"x" * cap, b""]).visit(new_gate()) == 200
    assert Visitor(path, [], declared=cap + 1).visit(new_gate()) == 413
    assert Visitor(path, [b"x" * cap, b"x", b""]).visit(new_gate()) == 413


@pytest.mark.parametrize("declared", ["-1", "1e3", "", "9" * 5000])
def test_a_length_that_is_none_is_refused_before_a_byte_is_read(declared):
    visitor = Visitor("/accounts/login/", [])
    visitor.scope["headers"] = [(b"content-length", declared.encode())]
    assert visitor.visit(new_gate()) == 413


def test_the_api_answers_in_its_own_shape_and_pages_in_html():
    program, person = (
        Visitor("/api/v1/modules", [], declared=10**10),
        Visitor("/modules/new/", [], declared=10**10),
    )
    program.visit(new_gate())
    assert json.loads(program.body)["error"]["code"] == "too_large"
    script = Visitor("/modules/new/", [], declared=10**10)
    script.scope["headers"] = [*script.scope["headers"], (b"accept", b"application/json")]
    script.visit(new_gate())
    assert json.loads(script.body)["error"]["code"] == "too_large"
    person.visit(new_gate())
    assert "at most 20\u00a0MB" in person.body
    assert (b"connection", b"close") in person.answer[0]["headers"]


def test_hub_clients_are_told_in_the_header_that_they_print():
    program = Visitor("/api/models/a/b/commit/main", [], declared=10**10)
    program.visit(new_gate())
    assert "Too large" in json.loads(program.body)["error"]
    assert any(name == b"x-error-message" for name, _ in program.answer[0]["headers"])


@pytest.mark.parametrize(
    "path", ["/lfs/x", "/api/models/a/b/commit/main", "/modules/new/", "/modules/check/", "/a/b/upload"]
)
def test_a_stranger_sends_no_more_than_a_form(path):
    gate = new_gate(why_not=nobody)
    assert Visitor(path, [b"x" * FORM_MAX_BYTES], declared=FORM_MAX_BYTES).visit(gate) == 200
    assert Visitor(path, [], declared=FORM_MAX_BYTES + 1).visit(gate) == 401
    assert Visitor(path, [b"x" * FORM_MAX_BYTES, b"x", b""]).visit(gate) == 401


def test_a_refused_visitor_may_finish_sending_after_the_answer():
    visitor = Visitor("/modules/new/", [b"x" * 1000] * 20 + [b""], declared=10**9)
    assert visitor.visit(new_gate()) == 413
    assert visitor.pieces == []
    assert [message.get("more_body", False) for message in visitor.answer] == [False, True, False]


def test_a_refused_visitor_may_not_go_on_for_ever(monkeypatch):
    monkeypatch.setattr(body_gate, "LINGER_S", 0.05)
    visitor = Visitor("/modules/new/", [b"x"] * 1000, declared=10**9, pause_s=0.01)
    visitor.visit(new_gate())
    assert len(visitor.pieces) > 900


def test_a_body_that_trickles_in_is_given_up():
    pieces = [b"x"] * 50
    assert Visitor("/modules/new/", pieces, pause_s=0.01).visit(new_gate(grace_s=0.1)) == 408


def test_a_large_body_at_a_fair_speed_may_take_long():
    pieces = [b"x" * 1000] * 20
    gate = new_gate(grace_s=0.1, least_bytes_per_s=10_000)
    assert Visitor("/modules/new/", pieces, pause_s=0.01).visit(gate) == 200


def test_waiting_for_the_visitor_to_leave_has_no_time_limit():
    async def stream(scope, receive, send):
        await receive()
        await receive()  # Django watches for the end of the connection while it streams
        await send({"type": "http.response.start", "status": 200, "headers": []})

    visitor = Visitor("/compositions/1/events/", [b"", b"", b""], pause_s=0.05)
    visitor.pieces = [b""]
    gone = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

    async def receive():
        await asyncio.sleep(0 if len(gone) == 2 else 0.2)
        return gone.pop(0)

    asyncio.run(new_gate(stream, grace_s=0.05)(visitor.scope, receive, visitor.send))
    assert visitor.answer[0]["status"] == 200


async def no_space(scope, receive, send):
    """As Django does when the disk is full while it keeps a body, before any view runs."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("path", ["/api/v1/modules", "/modules/new/", "/api/models/alice/french/commit/main"])
def test_a_disk_that_is_full_while_a_body_comes_in_is_told_as_such(path):
    visitor = Visitor(path, [b"x" * 100, b"y" * 100])
    assert visitor.visit(new_gate(no_space)) == 507
    assert "disk is full" in visitor.body
    assert int(visitor.headers[b"retry-after"]) > 0


def test_any_other_error_of_the_application_is_not_hidden():
    async def broken(scope, receive, send):
        raise OSError(errno.EPIPE, "Broken pipe")

    with pytest.raises(OSError, match="Broken pipe"):
        Visitor("/compositions/", [b"x"]).visit(new_gate(broken))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/modules", 507),
        ("/api/v1/modules/alice/french/versions", 507),
        ("/lfs/signed:by:us", 507),
        ("/alice/french/upload", 507),
        ("/sign-in/", 200),
    ],
)
def test_uploads_are_refused_before_the_disk_is_full(path, status, caplog):
    visitor = Visitor(path, [b"x"])
    assert visitor.visit(new_gate(is_disk_low=lambda: True)) == status
    assert (b"retry-after" in visitor.headers) == (status == 507)
    assert (f"POST {path} refused: 507 disk_full: " in caplog.text) == (status == 507)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/v1/modules/alice/french"),
        ("PATCH", "/api/v1/modules/alice/french"),
        ("POST", "/api/v1/modules/alice/french/try"),
        ("DELETE", "/api/v1/modules"),
    ],
)
def test_what_stores_no_file_is_not_refused_for_want_of_space(method, path):
    visitor = Visitor(path, [b"x"], method=method)
    assert visitor.visit(new_gate(is_disk_low=lambda: True)) == 200


@pytest.mark.parametrize("path", ["/api/v1/modules", "/modules/new/", "/api/models/alice/french/commit/main"])
def test_who_may_upload_is_not_known_while_the_database_is_away(path):
    async def unknown(scope):
        raise OperationalError("the database server does not answer")

    visitor = Visitor(path, [b"x"])
    assert visitor.visit(new_gate(why_not=unknown)) == 503
    assert "database could not be reached" in visitor.body
    assert int(visitor.headers[b"retry-after"]) > 0


def test_all_visitors_together_may_only_send_so_much_at_once():
    gate = new_gate(in_flight_max_bytes=1000)
    held = asyncio.Event()

    async def both():
        first, second = (
            Visitor("/modules/new/", [b"x" * 900, b""]),
            Visitor("/modules/new/", [b"x" * 900, b""]),
        )

        async def wait_before_the_end(message_of=first.receive):
            if len(first.pieces) == 1:
                await held.wait()
            return await message_of()

        waiting = asyncio.create_task(gate(first.scope, wait_before_the_end, first.send))
        while gate.in_flight_bytes < 900:
            await asyncio.sleep(0)
        await gate(second.scope, second.receive, second.send)
        held.set()
        await waiting
        return first.answer[0]["status"], second.answer[0]["status"]

    assert asyncio.run(both()) == (200, 503)
    assert gate.in_flight_bytes == 0  # whoever is done frees the room


def test_a_body_that_came_fast_and_falls_silent_is_given_up():
    fast = b"x" * 4_000_000
    visitor = Visitor("/modules/new/", [])

    async def receive():
        if not visitor.pieces:
            visitor.pieces.append(fast)
            return {"type": "http.request", "body": fast, "more_body": True}
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    visitor.receive = receive
    assert visitor.visit(new_gate(grace_s=0.05)) == 408


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([(b"cookie", b'a="' + b"\\" * 60_000 + b'"')], "cookies_too_large"),
        ([(b"cookie", b"a=" + b"x" * 800)] * 11, "cookies_too_large"),
        ([(b"x-padding", b"x" * 33_000)], "headers_too_large"),
        ([(b"x-%d" % number, b"x" * 100) for number in range(400)], "headers_too_large"),
    ],
)
def test_headers_and_cookies_have_a_cap(headers, code):
    visitor = Visitor("/api/v1/modules", [b""])
    visitor.scope["headers"] += headers
    assert visitor.visit(new_gate()) == 431
    assert json.loads(visitor.body)["error"]["code"] == code


def test_the_usual_headers_pass():
    visitor = Visitor("/modules/new/", [b""])
    visitor.scope["headers"] += [(b"cookie", b"x" * 4000), (b"user-agent", b"x" * 400), (b"x", b"y" * 8000)]
    assert visitor.visit(new_gate()) == 200


def test_a_refusal_has_the_security_headers_of_every_answer():
    visitor = Visitor("/modules/new/", [], declared=10**10)
    visitor.visit(new_gate())
    headers = {name.decode(): value.decode() for name, value in visitor.answer[0]["headers"]}
    assert {name: headers[name.lower()] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert headers["cache-control"] == "no-store"
