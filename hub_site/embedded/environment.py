"""What the processes find in their environment: secrets made once, and where the servers are."""

import os
import secrets
import sys
from pathlib import Path

from hub_site.embedded.folders import DataFolder, write_private

# Users export these to point their tools at this site; the site must not follow them to itself.
HUB_CLIENT_PREFIXES = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")


def clean_environment() -> dict[str, str]:
    """Our own environment without what is meant for clients of a Hub. Empty means unset."""
    return {
        name: value
        for name, value in os.environ.items()
        if value.strip() and not name.startswith(HUB_CLIENT_PREFIXES)
    }


def read_environment(path: Path) -> dict[str, str]:
    """NAME=value lines; nothing is quoted, nothing is expanded."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def write_environment(path: Path, values: dict[str, str]) -> None:
    write_private(path, "".join(f"{name}={value}\n" for name, value in values.items()))


def read_or_make_secrets(folder: DataFolder) -> dict[str, str]:
    if not folder.secrets_file.exists():
        write_environment(folder.secrets_file, {"HUB_SECRET_KEY": secrets.token_urlsafe(48)})
    return read_environment(folder.secrets_file)


def site_environment(folder: DataFolder, servers: dict[str, str], settings: str) -> dict[str, str]:
    """For the site's own processes. What the caller has set wins over the secrets made here."""
    is_given = "HUB_SECRET_KEY_FILE" in clean_environment()
    return {
        **({} if is_given else read_or_make_secrets(folder)),
        **clean_environment(),
        **servers,
        "HUB_DATA": str(folder.root),
        "DJANGO_SETTINGS_MODULE": settings,
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
