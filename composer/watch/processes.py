"""The web processes that hold streams open: each tells the others how many, so that limits hold for all."""

import os
import socket
from collections.abc import Mapping

from django.db.models.functions import Now

from composer.models import STREAM_PROCESS_ALIVE, StreamProcess
from hub_site.common.site_faults import noting

PROCESS = f"{socket.gethostname()}:{os.getpid()}"  # how the others know this one


def count_elsewhere(owner_id: int) -> int:
    """How many streams the owner has in the other processes, as these told a moment ago."""
    others = StreamProcess.objects.alive().exclude(name=PROCESS)
    return sum(by_owner.get(str(owner_id), 0) for by_owner in others.values_list("by_owner", flat=True))


def tell_others(by_owner: Mapping[int, int]) -> None:
    """Write how many streams each owner has here, and forget processes that are gone."""
    with noting("the number of streams"):  # a database that takes no changes keeps nobody from watching
        StreamProcess.objects.update_or_create(
            name=PROCESS, defaults={"by_owner": dict(by_owner), "seen_at": Now()}
        )
        StreamProcess.objects.filter(seen_at__lt=Now() - STREAM_PROCESS_ALIVE).delete()


def forget_process() -> None:
    """This process has no stream any more."""
    with noting("the end of the streams"):
        StreamProcess.objects.filter(name=PROCESS).delete()
