"""Base models and modules from folders of this machine or from a Hub.

`alice/french` may be a folder here and a repository there. So that nobody's folder stands in for a
repository unseen, a reference is a folder only when it is written as a path: when it begins with
`/`, `./`, `../` or `~`, or holds a separator and exists. A bare word is never a folder, and what has
`@revision` behind it always comes from the Hub. The caller is told which of the two it was.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.core.spec.errors import SourceError

REPOSITORY = re.compile(
    r"(?P<id>[A-Za-z0-9][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95})?)(@(?P<revision>[^@\s]{1,200}))?"
)
WRITTEN_AS_PATH = re.compile(r"[/~]|\.{1,2}(/|$)")

# Never a pickle: a .bin may run whatever its author wrote into it.
MODULE_FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")
BASE_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.txt", "*.jinja")
SUBFOLDERS = ("*/*",)  # other formats of the same weights: nothing of them is read


@dataclass(frozen=True)
class Source:
    """Where something really lies: its name, its folder here, and its revision if it came from a Hub."""

    name: str
    folder: Path
    revision: str = ""

    def called(self, depth: int) -> str:
        """A folder by the last `depth` parts of its path; a repository by its name, further with revision."""
        if self.revision:
            return self.name if depth == 1 else f"{self.name}@{self.revision}"
        return "/".join(self.folder.parts[-depth:])


def base_source(reference: str, *, shows_progress: bool = False) -> Source:
    """The base model that a reference means, its files on this machine.

    `shows_progress`: of a download, on the terminal.

    Raises:
        SourceError: there is no such folder or repository, or the Hub cannot be reached.
    """
    source = as_folder(reference) or download_source(reference, BASE_FILES, shows_progress=shows_progress)
    if not (source.folder / "config.json").is_file():
        raise SourceError(f"{reference} holds no config.json, so it is no base model.")
    return source


def module_source(reference: str) -> Source:
    """The LoRA module that a reference means, its files on this machine.

    Raises:
        SourceError: there is no such folder or repository, or the Hub cannot be reached.
    """
    source = as_folder(reference) or download_source(reference, MODULE_FILES)
    for name in MODULE_FILES[:2]:
        if not (source.folder / name).is_file():
            raise SourceError(
                f"{reference} holds no {name}, so it is no LoRA module that can be read safely."
            )
    return source


def as_folder(reference: str) -> Source | None:
    """The folder, if the reference is written as one; None if it names a repository.

    Raises:
        SourceError: it is written as a path, and there is nothing.
    """
    path = Path(reference).expanduser()
    if WRITTEN_AS_PATH.match(reference) or ("/" in reference and "@" not in reference and path.exists()):
        if not path.is_dir():
            raise SourceError(f"There is no folder {reference}.")
        return Source(reference.rstrip("/") or reference, path.resolve())
    return None


def repository(reference: str) -> tuple[str, str | None]:
    """(name, revision) of the repository that a reference names.

    Raises:
        SourceError: it is no such name.
    """
    match = REPOSITORY.fullmatch(reference)
    if match is None or ".." in reference:
        raise SourceError(
            f"{reference!r} is neither a folder nor the name of a repository such as owner/name@revision."
        )
    return match["id"], match["revision"]


def download_source(reference: str, files: Sequence[str], *, shows_progress: bool = False) -> Source:
    """A snapshot of a repository; from the local cache where it is there already.

    The Hub is the one that HF_ENDPOINT names, huggingface.co if it names none.
    """
    name, revision = repository(reference)
    from huggingface_hub import snapshot_download  # takes a moment, and folders do not need it
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(files),
            ignore_patterns=list(SUBFOLDERS),
            endpoint=where,
            tqdm_class=None if shows_progress else no_bars(),
        )
    except GatedRepoError as error:
        raise SourceError(
            f"{where} hands {name} out only to those it let in. Sign in there first."
        ) from error
    except RevisionNotFoundError as error:
        raise SourceError(f"{name} at {where} has no revision {revision}.") from error
    except RepositoryNotFoundError as error:
        raise SourceError(missing(reference, where)) from error
    except LocalEntryNotFoundError as error:
        raise SourceError(f"{where} cannot be reached, and {name} was not fetched before.") from error
    except Exception as error:  # whatever these libraries make of an answer, or of what is no Hub at all
        error_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise SourceError(f"{name} could not be fetched from {where}: {error_line}") from error
    return Source(name, Path(folder), Path(folder).name)


def no_bars() -> Any:
    """What huggingface_hub is to draw its progress with: nothing."""
    from huggingface_hub.utils.tqdm import tqdm

    class NoBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

    return NoBar


def distinct_names(sources: Sequence[Source]) -> list[str]:
    """What to call each: as little as tells all of them apart.

    A folder goes by its own name, or by so many of those above it as are needed; a repository by its
    name, with the revision only if another one is taken from the same.

    Raises:
        SourceError: one of them is there twice.
    """
    for folder, count in Counter(source.folder for source in sources).items():
        if count > 1:
            name = next(source.name for source in sources if source.folder == folder)
            raise SourceError(f"{name} is given {count} times.")
    names: list[str] = []
    for depth in range(1, max((len(source.folder.parts) for source in sources), default=0) + 1):
        names = [source.called(depth) for source in sources]
        if len(set(names)) == len(names):
            break
    return names


def missing(reference: str, where: str) -> str:
    """What to say of a repository that is not there."""
    folder = f" For the folder of that name here, write ./{reference}." if Path(reference).exists() else ""
    private = "or it is private: then set HF_TOKEN to an access token that may read it"
    return f"There is no repository {reference} at {where}, {private}.{folder}"


def module_text(folder: Path, limit: int) -> str:
    """What its author says of a module: its README.md; empty where there is none."""
    try:
        return (folder / "README.md").read_bytes()[: 4 * limit].decode("utf-8", "replace")[:limit]
    except OSError:
        return ""
