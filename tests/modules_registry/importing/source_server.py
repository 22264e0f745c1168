"""The read side of a Hub's protocol over real HTTP: repositories in memory, one commit each."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "1" * 40


@contextmanager
def small_hub(repositories: dict[str, dict[str, bytes]]) -> Iterator[str]:
    """The address of a Hub with these repositories: {"owner/name": {"path": b"…"}}."""
    handler = type("Handler", (Answers,), {"repositories": repositories})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Answers(BaseHTTPRequestHandler):
    """What a Hub says of `repositories`, which a subclass has."""

    repositories: dict[str, dict[str, bytes]]

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urlsplit(self.path)
        path = unquote(url.path)
        if path == "/api/models":
            self.answer(listed(self.repositories, parse_qs(url.query)["author"][0]))
        elif path.startswith("/api/models/"):
            owner, name, *what = path.removeprefix("/api/models/").split("/")
            files = self.repositories.get(f"{owner}/{name}")
            self.answer(described(f"{owner}/{name}", files, what)) if files is not None else self.missing()
        else:
            name, _, rest = path.removeprefix("/").partition("/resolve/")
            self.answer(self.repositories[name][rest.partition("/")[2]])

    def do_HEAD(self):
        self.do_GET()

    def answer(self, body):
        asked = self.headers.get("Range", "")
        first, _, last = asked.removeprefix("bytes=").partition("-")
        whole, body = body, body[int(first or 0) : int(last) + 1 if last else None]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(whole).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def missing(self):
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()


def listed(repositories, author):
    """The repositories of an author."""
    return json.dumps([{"id": name} for name in repositories if name.startswith(f"{author}/")]).encode()


def described(name, files, what):
    """The tree of a repository, or the repository itself."""
    if what[:1] == ["tree"]:
        return json.dumps(
            [
                {"type": "file", "path": path, "size": len(body), "oid": "2" * 40}
                for path, body in files.items()
            ]
        ).encode()
    siblings = [
        {
            "rfilename": path,
            "size": len(body),
            "blobId": "2" * 40,
            "lfs": {
                "sha256": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 1,
            },
        }
        for path, body in files.items()
    ]  # fmt: skip
    return json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
