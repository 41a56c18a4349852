"""The embedded store: SQLite through `sqlcipher3`, in WAL mode, every commit on the disk before it is answered."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlcipher3 import dbapi2

from pithead.store.errors import StoreError
from pithead.store.migrate import migrate
from pithead.store.queries import SQLITE
from pithead.store.tx import SqlTx

T = TypeVar("T")


class SqliteTx(SqlTx):
    """One transaction over a connection."""

    def __init__(self, connection: dbapi2.Connection) -> None:
        super().__init__(connection.execute, SQLITE)


class SqliteStore:
    """A database file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: dbapi2.Connection | None = None
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.writing = self.connect()
        migrate(self.writing)
        self._reader = self.connect()
        self._reading = SqliteTx(self._reader)

    def connect(self) -> dbapi2.Connection:
        """A connection of its own. Raises `StoreError`."""
        try:
            connection = dbapi2.connect(
                str(self._path), isolation_level=None, check_same_thread=False, cached_statements=256, timeout=10.0
            )
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit is on the disk when it returns. NORMAL could lose commits that were answered.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            # Lets what REPLACE deletes meet the triggers too: without it the ledger could be rewritten by that.
            connection.execute("PRAGMA recursive_triggers = ON")
            connection.execute("PRAGMA cache_size = -65536")
            connection.execute("PRAGMA temp_store = MEMORY")
        except dbapi2.DatabaseError as error:
            raise StoreError(f"cannot open the database {self._path}: {error}; check the file and its disk") from error
        return connection

    def peek(self, read: Callable[[SqliteTx], T]) -> T:
        """Run a short read on what is committed, on the calling thread (always the same one)."""
        return read(self._reading)

    def read(self, read: Callable[[SqliteTx], T]) -> T:
        """Run a read of any length in a transaction of its own, on any thread."""
        connection = self.connect()
        try:
            connection.execute("BEGIN")
            return read(SqliteTx(connection))
        finally:
            connection.close()

    def close(self) -> None:
        """Check the write-ahead log into the database and close every connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        with contextlib.suppress(dbapi2.DatabaseError):
            # On a full disk the log stays beside the database, and is read at the next start.
            self.writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.writing.close()
