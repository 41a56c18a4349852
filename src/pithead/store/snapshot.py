"""One state of a database, copied while others work with it. Nobody waits for it, and it waits for nobody's work.

SQLite copies itself with VACUUM INTO, under the key that it is opened with. PostgreSQL is read in one REPEATABLE READ
transaction, table by table, as text.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql
from sqlcipher3 import dbapi2

from pithead.store import cipher
from pithead.store.errors import StoreError
from pithead.store.keys import DatabaseKey
from pithead.store.manifest import DATABASE, TABLES, Sequence, Table
from pithead.store.migrate import migrations, pending, version_of, version_there
from pithead.store.postgres import LOCKS, MIGRATING, connect, one_line
from pithead.store.queries import POSTGRES_READING as Q

_NAMES: Final = "SELECT {0} FROM {1} WHERE {0} IS NOT NULL"
#: The migrations since when blobs are named in more places.
_PARTS: Final = 3
_FILES: Final = 12
_TABLES_SQLITE: Final = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
_COLUMNS: Final = """
    SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relnamespace = to_regnamespace(current_schema()) AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
      AND attgenerated = '' AND relname = ANY(%s) ORDER BY relname, attnum
"""
_SEQUENCES: Final = """
    SELECT relname FROM pg_class
    WHERE relnamespace = to_regnamespace(current_schema()) AND relkind = 'S'
      AND (relname = 'account_numbers' OR relname = ANY(%s)) ORDER BY relname
"""
#: However the server and the database are set, the text is the same. And it takes as long as it takes.
_SESSION: Final = """
    SET client_encoding = 'UTF8'; SET bytea_output = 'hex'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';
    SET extra_float_digits = 1; SET timezone = 'UTC';
    SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0
"""


class Snapshot(msgspec.Struct, frozen=True):
    """One state of a database, as files in a folder."""

    taken_at: float
    schema: int
    tables: dict[str, Table]
    sequences: dict[str, Sequence]
    #: The blobs that it names.
    blobs: set[str]


class Sqlite:
    """The embedded database, from beside its coordinator."""

    kind: Final = "sqlite"

    def __init__(self, path: Path, key: DatabaseKey | None) -> None:
        """Raises `StoreError` where there is none, or the key does not open it."""
        if not path.is_file():
            raise StoreError(f"there is no database {path}; name the coordinator's folder with --data")
        cipher.check(path, key)
        self._path = path
        self._key = key

    def blobs(self) -> set[str]:
        """The blobs that it names now. Raises `StoreError`."""
        with self._reading(self._path) as connection:
            return _blobs_of(connection, _known(connection))

    def take(self, folder: Path) -> Snapshot:
        """Copy it into this folder. Raises `StoreError`."""
        copy = folder / DATABASE
        with self._reading(self._path) as connection:
            _known(connection)
            # The file is made by us, so that nobody else can read it, not even for a moment.
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            taken_at = time.time()
            connection.execute("VACUUM INTO ?", (str(copy),))
        with self._reading(copy) as connection:
            version = _known(connection)
            names = [name for (name,) in connection.execute(_TABLES_SQLITE).fetchall()]
            tables = {name: Table(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]) for name in names}  # noqa: S608
            return Snapshot(taken_at, version, tables, {}, _blobs_of(connection, version))

    @contextlib.contextmanager
    def _reading(self, path: Path) -> Iterator[dbapi2.Connection]:
        try:
            with contextlib.closing(cipher.connect(str(path), self._key)) as connection:
                yield connection
        except dbapi2.DatabaseError as error:
            raise StoreError(f"cannot copy the database {path}: {error}; check the file and its disk") from error


def _known(connection: dbapi2.Connection) -> int:
    """The database's version, which is one that this program knows."""
    version = version_of(connection)
    pending("sqlite", version)
    return version


class Postgres:
    """A PostgreSQL database."""

    kind: Final = "postgresql"

    def __init__(self, url: str) -> None:
        self._url = url

    def blobs(self) -> set[str]:
        """The blobs that it names now. Raises `StoreError`."""
        with self._transaction() as (connection, version):
            return _blobs_of(connection, version)

    def take(self, folder: Path) -> Snapshot:
        """Copy it into this folder. Raises `StoreError`."""
        (folder / TABLES).mkdir(exist_ok=True, mode=0o700)
        with self._transaction() as (connection, version):
            taken_at = time.time()
            tables: dict[str, Table] = {}
            for name, columns in columns_of(connection, version).items():
                tables[name] = Table(_copy_out(connection, folder / TABLES / f"{name}.copy", name, columns), columns)
            blobs = _blobs_of(connection, version)
            # Last: numbers are given out outside of transactions, so these are at least what the rows have.
            return Snapshot(taken_at, version, tables, _sequences_of(connection, list(tables)), blobs)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[tuple[psycopg.Connection, int]]:
        """One snapshot of the database, and its version."""
        connection = connect(self._url, "backup")
        try:
            connection.execute(_SESSION, prepare=False)
            # A migration that ran meanwhile would make tables anew, of which an older snapshot sees nothing.
            connection.execute(Q["share_lock"], {"locks": LOCKS, "task": MIGRATING})
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                version = version_there(connection)
                if not version:
                    raise StoreError("there is nothing of ours in the database; correct the setting database")
                pending("postgres", version)
                yield connection, version
        except psycopg.Error as error:
            raise StoreError(f"cannot copy the database: {one_line(error)}") from error
        finally:
            connection.close()


def columns_of(connection: psycopg.Connection, version: int) -> dict[str, list[str]]:
    """Our tables at this version, each with its columns that are not generated."""
    ours = {
        name for number, text in migrations("postgres") if number <= version
        for name in re.findall(r"^CREATE TABLE (\w+)", text, re.MULTILINE)
    }  # fmt: skip
    found: dict[str, list[str]] = {}
    for table, column in connection.execute(_COLUMNS, (sorted(ours),)).fetchall():
        found.setdefault(table, []).append(column)
    return found


def _sequences_of(connection: psycopg.Connection, tables: list[str]) -> dict[str, Sequence]:
    found = {}
    # An identity column's has the names of the table and the column.
    for (name,) in connection.execute(_SEQUENCES, ([f"{table}_seq_seq" for table in tables],)).fetchall():
        query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(name))
        row = connection.execute(query).fetchone()
        assert row is not None
        found[name] = Sequence(*row)
    return found


def _copy_out(connection: psycopg.Connection, path: Path, table: str, columns: list[str]) -> int:
    query = sql.SQL("COPY {} ({}) TO STDOUT").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out, connection.cursor() as cursor:
        with cursor.copy(query) as rows:
            for some in rows:
                out.write(some)
        return cursor.rowcount


def _blobs_of(connection: Any, version: int) -> set[str]:
    # The columns as of their migrations: one brought parts, and another files.
    columns = [("blob", "attempts")]
    columns += [("part_blob", "attempts")] if version >= _PARTS else []
    columns += [("blob", "input_files"), ("part_blob", "input_files")] if version >= _FILES else []
    found: set[str] = set()
    for column, table in columns:
        found.update(name for (name,) in connection.execute(_NAMES.format(column, table)))
    return found
