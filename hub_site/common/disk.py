"""The space left on the disks of the data folder: new work is refused before running work has none."""

import shutil
from pathlib import Path

from django.conf import settings

from hub_site.common.errors import Refusal
from hub_site.common.os_faults import DISK_FULL
from hub_site.common.site_faults import RETRY_AFTER_S

MB = 1_000_000
ENOUGH_AGAIN = 1.2  # of HUB_DISK_SPARE_MB
LARGE_FOLDERS = ("blobs", "uploads", "jobs", "residents", "postgres")  # each may lie on a disk of its own


def least_free_bytes() -> int:
    """Return what is free under the data folder, or under the one of LARGE_FOLDERS that has least."""
    root = Path(settings.HUB_DATA)
    folders = [root, *(root / name for name in LARGE_FOLDERS if (root / name).exists())]
    return min(shutil.disk_usage(folder).free for folder in folders)


def is_disk_low() -> bool:
    """Return whether less than HUB_DISK_SPARE_MB is free."""
    return least_free_bytes() < settings.HUB_DISK_SPARE_MB * MB


def has_space_again() -> bool:
    """Return whether enough more than HUB_DISK_SPARE_MB is free that it is not nearly full again at once."""
    return least_free_bytes() >= ENOUGH_AGAIN * settings.HUB_DISK_SPARE_MB * MB


def require_disk_space() -> None:
    """Refuse new work while the disk is nearly full."""
    if is_disk_low():
        message = (
            "The site's disk is nearly full, so nothing new is taken. Try again later or tell its operator."
        )
        raise Refusal(DISK_FULL, message, status=507, retry_after_s=RETRY_AFTER_S)
