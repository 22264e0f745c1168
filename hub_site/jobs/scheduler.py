"""Celery's scheduler, of which several may run: one sends the messages, and another goes on when it ends."""

import logging
from typing import Any

import psycopg
from celery.beat import PersistentScheduler
from django.db import connection

logger = logging.getLogger(__name__)
SCHEDULER_LOCK = 0x6C6F7262
RETRY_S = 2.0  # between two tries to become the one, or to reach the database


class Election:
    """A lock of the database that one session holds. It is free again once that session has ended."""

    def __init__(self) -> None:
        self._session: psycopg.Connection[Any] | None = None

    def is_won(self) -> bool:
        """Whether this process holds the lock now; takes it if it is free."""
        try:
            if self._session is not None:
                self._session.execute("SELECT 1")
                return True
            return self._try()
        except psycopg.Error as error:
            logger.warning("the scheduler lost the database: %s", error)
            self.leave()
            return False

    def leave(self) -> None:
        """Give the lock back; harmless without it."""
        if self._session is not None:
            self._session.close()
            self._session = None
            logger.info("another scheduler may go on")

    def _try(self) -> bool:
        # Django's own cursors would need the rest of its connection.
        of_its_own: dict[str, Any] = {"cursor_factory": None, "autocommit": True}
        session = psycopg.connect(**connection.get_connection_params() | of_its_own)
        row = session.execute("SELECT pg_try_advisory_lock(%s)", [SCHEDULER_LOCK]).fetchone()
        if not (row and row[0]):
            session.close()
            return False
        self._session = session
        logger.info("this scheduler sends the messages now")
        return True


class ElectedScheduler(PersistentScheduler):  # type: ignore[misc]  # Celery has no types
    """Does nothing until it is the one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.election = Election()
        super().__init__(*arguments, **options)

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Send what is due; return the seconds to the next tick."""
        if not self.election.is_won():
            return RETRY_S
        return float(super().tick(*arguments, **options))

    def close(self) -> None:
        super().close()
        self.election.leave()
