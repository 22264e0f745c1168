"""adapter_model.bin on its way in: converted to safetensors in a limited child, and never kept."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

from hub_site.common.errors import Refusal
from hub_site.jobs.child_folder import new_folder
from hub_site.jobs.children import ChildDied, ChildRefused, Launcher
from hub_site.jobs.sandbox import Limits
from modules_registry.core.adapter_file import BEGINNING_BYTES, is_pickle
from modules_registry.core.errors import LEGACY_FILE, WEIGHTS_FILE

CONVERT_LIMITS = Limits(memory_mb=1024, cpu_s=120)
TRIES_MAX = 3  # for a child that something outside its limits ends
LOOK_S = 1.0  # so often it is asked whether to go on

logger = logging.getLogger(__name__)


@cache
def launcher() -> Launcher:
    call = "modules_registry.core.legacy_checkpoint"
    return Launcher(preload=call, call=f"{call}:convert", root=settings.BASE_DIR, threads=1)


def stop_launcher() -> None:
    launcher().stop()


def convert_checkpoint(folder: Path, on_tick: Callable[[], None] = lambda: None) -> None:
    """Write adapter_model.safetensors beside `folder`/adapter_model.bin.

    Args:
        on_tick: called about every second; it may raise to end the child.

    Raises:
        ChildRefused: the file is not what torch writes for a dictionary of tensors.
        ChildDied: it could not be converted within the limits, or TRIES_MAX children were ended from outside.
        ChildInterrupted: the machine ended the child, so that it is to be converted again.
    """
    for tried in range(1, TRIES_MAX + 1):
        (folder / WEIGHTS_FILE).unlink(missing_ok=True)
        try:
            with launcher().start_child(folder, CONVERT_LIMITS) as child:
                for _ in child.events(LOOK_S):
                    on_tick()
            return
        except ChildDied as died:
            logger.warning("conversion in %s, try %d: %s", folder.name, tried, died)
            if not died.may_be_of_the_site or tried == TRIES_MAX:
                raise


def death_refusal(died: ChildDied) -> Refusal:
    """Return what is said of a conversion that ended without a result."""
    if died.may_be_of_the_site:
        message = f"The site broke off the conversion of {LEGACY_FILE} {TRIES_MAX} times. Try again later."
        return conversion_refusal("conversion_broken_off", message, status=503)
    message = f"{LEGACY_FILE} could not be converted within its limits. Save it as safetensors."
    return conversion_refusal("conversion_broke", message)


@contextmanager
def as_safetensors(weights_file: BinaryIO) -> Iterator[tuple[BinaryIO, bool]]:
    """The weights as they can be read, and whether they were converted for that.

    Raises:
        Refusal: they are a pickle that cannot be converted.
    """
    weights_file.seek(0)
    if not is_pickle(weights_file.read(BEGINNING_BYTES)):
        yield weights_file, False
        return
    with new_folder(Path(settings.FILE_UPLOAD_TEMP_DIR), "convert-") as folder:
        with (folder / LEGACY_FILE).open("wb") as copy:
            weights_file.seek(0)
            shutil.copyfileobj(weights_file, copy)
        try:
            convert_checkpoint(folder)
        except ChildRefused as refusal:
            raise conversion_refusal(refusal.code, str(refusal)) from refusal
        except ChildDied as died:
            raise death_refusal(died) from died
        with (folder / WEIGHTS_FILE).open("rb") as converted:
            yield converted, True


def conversion_refusal(code: str, message: str, *, status: int = 400) -> Refusal:
    return Refusal(code, message, status=status, fields={"weights_file": [message]})
