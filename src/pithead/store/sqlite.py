"""The embedded store: SQLite through `sqlcipher3`, in WAL mode, every commit on the disk before it is answered."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlcipher3 import dbapi2

from pithead.store.cipher import check, connect
from pithead.store.errors import StoreError
from pithead.store.keys import DatabaseKey
from pithead.store.migrate import migrate
from pithead.store.queries import SQLITE, positional
from pithead.store.tx import SqlTx

T = TypeVar("T")

# Where no adapter is known for a value's exact type, the driver looks for one in three further ways, which costs more than
# to bind it; only whole numbers, floats and texts are spared that.
dbapi2.register_adapter(type(None), lambda nothing: nothing)
dbapi2.register_adapter(bytes, bytes)
dbapi2.register_adapter(bool, int)

#: Seconds for which the end waits for reads to end.
_GIVE_UP_AFTER: Final = 10.0


def executor(connection: dbapi2.Connection) -> Callable[[str, Mapping[str, Any]], dbapi2.Cursor]:
    """What runs statements one after the other, each read to its end before the next."""
    cursor = connection.cursor()

    def execute(sql: str, values: Mapping[str, Any]) -> dbapi2.Cursor:
        text, in_order = positional(sql)
        return cursor.execute(text, in_order(values))

    return execute


def executor_of_many(connection: dbapi2.Connection) -> Callable[[str, Sequence[Mapping[str, Any]]], int]:
    """What runs one statement for each of some rows of values; how many rows were changed."""
    cursor = connection.cursor()

    def execute(sql: str, rows: Sequence[Mapping[str, Any]]) -> int:
        text, in_order = positional(sql)
        return int(cursor.executemany(text, [in_order(row) for row in rows]).rowcount)

    return execute


class SqliteTx(SqlTx):
    """One transaction over a connection."""

    def __init__(self, connection: dbapi2.Connection) -> None:
        super().__init__(executor(connection), SQLITE)


class SqliteStore:
    """A database file."""

    def __init__(self, path: Path, key: DatabaseKey | None = None) -> None:
        """With a key, the database is encrypted. Raises `StoreError`; where the key is wrong, nothing was changed."""
        self._path = path
        self._key = key
        self._reads = threading.Condition()
        self._reading_connections: set[dbapi2.Connection] = set()
        self._closing = False
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        check(path, key)
        self.writing = self.connect()
        try:
            migrate(self.writing)
            self._reader = self.connect()
        except BaseException:
            self.writing.close()
            raise
        self._reading = SqliteTx(self._reader)

    def connect(self) -> dbapi2.Connection:
        """A connection of its own. Raises `StoreError`."""
        connection: dbapi2.Connection | None = None
        try:
            connection = connect(str(self._path), self._key)
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit is on the disk when it returns. NORMAL could lose commits that were answered.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            # Lets what REPLACE deletes meet the triggers too: without it the ledger could be rewritten by that.
            connection.execute("PRAGMA recursive_triggers = ON")
            connection.execute("PRAGMA cache_size = -65536")
            connection.execute("PRAGMA temp_store = MEMORY")
        except dbapi2.DatabaseError as error:
            if connection is not None:
                connection.close()
            raise StoreError(f"cannot open the database {self._path}: {error}; check the file and its disk") from error
        return connection

    def peek(self, read: Callable[[SqliteTx], T]) -> T:
        """Run a short read on what is committed, on the calling thread (always the same one)."""
        return read(self._reading)

    def write(self, operation: Callable[[SqliteTx], T]) -> T:
        """Run an operation in a transaction of its own, where there is no writer to do it."""
        self.writing.execute("BEGIN IMMEDIATE")
        try:
            outcome = operation(SqliteTx(self.writing))
        except BaseException:
            self.writing.execute("ROLLBACK")
            raise
        self.writing.execute("COMMIT")
        return outcome

    def read(self, read: Callable[[SqliteTx], T]) -> T:
        """Run a read of any length in a transaction of its own, on any thread."""
        connection = self.connect()
        try:
            with self._reads:
                if self._closing:
                    raise StoreError("the coordinator is stopping")
                self._reading_connections.add(connection)
            connection.execute("BEGIN")
            return read(SqliteTx(connection))
        except dbapi2.OperationalError as error:
            if self._closing:
                raise StoreError("the coordinator is stopping") from error
            raise
        finally:
            connection.close()
            with self._reads:
                self._reading_connections.discard(connection)
                self._reads.notify_all()

    def close(self) -> None:
        """Check the write-ahead log into the database and close every connection: one file is left."""
        with self._reads:
            # The log goes with the last connection, so none may stay behind in a thread.
            self._closing = True
            give_up_at = time.monotonic() + _GIVE_UP_AFTER
            while self._reading_connections and time.monotonic() < give_up_at:
                # Again and again, since one that has not begun its statement yet does not notice.
                for connection in self._reading_connections:
                    connection.interrupt()
                self._reads.wait(0.05)
        self._reader.close()
        with contextlib.suppress(dbapi2.DatabaseError):
            # On a full disk the log stays beside the database, and is read at the next start.
            self.writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.writing.close()
