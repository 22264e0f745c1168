"""The cache that all web processes share: a table of the database, so that it is there whenever the site is.

Sign-in limits stand in it. What each process may keep for itself belongs into the cache “process”.
"""

import base64
import pickle

from django.core.cache.backends.db import DatabaseCache
from django.db import connection, transaction


class SharedCache(DatabaseCache):
    """Django's, but when two processes count at the same moment neither is lost, and the time limit stays."""

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Add to a number. Raises ValueError where there is none."""
        row_key = self.make_and_validate_key(key, version)
        table = connection.ops.quote_name(self._table)  # type: ignore[attr-defined]  # the stubs lack it
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"SELECT value FROM {table} WHERE cache_key = %s AND expires > now() FOR UPDATE", [row_key]
            )
            row = cursor.fetchone()
            if row is None:
                raise ValueError(f"Key '{key}' not found")
            number = int(pickle.loads(base64.b64decode(row[0]))) + delta
            value = base64.b64encode(pickle.dumps(number, self.pickle_protocol)).decode("ascii")
            cursor.execute(f"UPDATE {table} SET value = %s WHERE cache_key = %s", [value, row_key])
        return number
