"""The client of a Hugging Face Hub: one repository per module, one commit per version.

Every failure is a RemoteStoreError that says whether it will pass. Nothing of the environment is read: the
address, the token and the namespace come from the settings, so that HF_ENDPOINT cannot lead us to ourselves.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    RepoFile,
    constants,
    get_session,
    hf_hub_url,
    set_client_factory,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented there, though not marked so
    build_hf_headers,
    disable_progress_bars,
    hf_raise_for_status,
    parse_ratelimit_headers,
)
from huggingface_hub.utils.sha import git_hash

from modules_registry.storage.base import (
    LONG_WAITING,
    RemoteAlteredError,
    RemoteGoneError,
    RemoteStoreError,
    RemoteStoreFile,
    RemoteUnavailableError,
    Waiting,
)

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 60.0  # reading: a Hub checks a large commit before it answers
SLOWEST_BYTES_PER_S = 100_000  # below this a download is given up
PATIENCE_S = 30.0  # for a download of no bytes at all
REPO_NAME_LENGTH_MAX = 96
DIGEST_LENGTH = 8
NAMES_TRIED_MAX = 5  # a Hub may never give the name of a deleted repository again
GIT_FILES = frozenset({".gitattributes"})  # a Hub puts it there by itself
MESSAGE_LENGTH_MAX = 300
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
CHANGED_MEANWHILE = frozenset({409, 412})
NOT_ALLOWED = frozenset({401, 403})


@dataclass(frozen=True)
class Commit:
    """Where a version is on the Hub."""

    repo_id: str  # as it is called now: a repository that was renamed is followed
    commit_id: str


def refuse_to_wait(response: httpx2.Response) -> None:
    """Raise at once what will pass: the row waits for it, not a worker's thread inside the library."""
    if response.status_code in BUSY:
        wait_s = wait_asked_for(response.headers)
        raise RemoteUnavailableError(
            f"is busy or broken just now ({response.status_code})", retry_after_s=wait_s
        )


def wait_asked_for(headers: Mapping[str, str]) -> int:
    """Seconds, from Retry-After in either of its forms or from RateLimit; 0 when nothing is said."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return int(value)
    try:
        return max(0, round((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()))
    except (TypeError, ValueError):
        limit = parse_ratelimit_headers(headers)
        return limit.reset_in_seconds if limit else 0


def make_http_client() -> httpx2.Client:
    """As huggingface_hub's own, which has no timeout and waits through every busy answer."""
    return httpx2.Client(
        event_hooks={"response": [refuse_to_wait]},
        follow_redirects=True,  # the token stays behind when a redirect leads to another host
        timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
    )


set_client_factory(make_http_client)
disable_progress_bars()  # they would fill the worker's log
constants.HF_HUB_DISABLE_TELEMETRY = True  # or it asks huggingface.co, whatever Hub is behind this site


@contextmanager
def typed_errors(repo_id: str) -> Iterator[None]:
    """What huggingface_hub raises, as one of ours."""
    try:
        yield
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise RemoteGoneError(repo_id) from error
    except HfHubHTTPError as error:
        raise refusal_of(error) from error
    except httpx2.TimeoutException as error:
        raise RemoteUnavailableError("did not answer in time") from error
    except (httpx2.HTTPError, OSError) as error:
        raise RemoteUnavailableError("could not be reached, or the connection broke") from error
    except ValueError as error:  # a card whose front matter the Hub refuses, before anything is sent
        raise RemoteStoreError(f"The Hub refused it: {one_line(str(error))}") from error


def refusal_of(error: HfHubHTTPError) -> RemoteStoreError:
    status = error.response.status_code
    if status in NOT_ALLOWED:
        return RemoteStoreError(
            "The Hub refused this site's token. Its operator has to set one that may write: HUB_STORE_TOKEN."
        )
    if status in CHANGED_MEANWHILE:
        return RemoteUnavailableError("was changed by someone else at the same moment")
    return RemoteStoreError(
        f"The Hub refused it ({status}): {one_line(error.server_message or 'without a reason')}"
    )


def one_line(text: str) -> str:
    return " ".join(text.split())[:MESSAGE_LENGTH_MAX]


class RemoteStoreClient:
    """What this site does on the Hub behind it, in one namespace."""

    def __init__(self, endpoint: str, token: str, namespace: str, waiting: Waiting = LONG_WAITING) -> None:
        self.endpoint, self.namespace, self.waiting = endpoint.rstrip("/"), namespace, waiting
        self.api = HfApi(endpoint=self.endpoint, token=token)
        self._headers = build_hf_headers(token=token) | {"Accept-Encoding": "identity"}

    def repo_id_for(self, owner: str, name: str) -> str:
        """What the repository of a module here is called there.

        One namespace holds the modules of all owners, so both names are in it; the digest keeps a.b/c and
        a/b.c apart, and names that look alike.
        """
        digest = hashlib.sha256(f"{owner}/{name}".casefold().encode()).hexdigest()[:DIGEST_LENGTH]
        rest = len(f"-{digest}-{NAMES_TRIED_MAX}")
        readable = f"{owner}.{name}"[: REPO_NAME_LENGTH_MAX - rest].rstrip(".-")
        return f"{self.namespace}/{readable}-{digest}"

    def publish(
        self, repo_id: str, files: Mapping[str, Path], *, message: str, is_private: bool, is_known: bool
    ) -> Commit:
        """Make the repository's content these files, and say under which commit they are.

        What is there already with the same sha256 is not sent again: repeating it changes nothing. What was
        sent is held against what the Hub then says it has.

        Args:
            is_known: the repository was there before; if it is not now, somebody took it away.
        """
        with typed_errors(repo_id):
            if not is_known:
                repo_id = self._make(repo_id, is_private)
            repo_id, head = self._look_at(repo_id, is_private)
            there = self._files_at(repo_id, head) if head else {}
            changed = [
                path
                for path, file in files.items()
                if path not in there or not has_same_bytes(there[path], file)
            ]
            unwanted = [path for path in there if path not in files and path not in GIT_FILES]
            if not changed and not unwanted and head:
                return Commit(repo_id, head)
            made = self.api.create_commit(
                repo_id,
                [
                    *(CommitOperationAdd(path, files[path]) for path in changed),
                    *(CommitOperationDelete(path) for path in unwanted),
                ],
                commit_message=message,
                parent_commit=head,
            )
            commit = Commit(repo_id, made.oid)
            self._require_same(commit, files)
        return commit

    def set_visibility(self, repo_id: str, *, is_private: bool) -> str:
        """Let the repository be as private as its module; return what it is called now."""
        with typed_errors(repo_id):
            return self._look_at(repo_id, is_private)[0]

    def delete(self, repo_id: str) -> None:
        """Take a repository away. One that is gone already is fine."""
        with typed_errors(repo_id):
            self.api.delete_repo(repo_id, missing_ok=True)

    def require_there(self, repo_id: str) -> None:
        """Raise RemoteGoneError where there is no such repository."""
        with typed_errors(repo_id):
            self.api.model_info(repo_id)

    def visibilities(self) -> dict[str, bool]:
        """Every repository of the namespace as it is called now, and whether it is private."""
        with typed_errors(self.namespace):
            return {info.id: bool(info.private) for info in self.api.list_models(author=self.namespace)}

    def altered_files(self, repo_id: str, commit_id: str, files: Mapping[str, Path | str]) -> list[str]:
        """The paths that are missing at a commit or have other bytes there.

        Args:
            files: by path, the file itself or its sha256. Against a sha256 only large files can be held.
        """
        with typed_errors(repo_id):
            there = self._files_at(repo_id, commit_id)
        return [
            path for path, file in files.items() if path not in there or not has_same_bytes(there[path], file)
        ]

    def url(self, file: RemoteStoreFile) -> str:
        return hf_hub_url(file.repo_id, file.path, revision=file.commit_id, endpoint=self.endpoint)

    @contextmanager
    def open(self, file: RemoteStoreFile) -> Iterator["Incoming"]:
        """The bytes of a file as the Hub gives them; who reads them holds them against their sha256."""
        self.waiting.begin()
        timeout = httpx2.Timeout(self.waiting.read_s, connect=self.waiting.connect_s)
        with (
            typed_errors(file.repo_id),
            get_session().stream("GET", self.url(file), headers=self._headers, timeout=timeout) as response,
        ):
            hf_raise_for_status(response)
            yield Incoming(response, file.size_bytes)

    def _make(self, repo_id: str, is_private: bool) -> str:
        """Make the repository unless it is there, under the first of its names that the Hub gives us."""
        names = [repo_id, *(f"{repo_id}-{number}" for number in range(2, NAMES_TRIED_MAX + 1))]
        refused: BadRequestError | None = None
        for name in names:
            try:
                self.api.create_repo(name, private=is_private, exist_ok=True)
            except BadRequestError as error:
                refused = refused or error
            else:
                return name
        assert refused is not None
        raise refused

    def _look_at(self, repo_id: str, is_private: bool) -> tuple[str, str | None]:
        """What the repository is called now and its last commit; its visibility is put right."""
        info = self.api.model_info(repo_id)
        if info.id.partition("/")[0].casefold() != self.namespace.casefold():
            raise RemoteStoreError(
                f"{repo_id} was moved to {info.id}, outside of this site's namespace on the Hub."
            )
        if bool(info.private) != is_private:
            self.api.update_repo_settings(info.id, private=is_private)
        return info.id, info.sha

    def _files_at(self, repo_id: str, commit_id: str) -> dict[str, RepoFile]:
        items = self.api.list_repo_tree(repo_id, recursive=True, revision=commit_id)
        return {item.path: item for item in items if isinstance(item, RepoFile)}

    def _require_same(self, commit: Commit, files: Mapping[str, Path]) -> None:
        for path in self.altered_files(commit.repo_id, commit.commit_id, files):
            raise RemoteAlteredError(path, commit.repo_id)


class Incoming:
    """A download as a stream. One that is cut off or comes too slowly is a RemoteUnavailableError."""

    def __init__(self, response: httpx2.Response, size_bytes: int) -> None:
        self.pieces = response.iter_bytes(1024**2)
        self.until = time.monotonic() + PATIENCE_S + size_bytes / SLOWEST_BYTES_PER_S
        self.missing_bytes = size_bytes

    def read(self, count: int, /) -> bytes:
        if time.monotonic() > self.until:
            raise RemoteUnavailableError("gave the file too slowly")
        piece = next(self.pieces, b"")
        self.missing_bytes -= len(piece)
        if not piece and self.missing_bytes > 0:
            raise RemoteUnavailableError("broke off in the middle of a file")
        return piece


def has_same_bytes(there: RepoFile, file: Path | str) -> bool:
    """Has the Hub these very bytes? Large files are known there by sha256, small ones by git's sha1."""
    if there.lfs is not None:
        return there.lfs.sha256 == (file if isinstance(file, str) else sha256_of(file))
    return isinstance(file, str) or there.blob_id == git_hash(file.read_bytes())


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
