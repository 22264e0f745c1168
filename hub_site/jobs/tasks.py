"""What the site does by itself for its upkeep."""

from django.conf import settings

from hub_site.jobs.low_disk import watch_disk
from hub_site.jobs.upkeep import upkeep

upkeep.add(watch_disk, every_s=settings.SWEEP_INTERVAL_S)
