"""A Hub that misbehaves on purpose: it stands in front of a real one and spoils the answers it is told to."""

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host"})


@dataclass
class Fault:
    """What is done to requests whose method and path fit, so many times."""

    fits: Callable[[str, str], bool]
    spoil: Callable[["FaultyHubHandler"], None]
    times: int = 1


@dataclass
class FaultyHub:
    """In front of the Hub at `behind`; without one, of a few files by path."""

    behind: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # "GET /path"
    tokens: list[str] = field(default_factory=list)  # as they came, request by request
    endpoint: str = ""

    def spoil(
        self, method: str, part: str, how: Callable[["FaultyHubHandler"], None], times: int = 1
    ) -> None:
        """Let the next requests of this method, with this in their path, meet a fault."""

        def fits(asked: str, path: str) -> bool:
            return asked == method and part in path

        self.faults.append(Fault(fits, how, times))

    def fault_for(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.fits(method, path):
                fault.times -= 1
                return fault
        return None


class FaultyHubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FaultyHub

    def answer_any(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        self.hub.tokens.append(self.headers.get("Authorization", ""))
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.hub.fault_for(self.command, self.path)
        if fault:
            fault.spoil(self)
        else:
            self.pass_on()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer_any  # noqa: N815  the server's own names

    def pass_on(self, change: Callable[[bytes], bytes] = bytes) -> None:
        """Answer as the Hub behind does, its body changed."""
        status, headers, content = self.honest()
        self.send(status, headers, change(content))

    def honest(self) -> tuple[int, dict[str, str], bytes]:
        if not self.hub.behind:
            found = self.hub.files.get(self.path)
            return (200, {}, found) if found is not None else (404, {"X-Error-Code": "EntryNotFound"}, b"")
        connection = http.client.HTTPConnection(urlsplit(self.hub.behind).netloc, timeout=60)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            kept["Accept-Encoding"] = "identity"  # a change is made to what was not compressed
            connection.request(self.command, self.path, self.body or None, kept)
            response = connection.getresponse()
            kept = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
            return response.status, kept, response.read()
        finally:
            connection.close()

    def send(
        self, status: int, headers: dict[str, str], content: bytes, *, length: int | None = None
    ) -> None:
        headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        self.send_response(status)
        for name, value in (
            headers | {"Content-Length": str(len(content) if length is None else length)}
        ).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the tests read `asked`."""


def status(code: int, **headers: str) -> Callable[[FaultyHubHandler], None]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send(code, named, b"")


def reset(handler: FaultyHubHandler) -> None:
    """Break the connection as a crashed server does, not as one that says goodbye."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def truncated(handler: FaultyHubHandler) -> None:
    """Half of the body, and then nothing more."""
    code, headers, content = handler.honest()
    handler.send(code, headers, content[: len(content) // 2], length=len(content))
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def wrong_bytes(handler: FaultyHubHandler) -> None:
    """The right length, the wrong content."""
    handler.pass_on(lambda content: bytes(byte ^ 1 for byte in content[:100]) + content[100:])


def too_many_bytes(handler: FaultyHubHandler) -> None:
    handler.pass_on(lambda content: content + b"more")


def silent(until: threading.Event) -> Callable[[FaultyHubHandler], None]:
    """No answer, for as long as the test lasts."""

    def wait(handler: FaultyHubHandler) -> None:
        until.wait(60)
        handler.close_connection = True

    return wait


def redirect_to(address: str) -> Callable[[FaultyHubHandler], None]:
    return lambda handler: handler.send(302, {"Location": address}, b"")


@contextmanager
def faulty_hub(behind: str = "") -> Iterator[FaultyHub]:
    hub = FaultyHub(behind)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (FaultyHubHandler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
