"""Base models and modules from folders of this machine or from repositories of a Hub.

`base_source` and `module_source` return where the files of a reference are. A reference such as
`alice/french` can be the name of a folder and of a repository. It is read as a folder if it is written as
a path, beginning with `/`, `./`, `../` or `~`, or if there is such a folder. Everything else is a
repository, and so is a name with `@revision`. The result says which of the two it was.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.core.spec.errors import SourceError
from modules_registry.core.adapter_folder import plan_files, plan_folder
from modules_registry.core.advice import WayIn
from modules_registry.core.errors import GateRefusal
from modules_registry.trained_templates import BY_PRODUCTS

REPOSITORY = re.compile(
    r"(?P<id>[A-Za-z0-9][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95})?)(@(?P<revision>[^@\s]{1,200}))?"
)
WRITTEN_AS_PATH = re.compile(r"[/~]|\.{1,2}(/|$)")

# No pickles: loading a .bin file can run code that its author put there.
MODULE_FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")
BASE_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.txt", "*.jinja")
UNNAMED_BASE = "base"  # the name of a model in memory that was loaded from nowhere
SUBFOLDERS = ("*/*",)  # other formats of the same weights, which are not read


@dataclass(frozen=True)
class Source:
    """The files of a base model or a module on this machine.

    Attributes:
        name: the reference for a folder, the repository's name for a repository.
        folder: the folder that holds the files.
        revision: the commit id of a repository; empty for a folder.
    """

    name: str
    folder: Path
    revision: str = ""

    def short_name(self, depth: int) -> str:
        """Return a short name of the source.

        Args:
            depth: for a folder, how many of the last parts of its path the name has. For a repository, 1
                gives its name and anything above 1 gives name@revision.
        """
        if self.revision:
            return self.name if depth == 1 else f"{self.name}@{self.revision}"
        return "/".join(self.folder.parts[-depth:])


def base_source(reference: str, *, shows_progress: bool = False) -> Source:
    """Return the base model of a reference, with its files on this machine.

    Args:
        reference: a folder or a repository of a Hub.
        shows_progress: whether a download draws its progress on the terminal.

    Raises:
        SourceError: there is no such folder or repository, it has no config.json, or the Hub cannot be
            reached.
    """
    source = as_folder(reference) or download_source(reference, BASE_FILES, shows_progress=shows_progress)
    if not (source.folder / "config.json").is_file():
        raise SourceError(f"{reference} holds no config.json, so it is no base model.")
    return source


def module_source(reference: str) -> Source:
    """Return the LoRA module of a reference, with its files on this machine.

    Raises:
        SourceError: there is no such folder or repository, or the Hub cannot be reached; or one of its two
            files is missing: then the message says what is there in its place, and what to do.
    """
    source = as_folder(reference) or download_source(reference, (*MODULE_FILES, *BY_PRODUCTS))
    if all((source.folder / name).is_file() for name in MODULE_FILES[:2]):
        return source
    try:
        if source.revision:
            plan_files(files_of_repository(source), f"The repository {reference}", WayIn.COMPOSE)
        else:
            plan_folder(source.folder, WayIn.COMPOSE)
    except GateRefusal as refusal:
        raise SourceError(f"{reference} is no LoRA module. {refusal}") from refusal
    raise SourceError(f"{reference} was not fetched whole. Try again.")


def files_of_repository(source: Source) -> list[str]:
    """Return the paths of all files of a repository, of which a part was fetched.

    Raises:
        SourceError: the Hub does not say them.
    """
    from huggingface_hub import HfApi

    try:
        return HfApi(endpoint=hub_address()).list_repo_files(source.name, revision=source.revision)
    except Exception as error:  # these libraries raise many kinds of error if the answer is not a Hub's
        needed = " and ".join(MODULE_FILES[:2])
        raise SourceError(
            f"{source.name} is no LoRA module: it needs {needed}. {hub_address()} does not say what it has."
        ) from error


def as_folder(reference: str) -> Source | None:
    """Return the folder if the reference is one or is written as a path; None if it names a repository.

    Raises:
        SourceError: it is written as a path, and no such folder exists.
    """
    path = Path(reference).expanduser()
    if WRITTEN_AS_PATH.match(reference) or (reference and "@" not in reference and path.is_dir()):
        if not path.is_dir():
            raise SourceError(f"There is no folder {reference}.")
        return Source(reference.rstrip("/") or reference, path.resolve())
    return None


def repository(reference: str) -> tuple[str, str | None]:
    """Return (name, revision) of a reference to a repository; the revision is None if it is not given.

    Raises:
        SourceError: the reference is not the name of a repository.
    """
    match = REPOSITORY.fullmatch(reference)
    if match is None or ".." in reference:
        raise SourceError(
            f"{reference!r} is neither a folder nor the name of a repository such as owner/name@revision."
        )
    return match["id"], match["revision"]


def hub_address() -> str:
    """Return the Hub of whoever calls: HF_ENDPOINT, or huggingface.co."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def download_source(reference: str, files: Sequence[str], *, shows_progress: bool = False) -> Source:
    """Return a snapshot of a repository, from the local cache if it is already there.

    The Hub is the one in the environment variable HF_ENDPOINT, or huggingface.co.

    Args:
        reference: owner/name or owner/name@revision.
        files: glob patterns of the files to fetch.
        shows_progress: whether the download draws its progress on the terminal.

    Raises:
        SourceError: the repository or the revision does not exist or needs access, or the Hub cannot be
            reached.
    """
    name, revision = repository(reference)
    from huggingface_hub import snapshot_download  # a slow import, and folders do not need it
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = hub_address()
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(files),
            ignore_patterns=list(SUBFOLDERS),
            endpoint=where,
            tqdm_class=None if shows_progress else no_bars(),
        )
    except GatedRepoError:
        problem = f"{where} hands {name} out only to those it let in. Sign in there first."
    except RevisionNotFoundError:
        problem = f"{name} at {where} has no revision {revision}."
    except RepositoryNotFoundError:
        private = "or it is private: then set HF_TOKEN to an access token that may read it"
        problem = f"There is no repository {reference} at {where}, {private}."
    except LocalEntryNotFoundError:
        problem = f"{where} cannot be reached, and {name} was not fetched before."
    except Exception as error:  # these libraries raise many kinds of error if the answer is not a Hub's
        error_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        problem = f"{name} could not be fetched from {where}: {error_line.rstrip('.')}."
        raise SourceError(problem) from error
    else:
        return Source(name, Path(folder), Path(folder).name)
    raise SourceError(problem)  # outside, so without their long traces


def no_bars() -> Any:
    """Return a progress bar class for huggingface_hub that draws nothing."""
    from huggingface_hub.utils.tqdm import tqdm

    class NoBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

    return NoBar


def distinct_names(sources: Sequence[Source]) -> list[str]:
    """Return a short name for each source; no two names are equal.

    A folder gets its own name, with as many parent folders in front as are needed. A repository gets its
    name, with the revision only if the name alone does not suffice.

    Raises:
        SourceError: a source is given more than once.
    """
    for folder, count in Counter(source.folder for source in sources).items():
        if count > 1:
            name = next(source.name for source in sources if source.folder == folder)
            raise SourceError(f"{name} is given {count} times.")
    names: list[str] = []
    for depth in range(1, max((len(source.folder.parts) for source in sources), default=0) + 1):
        names = [source.short_name(depth) for source in sources]
        if len(set(names)) == len(names):
            break
    return names


def module_text(folder: Path, limit: int) -> str:
    """Return README.md of a module; the empty text if there is none.

    Args:
        folder: the folder of the module.
        limit: the most characters to return.
    """
    try:
        return (folder / "README.md").read_bytes()[: 4 * limit].decode("utf-8", "replace")[:limit]
    except OSError:
        return ""
