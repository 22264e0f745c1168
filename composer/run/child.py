"""The child's side of a composition or of a search by examples: the core's job, and what the runner tells.

The launcher calls it. The runner must not import it: it loads torch.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from composer.core import job
from composer.core.spec.errors import StopSearch
from composer.core.spec.job_spec import FIND_FILE, FITTED_FILE, STOP_FILE

ANSWER_POLL_S = 0.01


def run(folder: Path, on_event: Callable[[dict[str, Any]], None]) -> None:
    """As core.job.run, or core.job.find_modules in a folder that asks for it.

    Once the runner has put a stop file into the folder, the search ends with its best. The file says why.
    What the core measured of a candidate, the runner answers by a file: how many fit into the time.
    """
    stop, fitted = folder / STOP_FILE, folder / FITTED_FILE

    def tell(event: dict[str, Any]) -> None:
        on_event(event)
        while event["event"] == "measured" and not (fitted.exists() or stop.exists()):
            time.sleep(ANSWER_POLL_S)
        if stop.exists():
            raise StopSearch(stop.read_text(encoding="utf-8"))

    work = job.find_modules if (folder / FIND_FILE).exists() else job.run
    work(folder, tell)
