"""Serving a stored file: validators, ranges, and pieces, so that no file is ever whole in memory."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header, parse_etags

PIECE_BYTES = 256 * 1024
REDIRECTED_BYTES_MIN = 1_000_000  # a smaller file is here faster than at the end of a redirect
ONE_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
DIGITS_MAX = 18  # no file has so many bytes; Python refuses to read a number of thousands of digits
CONTENT_TYPES = {
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".zip": "application/zip",
}


@dataclass(frozen=True)
class Download:
    """A file to hand out. Its bytes never change: they are named by their sha256."""

    name: str  # what the browser saves it as
    sha256: str
    size_bytes: int
    open: Callable[[], BinaryIO]
    # From a Content-Disposition and a type: where a visitor may fetch it without us, if that is somewhere.
    address: Callable[[str, str], str | None] = lambda disposition, content_type: None

    @property
    def etag(self) -> str:
        return f'"{self.sha256}"'

    @property
    def disposition(self) -> str:
        return str(content_disposition_header(as_attachment=True, filename=self.name))

    @property
    def content_type(self) -> str:
        return next(
            (kind for suffix, kind in CONTENT_TYPES.items() if self.name.endswith(suffix)),
            "application/octet-stream",
        )


def serve_download(request: HttpRequest, download: Download) -> HttpResponseBase:
    """Answer HEAD, GET, If-None-Match and one byte range; always as an attachment of its own type.

    A large file that can be fetched elsewhere is answered by a redirect, which a range follows.
    """
    if download.etag in parse_etags(request.headers.get("If-None-Match", "")):
        response: HttpResponseBase = HttpResponse(status=304)
    elif address := _address_elsewhere(request, download):
        redirect = redirect_download(download, address)
        redirect["Cache-Control"] = "private, no-store"  # the address is soon worth nothing
        return redirect
    else:
        response = _content(request, download)
    response["ETag"] = download.etag
    response["Accept-Ranges"] = "bytes"
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _address_elsewhere(request: HttpRequest, download: Download) -> str | None:
    if request.method != "GET" or download.size_bytes < REDIRECTED_BYTES_MIN:
        return None
    return download.address(download.disposition, download.content_type)


def redirect_download(download: Download, address: str) -> HttpResponse:
    """Send a client to another place that hands the file out; what it is, is said here, as a Hub does."""
    response = HttpResponseRedirect(address)
    response["X-Linked-Etag"] = download.etag
    response["X-Linked-Size"] = str(download.size_bytes)
    return response


def _content(request: HttpRequest, download: Download) -> HttpResponseBase:
    wanted = _range_asked(request, download)
    if wanted is not None and not wanted:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{download.size_bytes}"})
    piece = range(download.size_bytes) if wanted is None else wanted
    response = _body(request, download, piece)
    response["Content-Type"] = download.content_type
    response["Content-Length"] = str(len(piece))
    response["Content-Disposition"] = download.disposition
    if wanted is not None:
        response.status_code = 206
        response["Content-Range"] = f"bytes {piece.start}-{piece.stop - 1}/{download.size_bytes}"
    return response


def _range_asked(request: HttpRequest, download: Download) -> range | None:
    """The bytes asked for; None: all of them; empty: none that exist. Several ranges at once count as all."""
    match = ONE_RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None or not any(match.groups()):
        return None
    if request.headers.get("If-Range", download.etag) != download.etag:
        return None
    first, last = match.groups()
    if not first:  # "bytes=-5": the last five
        return range(max(0, download.size_bytes - byte_number(last)), download.size_bytes)
    end = byte_number(last) + 1 if last else download.size_bytes
    return range(byte_number(first), min(end, download.size_bytes))


def byte_number(digits: str) -> int:
    return int(digits) if len(digits) <= DIGITS_MAX else 10**DIGITS_MAX


def _body(request: HttpRequest, download: Download, wanted: range) -> HttpResponseBase:
    if request.method == "HEAD":
        return HttpResponse()
    # Under ASGI Django would collect a synchronous iterator into one list before it sends the first byte.
    pieces = AsyncPieces if isinstance(request, ASGIRequest) else SyncPieces
    return StreamingHttpResponse(pieces(download.open(), wanted))


class Pieces:
    """Some bytes of an open file. The response closes it, also when nobody has read from it."""

    def __init__(self, file: BinaryIO, wanted: range) -> None:
        self.file, self.wanted = file, wanted

    def close(self) -> None:
        self.file.close()

    def read(self) -> Iterator[bytes]:
        self.file.seek(self.wanted.start)
        for start in range(self.wanted.start, self.wanted.stop, PIECE_BYTES):
            yield self.file.read(min(PIECE_BYTES, self.wanted.stop - start))


class SyncPieces(Pieces):
    def __iter__(self) -> Iterator[bytes]:
        return self.read()


class AsyncPieces(Pieces):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self.read()
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece
