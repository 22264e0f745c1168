"""Where files of an import lie until they are stored."""

from pathlib import Path

from django.conf import settings


def imports_folder() -> Path:
    folder = Path(settings.HUB_DATA) / "imports"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
