"""Server-sent events: what becomes of a composition, told to every page and program that watches it.

However many watch, a web process reads over one database connection. The database notifies it on commit
(migration 0007), it reads each composition's events by that composition's own numbers, once for all who
have the same ones, and hands the same bytes to each of them. An event's number is the stream's `id:`, so
whoever was cut off says in Last-Event-ID what they have, and gets the rest: every event once, in order.
"""

import asyncio
import contextlib
import json
import logging
import select
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import Error, connection
from django.http import HttpRequest, StreamingHttpResponse

from composer.models import Composition
from composer.watch import processes, selectors
from composer.watch.event_text import event_json
from hub_site.common.errors import Refusal

logger = logging.getLogger(__name__)

CHANNEL = "composition"  # as the migration's triggers have it
RETRY_MS = 1000  # how soon a browser that was cut off comes back
PING_S = 15.0  # proxies close a connection on which nothing was said for a minute
STREAM_S = 600.0  # then it is closed, and whoever comes back must still be allowed to
DATABASE_RETRY_S = 1.0  # between tries while the database does not answer
TELL_EVERY_S = 5.0  # the other web processes how many streams are here,
TELL_AGAIN_S = 0.5  # and so soon after it has changed
UNREAD_MAX = 1000  # chunks; a reader this far behind is cut off, and comes back for what it missed


class TooManyStreams(Refusal):
    def __init__(self) -> None:
        message = "Too many streams are open. Ask for the events one answer at a time instead."
        super().__init__("too_many_streams", message, status=503)


class NoStreamHere(Refusal):
    def __init__(self) -> None:
        message = "This server cannot hold a stream open. Ask for the events one answer at a time instead."
        super().__init__("no_stream_here", message, status=501)


def event_stream(request: HttpRequest, composition: Composition, after: int) -> StreamingHttpResponse:
    """The answer that goes on until the composition is finished, or the visitor leaves.

    Args:
        after: the last event that the visitor has; 0 for none.
    """
    if not isinstance(request, ASGIRequest):
        raise NoStreamHere
    dispatcher.require_stream_quota(composition.owner_id)
    return StreamingHttpResponse(
        frames(Watcher(composition.pk, composition.owner_id, after)),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def frames(watcher: "Watcher") -> AsyncIterator[bytes]:
    """Everything that one watcher is sent."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    with dispatcher.watched_by(watcher):
        ends_at = time.monotonic() + STREAM_S
        while (left_s := ends_at - time.monotonic()) > 0:
            try:
                chunk = await asyncio.wait_for(watcher.chunks.get(), min(PING_S, left_s))
            except TimeoutError:
                yield b": nothing new\n\n"
                continue
            if chunk is None:
                return
            yield chunk


@dataclass(eq=False)
class Watcher:
    """One open stream: which events it has, and what waits to be sent; None ends it."""

    composition_id: UUID
    owner_id: int
    after: int
    status: Mapping[str, Any] | None = None  # as it was last told
    chunks: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    loop: asyncio.AbstractEventLoop | None = None

    def push(self, chunk: bytes | None) -> None:
        self.chunks.put_nowait(chunk if self.chunks.qsize() < UNREAD_MAX else None)


class StreamDispatcher:
    """All streams of this process, and the thread that reads for them while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: dict[UUID, set[Watcher]] = defaultdict(set)
        self._changed: set[UUID] = set()  # compositions to look at
        self._thread: threading.Thread | None = None
        self._wake_sender, self._wake_receiver = socket.socketpair()
        self._wake_sender.setblocking(False)
        self._told_at = 0.0  # of time.monotonic()
        self._told: Counter[int] | None = None  # streams by owner, as the other processes know them

    def count(self) -> int:
        """Streams that are open in this process."""
        with self._lock:
            return sum(map(len, self._watchers.values()))

    def require_stream_quota(self, owner_id: int) -> None:
        """Refuse one more stream than this process bears, or than an owner may have in all processes."""
        by_owner = self._count_by_owner()
        if by_owner.total() >= settings.HUB_STREAMS_MAX:
            raise TooManyStreams
        if by_owner[owner_id] + processes.count_elsewhere(owner_id) >= settings.HUB_STREAMS_OF_OWNER_MAX:
            raise TooManyStreams

    def _count_by_owner(self) -> Counter[int]:
        with self._lock:
            return Counter(watcher.owner_id for group in self._watchers.values() for watcher in group)

    @contextlib.contextmanager
    def watched_by(self, watcher: Watcher) -> Iterator[None]:
        watcher.loop = asyncio.get_running_loop()
        with self._lock:
            self._watchers[watcher.composition_id].add(watcher)
            self._changed.add(watcher.composition_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._read, name="watching", daemon=True)
                self._thread.start()
        self._wake()
        try:
            yield
        finally:
            with self._lock:
                group = self._watchers[watcher.composition_id]
                group.discard(watcher)
                if not group:
                    del self._watchers[watcher.composition_id]
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it was woken already
            self._wake_sender.send(b"!")

    # --- the thread -----------------------------------------------------------

    def _read(self) -> None:
        """Read for the watchers until there are none. A lost database is looked for again."""
        try:
            while not self._is_over():
                try:
                    self._listen()
                except (Error, psycopg.Error, OSError) as error:
                    logger.warning("the streams lost the database: %s", error)
                    time.sleep(DATABASE_RETRY_S)
                finally:
                    connection.close()
        except BaseException:  # whatever ends this thread, nobody shall wait for it: browsers come back
            self._close_streams()
            raise  # the thread's own hook logs it

    def _is_over(self) -> bool:
        with self._lock:
            if self._watchers:
                return False
            self._thread = None
            return True

    def _close_streams(self) -> None:
        """End every stream: nobody shall wait for a thread that is no more."""
        with self._lock:
            self._thread = None
            deliver((watcher, None) for group in self._watchers.values() for watcher in group)

    def _listen(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET application_name = '{CHANNEL} streams'")  # as an operator sees it
            cursor.execute(f"LISTEN {CHANNEL}")
        listening = connection.connection
        with self._lock:
            self._changed.update(self._watchers)  # nobody listened until now
        self._told_at, self._told = 0.0, None  # of this connection nobody knows anything yet
        while self._watchers:
            self._tell_others()
            for composition_id in self._wait_for_changes(listening):
                self._update_watchers(composition_id)
        processes.forget_process()
        with connection.cursor() as cursor:
            cursor.execute("UNLISTEN *")  # the pool lends this connection to requests again
            cursor.execute("RESET application_name")

    def _tell_others(self) -> None:
        """Let the other web processes know how many streams each owner has here, soon after it changes."""
        by_owner, since_s = self._count_by_owner(), time.monotonic() - self._told_at
        if since_s >= TELL_EVERY_S or (by_owner != self._told and since_s >= TELL_AGAIN_S):
            processes.tell_others(by_owner)
            self._told_at, self._told = time.monotonic(), by_owner

    def _wait_for_changes(self, listening: psycopg.Connection[Any]) -> set[UUID]:
        """The compositions to look at; waits until there is one, or somebody came or left."""
        notified = {UUID(note.payload) for note in listening.notifies(timeout=0)}
        with self._lock:
            changed, self._changed = self._changed | notified, set()
            watched = changed & self._watchers.keys()
        if not watched:
            timeout_s = TELL_EVERY_S if self._count_by_owner() == self._told else TELL_AGAIN_S
            waiting = [listening.fileno(), self._wake_receiver.fileno()]
            ready, _, _ = select.select(waiting, [], [], timeout_s)
            if self._wake_receiver.fileno() in ready:
                self._wake_receiver.recv(4096)
        return watched

    def _update_watchers(self, composition_id: UUID) -> None:
        """Tell everyone who watches it what they do not know yet."""
        with self._lock:
            watchers = set(self._watchers.get(composition_id, ()))
        by_number: dict[int, list[Watcher]] = defaultdict(list)
        for watcher in watchers:
            by_number[watcher.after].append(watcher)
        for number, group in by_number.items():
            self._send_updates(composition_id, number, group)

    def _send_updates(self, composition_id: UUID, number: int, group: Sequence[Watcher]) -> None:
        # The row before its events: they are rows before its end is.
        composition = Composition.objects.filter(pk=composition_id).defer("report").first()
        if composition is None:
            deliver((watcher, None) for watcher in group)
            return
        for events in selectors.events_in_parts(composition, number):
            told = b"".join(event_frame(event_json(event)) for event in events)
            deliver((watcher, told) for watcher in group)
            for watcher in group:
                watcher.after = events[-1].number
        status = status_of(composition)
        for watcher in group:
            if watcher.status != status:
                watcher.status = status
                deliver([(watcher, status_frame(status))])
        if composition.is_finished:
            deliver((watcher, None) for watcher in group)


def deliver(chunks: Iterable[tuple[Watcher, bytes | None]]) -> None:
    """Hand over what was read to the event loops that send it."""
    by_loop: dict[Any, list[tuple[Watcher, bytes | None]]] = defaultdict(list)
    for watcher, chunk in chunks:
        by_loop[watcher.loop].append((watcher, chunk))
    for loop, pairs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server ends
            loop.call_soon_threadsafe(push_all, pairs)


def push_all(pairs: Iterable[tuple[Watcher, bytes | None]]) -> None:
    for watcher, chunk in pairs:
        watcher.push(chunk)


def event_frame(line: Mapping[str, Any]) -> bytes:
    return f"id: {line['number']}\ndata: {json.dumps(line)}\n\n".encode()


def status_of(composition: Composition) -> dict[str, Any]:
    """Where it stands, as far as no event tells it."""
    return {
        "status": composition.status,
        "is_finished": composition.is_finished,
        "stop_requested": composition.stop_requested,
        "cancel_requested": composition.cancel_requested,
    }


def status_frame(status: Mapping[str, Any]) -> bytes:
    """It has no id: nobody goes on from it."""
    return f"event: standing\ndata: {json.dumps(status)}\n\n".encode()


dispatcher = StreamDispatcher()
