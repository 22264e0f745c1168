"""The child's side of one composition: the core's job, and an ear for the owner's wish to stop.

The launcher calls it. The runner must not import it: it loads torch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from composer.core import job
from composer.core.spec.errors import StopSearch
from composer.core.spec.job_spec import STOP_FILE


def run(folder: Path, on_event: Callable[[dict[str, Any]], None]) -> None:
    """As core.job.run; once the runner has put a stop file into the folder, the search ends with its best.

    The file says why.
    """
    stop = folder / STOP_FILE

    def tell(event: dict[str, Any]) -> None:
        on_event(event)
        if stop.exists():
            raise StopSearch(stop.read_text(encoding="utf-8"))

    job.run(folder, tell)
