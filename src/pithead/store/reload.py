"""A snapshot becomes a database again: only where there is none, and whole or not at all."""

import os
import shutil
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from pithead.store.errors import StoreError
from pithead.store.files import sync_folder
from pithead.store.manifest import DATABASE, TABLES, Manifest
from pithead.store.migrate import migrations, pending, version_there
from pithead.store.postgres import LOCKS, MIGRATING, connect, one_line
from pithead.store.queries import POSTGRES_READING as Q
from pithead.store.snapshot import columns_of

_PIECE: Final = 1 << 20
_REFERENCES: Final = """
    SELECT child.relname, parent.relname FROM pg_constraint
    JOIN pg_class AS child ON child.oid = conrelid JOIN pg_class AS parent ON parent.oid = confrelid
    WHERE contype = 'f' AND child.relnamespace = to_regnamespace(current_schema())
"""


def place_sqlite(source: Path, path: Path) -> None:
    """Copy the backup's database to where a coordinator looks for it. It appears whole. Raises `OSError`."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out, (source / DATABASE).open("rb") as file:
        shutil.copyfileobj(file, out, _PIECE)
        out.flush()
        os.fsync(out.fileno())
    temporary.rename(path)
    sync_folder(path.parent)


def fill_postgres(url: str, source: Path, manifest: Manifest) -> None:
    """Make the tables of the backup's version and fill them, in one transaction. Raises `StoreError`."""
    # Before anything is touched: what a newer program wrote is not for this one.
    pending("postgres", manifest.schema)
    connection = connect(url, "restore")
    try:
        connection.execute(
            "SET lock_timeout = 0; SET statement_timeout = 0; SET client_encoding = 'UTF8'", prepare=False
        )
        connection.execute("SET idle_in_transaction_session_timeout = 0", prepare=False)
        connection.execute(Q["wait_for_lock"], {"locks": LOCKS, "task": MIGRATING})
        with connection.transaction():
            if version_there(connection):
                raise StoreError(
                    "the database is not empty; restore into a new one (createdb), and name it in database"
                )
            for number, text in migrations("postgres"):
                if number <= manifest.schema:
                    connection.execute(text.encode(), prepare=False)
            tables = columns_of(connection, manifest.schema)
            if tables.keys() != manifest.tables.keys():
                raise StoreError("the backup has other tables than its version has")
            for table in _parents_first(connection, list(tables)):
                _fill(connection, source / TABLES / f"{table}.copy", table, manifest)
            for name, stands in manifest.sequences.items():
                connection.execute(
                    "SELECT setval(CAST(%s AS regclass), %s, %s)", (name, stands.last_value, stands.is_called)
                )
    except (psycopg.Error, OSError) as error:
        raise StoreError(f"cannot fill the database, which is as it was: {one_line(error)}") from error
    finally:
        connection.close()


def _parents_first(connection: psycopg.Connection, tables: list[str]) -> list[str]:
    """The tables in an order in which none refers to a later one."""
    refers: dict[str, set[str]] = {table: set() for table in tables}
    for child, parent in connection.execute(_REFERENCES).fetchall():
        if child != parent:
            refers[child].add(parent)
    ordered: list[str] = []
    while len(ordered) < len(tables):
        ready = [table for table in tables if table not in ordered and refers[table] <= set(ordered)]
        assert ready, "tables refer to each other in a circle"
        ordered += ready
    return ordered


def _fill(connection: psycopg.Connection, file: Path, table: str, manifest: Manifest) -> None:
    name, said = sql.Identifier(table), manifest.tables[table]
    found = connection.execute(sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(name)).fetchone()
    # The rows that migrations make: the backup has them too.
    if found and found[0]:
        connection.execute(sql.SQL("DELETE FROM {}").format(name))
    columns = sql.SQL(", ").join(map(sql.Identifier, said.columns))
    with file.open("rb") as rows, connection.cursor() as cursor:
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(name, columns)) as copy:
            while some := rows.read(_PIECE):
                copy.write(some)
        if cursor.rowcount != said.rows:
            raise StoreError(f"the backup has {cursor.rowcount} rows of {table}, and not {said.rows} as it says")
