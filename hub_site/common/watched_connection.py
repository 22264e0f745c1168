"""A connection to the database that gives up a server which takes requests and answers nothing."""

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

Result = TypeVar("Result")

QUIET_S = 3.0  # without a word on the connection; then we look whether the server answers at all
LOOK_S = 2  # libpq takes no less


class WatchedConnection(psycopg.Connection[Any]):
    """For who may not wait for ever, as a web request.

    A server that hangs, as a stopped process or a lost machine, closes no connection, so that no limit of
    libpq or TCP ends the wait. A limit for each statement would also end those that are slow or wait for a
    lock. So here a statement may take as long as it needs while the server takes new connections.
    """

    def wait(self, gen: PQGen[Result], *limits: Any, **named: Any) -> Result:
        """Do what `gen` does, as psycopg asks for every exchange with the server.

        Raises:
            psycopg.OperationalError: the server hangs; this connection is closed.
        """
        return super().wait(self._watch(gen), *limits, **named)

    def _watch(self, gen: PQGen[Result]) -> PQGen[Result]:
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted  # falsy about every tenth of a second in which nothing came
                now = time.monotonic()
                if ready:
                    heard = now
                elif now - heard > QUIET_S:
                    self._require_answering_server()
                    heard = now
                wanted = gen.send(ready)
        except StopIteration as done:
            result: Result = done.value
            return result

    def _require_answering_server(self) -> None:
        same_server: dict[str, Any] = self.info.get_parameters() | {"password": self.info.password}
        try:
            psycopg.connect(**same_server | {"connect_timeout": LOOK_S}).close()
        except psycopg.errors.ConnectionTimeout as error:
            self.close()
            raise psycopg.OperationalError("the database server does not answer") from error
        except psycopg.OperationalError:
            return  # it said no, as with too many connections: it is alive
