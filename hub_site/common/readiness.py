"""Which schema this version of the code needs: what a process is asked before it gets requests or jobs.

A database that is ahead is fine: the code before it runs on it (docs/operating.md, “An upgrade”).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader

logger = logging.getLogger(__name__)

APPLIED = "SELECT app, name FROM django_migrations"
COMPLETE = "ok"
UNREACHABLE = "unreachable"
KEPT_S = 5.0  # an answer of a server that is asked for every probe


@cache
def last_migrations() -> frozenset[tuple[str, str]]:
    """The last migration of each app, as this version has them: (app, name). Reads every app's files once."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


def describe_schema(applied: Iterable[tuple[str, str]]) -> str:
    """COMPLETE, or the first migration that is missing, as “app.name”."""
    missing = sorted(last_migrations() - set(applied))
    return ".".join(missing[0]) if missing else COMPLETE


def ask_schema() -> str:
    """As `describe_schema`, of the site's database."""
    with connection.cursor() as cursor:
        cursor.execute(APPLIED)
        return describe_schema(cursor.fetchall())


class KeptAnswer:
    """What a server answered, kept for some seconds: it is asked in a thread, once at a time.

    Args:
        question: returns COMPLETE or what is wrong, and ends by itself within seconds.
    """

    def __init__(self, question: Callable[[], str]) -> None:
        self.question = question
        self._lock = threading.Lock()
        self._answer: Future[str] | None = None
        self._answered_s = 0.0

    def get(self, *, longest_s: float) -> str:
        """The answer, at most KEPT_S old; UNREACHABLE when there is none within `longest_s` seconds."""
        with self._lock:
            if self._answer is None or self._is_old(self._answer):
                self._answer = Future()
                threading.Thread(target=self._ask, args=[self._answer], name="probe", daemon=True).start()
            answer = self._answer
        try:
            return answer.result(timeout=longest_s)
        except TimeoutError:
            return UNREACHABLE

    def _is_old(self, answer: Future[str]) -> bool:
        return answer.done() and time.monotonic() - self._answered_s > KEPT_S

    def _ask(self, answer: Future[str]) -> None:
        try:
            told = self.question()
        except Exception:
            logger.exception("a check of this process broke")
            told = UNREACHABLE
        self._answered_s = time.monotonic()
        answer.set_result(told)


_storage: list[KeptAnswer] = []


def check_storage(question: Callable[[], str]) -> None:
    """Ask the store of files this way."""
    _storage[:] = [KeptAnswer(question)]


def ask_storage(*, longest_s: float) -> str:
    """COMPLETE, or what is wrong with the store of files; `longest_s` as in `KeptAnswer.get`."""
    return _storage[0].get(longest_s=longest_s)
