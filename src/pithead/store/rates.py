"""Rate limits kept in PostgreSQL: a storage for the `limits` library, so that they hold over all coordinators.

One row a key, with the times of its requests in the window, by the database's clock. The table is not logged: after a
crash of the server the counting begins anew.
"""

import time
from typing import Any, Final

import psycopg
from limits.storage import MovingWindowSupport, Storage
from psycopg_pool import ConnectionPool, PoolTimeout

from pithead.store.postgres import conninfo, prepare
from pithead.store.queries import POSTGRES_READING as Q

#: Connections for counting, and the threads that use them.
CONNECTIONS: Final = 4
#: Seconds to wait for one of them.
_PATIENCE: Final = 2.0


class RateStorage(Storage, MovingWindowSupport):
    """Counts in the table `rate_windows`. From any thread."""

    STORAGE_SCHEME = None

    def __init__(self, url: str) -> None:
        super().__init__(wrap_exceptions=True)
        self._pool = ConnectionPool(
            conninfo(url, "rates"), min_size=1, max_size=CONNECTIONS, open=False, configure=prepare, timeout=_PATIENCE
        )

    def open(self) -> None:
        """Connect."""
        self._pool.open()

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return (psycopg.Error, PoolTimeout)

    def _one(self, query: str, **values: Any) -> Any:
        with self._pool.connection() as connection:
            return connection.execute(Q[query], values).fetchone()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` requests, if no more than `limit` are in the window then."""
        return amount <= limit and self._one("hit", key=key, limit=limit, expiry=expiry, amount=amount) is not None

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the oldest request in the window was, by this machine's clock, and how many there are."""
        age, count = self._one("window", key=key, expiry=expiry)
        return time.time() - (age or 0.0), count

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count in a window that begins with its first request; how many are in it."""
        return int(self._one("count_up", key=key, expiry=expiry, amount=amount)[0])

    def get(self, key: str) -> int:
        """How many were counted in such a window."""
        row = self._one("counted", key=key)
        return int(row[0]) if row else 0

    def get_expiry(self, key: str) -> float:
        """When a key's window ends, by this machine's clock."""
        row = self._one("counted", key=key)
        return time.time() + (float(row[1]) if row else 0.0)

    def check(self) -> bool:
        """Whether the database answers."""
        try:
            return bool(self._one("counted", key="") or True)
        except self.base_exceptions:
            return False

    def reset(self) -> int | None:
        """Forget all that was counted; how many keys."""
        with self._pool.connection() as connection:
            return connection.execute(Q["forget_rates"]).rowcount

    def clear(self, key: str) -> None:
        """Forget what was counted of a key."""
        self._one("forget_rate", key=key)
