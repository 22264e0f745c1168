"""The libraries' own warnings and progress bars, silenced for a while."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence warnings and transformers' progress bars inside, and leave both as they were.

    The warnings are of libraries about each other: nothing that the reader could mend.
    """
    from transformers.utils import logging

    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    enable: Any = logging.enable_progress_bar
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if had_bars:
            enable()
