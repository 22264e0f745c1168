"""The space left on the disk of the data folder: new work is refused before running work has none."""

import shutil

from django.conf import settings

from hub_site.common.errors import Refusal
from hub_site.common.site_faults import DISK_FULL, RETRY_AFTER_S

MB = 1_000_000


def is_disk_low() -> bool:
    """Return whether less than HUB_DISK_SPARE_MB is free."""
    return shutil.disk_usage(settings.HUB_DATA).free < settings.HUB_DISK_SPARE_MB * MB


def require_disk_space() -> None:
    """Refuse new work while the disk is nearly full."""
    if is_disk_low():
        message = (
            "The site's disk is nearly full, so nothing new is taken. Try again later or tell its operator."
        )
        raise Refusal(DISK_FULL, message, status=507, retry_after_s=RETRY_AFTER_S)
