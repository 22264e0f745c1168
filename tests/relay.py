"""A network between a process and a server that can be cut, slowed down, and broken off in the middle."""

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PIECE_BYTES = 64 * 1024
POLL_S = 0.2
POSTGRES_ASKS_FOR_TLS = 80877103  # as its protocol has it; it may ask for another encryption before


class Relay:
    """Passes on what comes to a port of this machine to a server, by TCP or through a socket's file.

    Args:
        tls: what this end says of itself; clients then speak TLS up to here.
        is_postgres: its clients ask whether TLS is spoken before they speak it.
    """

    def __init__(
        self,
        server: tuple[str, int] | Path,
        *,
        tls: ssl.SSLContext | None = None,
        is_postgres: bool = False,
    ) -> None:
        self.server, self.tls, self.is_postgres = server, tls, is_postgres
        self.is_cut = False
        self.delay_s = 0.0  # of each piece, either way
        self.break_after_bytes: int | None = None  # of what comes back, once; then the connection is closed
        self.connections: set[socket.socket] = set()
        self.is_over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close every connection; new ones are closed at once, until `restore`."""
        self.is_cut = True
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        self.is_over.set()
        self.cut()
        self.listener.close()

    def _accept(self) -> None:
        while not self.is_over.is_set():
            try:
                incoming, _ = self.listener.accept()
            except OSError:
                return
            if self.is_cut:
                incoming.close()
                continue
            threading.Thread(target=self._pass_on, args=[incoming], daemon=True).start()

    def _pass_on(self, incoming: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(incoming)
            stack.enter_context(contextlib.suppress(OSError))
            if self.tls is not None:
                incoming = stack.enter_context(self._with_tls(incoming, self.tls))
            outgoing = stack.enter_context(self._connect())
            pair = {incoming: outgoing, outgoing: incoming}
            self.connections |= pair.keys()
            try:
                self._pump(pair, outgoing)
            finally:
                self.connections -= pair.keys()

    def _with_tls(self, incoming: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        asked = POSTGRES_ASKS_FOR_TLS if not self.is_postgres else 0
        while asked != POSTGRES_ASKS_FOR_TLS:
            _, asked = struct.unpack("!ii", incoming.recv(8, socket.MSG_WAITALL))
            incoming.sendall(b"S" if asked == POSTGRES_ASKS_FOR_TLS else b"N")
        return tls.wrap_socket(incoming, server_side=True)

    def _connect(self) -> socket.socket:
        if isinstance(self.server, Path):
            outgoing = socket.socket(socket.AF_UNIX)
            outgoing.connect(str(self.server))
            return outgoing
        return socket.create_connection(self.server)

    def _pump(self, pair: dict[socket.socket, socket.socket], outgoing: socket.socket) -> None:
        while not (self.is_cut or self.is_over.is_set()):
            ready, _, _ = select.select(list(pair), [], [], POLL_S)
            for end in ready:
                piece = end.recv(PIECE_BYTES)
                while isinstance(end, ssl.SSLSocket) and end.pending():  # select does not see it
                    piece += end.recv(PIECE_BYTES)
                if not piece:
                    return
                if self.delay_s:
                    time.sleep(self.delay_s)
                if end is outgoing and self._breaks(len(piece)):
                    return
                pair[end].sendall(piece)

    def _breaks(self, count: int) -> bool:
        if self.break_after_bytes is None:
            return False
        self.break_after_bytes -= count
        if self.break_after_bytes > 0:
            return False
        self.break_after_bytes = None
        return True


@contextlib.contextmanager
def relay_to(server: tuple[str, int] | Path) -> Iterator[Relay]:
    relay = Relay(server)
    try:
        yield relay
    finally:
        relay.close()
