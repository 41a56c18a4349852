"""A PostgreSQL database as a coordinator uses it, beside any number of others that do the same."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from pithead.core.errors import Fault, Invalid
from pithead.exchange.events import Event, Heard
from pithead.exchange.ports import Tx
from pithead.exchange.promises import Promise
from pithead.exchange.tally import Load
from pithead.store.clock import DatabaseClock
from pithead.store.errors import StoreError
from pithead.store.lanes import Lanes
from pithead.store.listener import Listener
from pithead.store.postgres import connect, conninfo, one_line, prepare
from pithead.store.queries import POSTGRES_READING
from pithead.store.tx import SqlTx

T = TypeVar("T")

# What the pool says of each try to connect, the listener says once.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

#: Lanes that write. While one waits for its commit, the other runs.
LANES: Final = 2
#: Connections for reading.
READERS: Final = 4
#: Seconds for which a database that did not answer is not asked, and that it has to answer then.
_PAUSE: Final = 1.0
_SOON: Final = 0.5
#: How often a read is tried whose connection turns out to be gone: once for each that may be, and once more.
_TRIES: Final = READERS + 1


class Shared:
    """Implements `exchange.coordinator.Database` over PostgreSQL. Make it on the event loop's thread."""

    shared = True
    look = None

    def __init__(
        self,
        url: str,
        clock: DatabaseClock,
        on_events: Callable[[list[Event]], None],
        on_heard: Callable[[Heard], None],
        on_gap: Callable[[], None],
    ) -> None:
        #: When it may be asked again, after it did not answer.
        self._away_until = 0.0
        # A name for this run: how it knows its own notes.
        name = secrets.token_hex(6)
        self._loop = asyncio.get_running_loop()
        self.lanes = Lanes(url, name, clock, on_events, on_gap, LANES)
        self._pool = ConnectionPool(
            conninfo(url, "reader"), min_size=1, max_size=READERS, open=False, configure=prepare, name=f"pithead-{name}"
        )
        self._pool.open()
        self._threads = ThreadPoolExecutor(READERS, f"pithead-{name}-reader")
        self.listener = Listener(url, name, on_heard, on_gap)

    async def attend(self) -> None:
        await self.listener.listening()

    def hears(self) -> bool:
        return self.listener.hears()

    def load(self) -> Load:
        lanes, pool = self.lanes, self._pool.get_stats()
        size, idle = pool.get("pool_size", 0), pool.get("pool_available", 0)
        connections = {"used": size - idle, "idle": idle, "waited_for": pool.get("requests_waiting", 0)}
        return Load(lanes.batches, lanes.seconds, lanes.waiting, connections)

    def run(self, operation: Callable[[Tx], T]) -> Awaitable[T]:
        return self.lanes.run(operation)

    def run_into(self, operation: Callable[[Tx], Any], promise: Promise) -> None:
        self.lanes.run_into(operation, promise)

    def peek(self, read: Callable[[Tx], T]) -> Awaitable[T]:
        return self._loop.run_in_executor(self._threads, self._read, read, False)

    def read(self, read: Callable[[Tx], T]) -> Awaitable[T]:
        return self._loop.run_in_executor(self._threads, self._read, read, True)

    def due(self, now: float) -> Awaitable[bool]:
        return self._loop.run_in_executor(self._threads, self._read, lambda tx: tx.due(now), False)

    def _read(self, read: Callable[[SqlTx], T], one_snapshot: bool) -> T:
        if time.monotonic() < self._away_until:
            # Somebody has just waited in vain: the others are told at once, and do not queue up for the threads.
            raise StoreError("the database does not answer")
        patience = _SOON if self._away_until else self.lanes.patience
        for left in reversed(range(_TRIES)):
            try:
                with self._pool.connection(timeout=patience) as connection:
                    outcome = _transact(connection, read) if one_snapshot else _look(connection, read)
                self._away_until = 0.0
                return outcome
            except (psycopg.OperationalError, PoolTimeout) as error:
                # The server was restarted since the connection was last used: reading again is safe.
                if not left or isinstance(error, PoolTimeout):
                    self._away_until = time.monotonic() + _PAUSE
                    # Without what libpq says of it: that names places which are none of the caller's business.
                    raise StoreError("the database does not answer") from error
            except psycopg.DataError as error:
                raise Invalid(Fault("", "holds a value that the database cannot hold")) from error
            except psycopg.Error as error:
                raise StoreError(f"the database cannot be read: {one_line(error)}") from error
        raise AssertionError

    async def close(self) -> None:
        """Finish what is queued, and close every connection."""
        await self.listener.close()
        await self.lanes.close()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._pool.close)


def _look(connection: psycopg.Connection, read: Callable[[SqlTx], T]) -> T:
    return read(SqlTx(connection.execute, POSTGRES_READING))


def _transact(connection: psycopg.Connection, read: Callable[[SqlTx], T]) -> T:
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return _look(connection, read)


def read_once(url: str, read: Callable[[Tx], T]) -> T:
    """Run a read of any length, in a transaction that sees one state, on a connection of its own. Raises `StoreError`."""
    connection = connect(url, "reader")
    try:
        connection.execute("SET statement_timeout = 0", prepare=False)
        return _transact(connection, read)
    except psycopg.Error as error:
        raise StoreError(f"the database cannot be read: {one_line(error)}") from error
    finally:
        connection.close()
