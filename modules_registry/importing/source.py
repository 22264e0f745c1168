"""The read side of a Hub: what a repository holds at a pinned commit, and its files, capped and retried."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, get_session, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from hub_site.common.errors import Refusal
from modules_registry.core.weight_formats import SAMPLE_BYTES
from modules_registry.storage import RemoteUnavailableError
from modules_registry.storage.remote_client import Incoming, typed_errors

Result = TypeVar("Result")
TRIES_MAX = 4
WAIT_S, WAIT_MAX_S = 1.0, 60.0  # doubled after each try
TIMEOUT_S = 10.0
PIECE_BYTES = 1024**2
PARTIAL_CONTENT = 206


@dataclass(frozen=True)
class RemoteFile:
    path: str
    size_bytes: int
    sha256: str  # empty where the Hub does not say


@dataclass(frozen=True)
class RemoteRepository:
    repo_id: str
    commit_id: str
    files: dict[str, RemoteFile]


class ImportSourceUnavailable(Refusal):
    """The Hub did not answer, or was too busy, as often as it was asked. It will pass."""

    def __init__(self, endpoint: str) -> None:
        message = f"The Hub at {endpoint} does not answer, or is too busy. Try again in a few minutes."
        super().__init__("hub_away", message, status=503)


@contextmanager
def refuse_permanent_errors(repo_id: str) -> Iterator[None]:
    """What will not pass becomes a refusal for the importing person; what will, a RemoteUnavailableError."""
    try:
        yield
    except GatedRepoError as error:
        raise Refusal("source_gated", f"{repo_id} asks for its owner's consent first.") from error
    except RevisionNotFoundError as error:
        raise Refusal("source_revision_missing", f"{repo_id} has no such revision on the Hub.") from error
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        message = f"There is no {repo_id} on the Hub, or it is private. Check the name."
        raise Refusal("source_missing", message) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise Refusal("source_refused", f"The Hub refused to give {repo_id} ({status}).") from error
    except httpx2.HTTPError:
        with typed_errors(repo_id):
            raise


class ImportSource:
    """One person's way to a Hub.

    Every call raises a Refusal: ImportSourceUnavailable for what will pass.

    Args: wait: sleeps so many seconds, and may raise to stop.
    """

    def __init__(self, endpoint: str, token: str, wait: Callable[[float], None]) -> None:
        self.endpoint, self.wait = endpoint.rstrip("/"), wait
        self.api = HfApi(endpoint=self.endpoint, token=token or False)
        self.headers = build_hf_headers(token=token or False) | {"Accept-Encoding": "identity"}

    def repositories_of(self, owner: str, *, most: int) -> list[str]:
        """At most so many, as the Hub lists them."""
        return self.call_with_retries(
            owner, lambda: [info.id for info in self.api.list_models(author=owner, limit=most)]
        )

    def read_repository(self, repo_id: str, revision: str) -> RemoteRepository:
        info = self.call_with_retries(
            repo_id,
            lambda: self.api.model_info(
                repo_id, revision=revision or None, files_metadata=True, timeout=TIMEOUT_S
            ),
        )
        files = {
            file.rfilename: RemoteFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else "")
            for file in info.siblings or ()
        }
        return RemoteRepository(repo_id, info.sha or "", files)

    def fetch(self, repository: RemoteRepository, path: str, target: Path, *, max_bytes: int) -> str:
        """Write a file of the repository to `target`, and return its sha256."""
        file = repository.files[path]
        if file.size_bytes > max_bytes:
            raise too_large(path, max_bytes)
        return self.call_with_retries(
            repository.repo_id, lambda: self.fetch_once(repository, file, target, max_bytes)
        )

    def fetch_once(self, repository: RemoteRepository, file: RemoteFile, target: Path, max_bytes: int) -> str:
        """Fetch what `target` does not hold yet: an earlier attempt may have left the file's beginning."""
        url = hf_hub_url(repository.repo_id, file.path, revision=repository.commit_id, endpoint=self.endpoint)
        digest, held = self.beginning(file, target)
        headers = self.headers | ({"Range": f"bytes={held}-"} if held else {})
        with get_session().stream("GET", url, headers=headers) as response, target.open("ab") as output:
            hf_raise_for_status(response)
            if response.status_code != PARTIAL_CONTENT:
                digest, held = hashlib.sha256(), 0
                output.truncate(0)
            incoming = Incoming(response, file.size_bytes - held)
            while piece := incoming.read(PIECE_BYTES):
                held += len(piece)
                if held > max_bytes:
                    raise too_large(file.path, max_bytes)
                digest.update(piece)
                output.write(piece)
                self.wait(0)
        if target.stat().st_size != held or (file.sha256 and digest.hexdigest() != file.sha256):
            target.unlink()
            raise Refusal("source_altered", f"The Hub sent different bytes for {file.path} than it names.")
        return digest.hexdigest()

    def fetch_beginning(self, repository: RemoteRepository, path: str) -> bytes:
        """The first SAMPLE_BYTES of a file, or all of it if it is shorter."""
        size_bytes = min(repository.files[path].size_bytes, SAMPLE_BYTES)
        url = hf_hub_url(repository.repo_id, path, revision=repository.commit_id, endpoint=self.endpoint)
        headers = self.headers | {"Range": f"bytes=0-{SAMPLE_BYTES - 1}"}

        def fetch() -> bytes:
            with get_session().stream("GET", url, headers=headers) as response:
                hf_raise_for_status(response)
                incoming = Incoming(response, size_bytes)
                found = b""
                while len(found) < SAMPLE_BYTES and (piece := incoming.read(SAMPLE_BYTES - len(found))):
                    found += piece
                return found

        return self.call_with_retries(repository.repo_id, fetch) if size_bytes else b""

    def beginning(self, file: RemoteFile, target: Path) -> tuple["hashlib._Hash", int]:
        """Digest and size of what is there of a file; nothing, where the whole cannot be checked."""
        digest, held = hashlib.sha256(), target.stat().st_size if target.exists() else 0
        if not file.sha256 or not 0 < held < file.size_bytes:
            return digest, 0
        with target.open("rb") as there:
            while piece := there.read(PIECE_BYTES):
                digest.update(piece)
                self.wait(0)
        return digest, held

    def call_with_retries(self, repo_id: str, call: Callable[[], Result]) -> Result:
        """Call, and call again a few times while the Hub says that it will pass."""
        wait_s = WAIT_S
        for _ in range(TRIES_MAX - 1):
            try:
                with refuse_permanent_errors(repo_id):
                    return call()
            except RemoteUnavailableError as error:
                self.wait(min(max(wait_s, error.retry_after_s), WAIT_MAX_S))
                wait_s *= 2
        try:
            with refuse_permanent_errors(repo_id):
                return call()
        except RemoteUnavailableError as error:
            raise ImportSourceUnavailable(self.endpoint) from error


def too_large(path: str, max_bytes: int) -> Refusal:
    return Refusal(
        "source_too_large", f"{path} is larger than {max_bytes / 1e6:,.1f} MB, the most taken here."
    )
