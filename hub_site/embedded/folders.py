"""Where things lie under HUB_DATA, who may enter, and which paths are short enough for a socket."""

import contextlib
import os
import re
import shutil
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hub_site.embedded.accounts import Account
from hub_site.embedded.refusal import EmbeddedError

REPOSITORY = Path(__file__).resolve().parents[2]
# sun_path holds 108 bytes with its closing zero; the longest name in it is "/.s.PGSQL.5432".
SOCKET_FOLDER_BYTES_MAX = 90
SHORT_FOLDER = Path(
    "/tmp"
)  # where sockets go whose own path is too long; each in a folder only its owner enters
PLAIN_PATH = re.compile(r"[\w./+@=~-]+", re.ASCII)
OWN_FOLDERS = ("valkey", "blobs", "jobs", "logs", "run", "mail")


@dataclass(frozen=True)
class DataFolder:
    """HUB_DATA and the places in it."""

    root: Path

    @classmethod
    def from_environment(cls) -> "DataFolder":
        root = Path(os.environ.get("HUB_DATA", "").strip() or REPOSITORY / "var").expanduser()
        if not root.is_absolute():
            raise EmbeddedError(
                f"The setting HUB_DATA is “{root}”, not a full path. Example: HUB_DATA=/srv/lora-hub"
            )
        return cls(root)

    def make(self) -> None:
        """The folder itself can be passed through (the database's account must), each folder in it cannot."""
        try:
            self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
            for name in OWN_FOLDERS:
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(
                f"The data folder {self.root} cannot be made: {error.strerror}. "
                "Set HUB_DATA to a folder you own."
            ) from error

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def lock_file(self) -> Path:
        return self.run / "lock"

    @property
    def record_file(self) -> Path:
        return self.run / "processes.json"

    @property
    def environment_file(self) -> Path:
        return self.run / "hub.env"

    @property
    def secrets_file(self) -> Path:
        return self.root / "secrets.env"


def socket_folder(wanted: Path, account: Account | None = None) -> Path:
    """A private folder for a server's socket: the wanted one, or a short one when that path will not do."""
    if len(os.fsencode(wanted)) <= SOCKET_FOLDER_BYTES_MAX and PLAIN_PATH.fullmatch(str(wanted)):
        folder = wanted
    else:
        folder = SHORT_FOLDER / f"lora-hub-{sha256(os.fsencode(wanted)).hexdigest()[:16]}"
    owners = {os.geteuid(), account.uid if account else os.geteuid()}
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
        raise EmbeddedError(f"{folder} belongs to somebody else. Remove it and try again.")
    folder.chmod(0o700)
    give_to(folder, account)
    return folder


def remove_short_socket_folder(folder: Path) -> None:
    if folder.parent == SHORT_FOLDER and folder.name.startswith("lora-hub-"):
        shutil.rmtree(folder, ignore_errors=True)


def give_to(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read, whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.replace(path)
