"""Versioned migrations, each in one transaction, counted in `PRAGMA user_version` or in the table `meta`.

`migrations/sqlite/NNNN_name.sql`, and the same in `migrations/postgres` under the same number and name: the tables and
columns that they lead to are the same, and a test compares.
"""

import hashlib
from importlib.resources import files

import psycopg
from sqlcipher3 import dbapi2

from pithead.store.errors import StoreError
from pithead.store.postgres import LOCKS, MIGRATING, connect, one_line
from pithead.store.queries import POSTGRES_READING as Q


def migrations(dialect: str) -> list[tuple[int, str]]:
    """All migrations of a database, `sqlite` or `postgres`, in order: their numbers and texts."""
    found = [
        (int(entry.name[:4]), entry.read_text(encoding="utf-8"))
        for entry in files("pithead.store").joinpath("migrations", dialect).iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found)


def titles(dialect: str) -> dict[int, str]:
    """The names of a database's migrations, by number."""
    folder = files("pithead.store").joinpath("migrations", dialect)
    return {int(entry.name[:4]): entry.name for entry in folder.iterdir() if entry.name.endswith(".sql")}


def migrate(connection: dbapi2.Connection) -> int:
    """Bring an embedded database up to date; how many migrations ran.

    Raises `StoreError` where a newer program has written the database, or it is none.
    """
    try:
        due = pending("sqlite", version_of(connection))
        connection.create_function("sha256_hex", 1, lambda text: hashlib.sha256(text.encode()).hexdigest())
        # Some make a table anew that others refer to. Whether all references still lead somewhere is looked at below.
        connection.execute("PRAGMA foreign_keys = OFF")
        for number, text in due:
            # executescript would commit first; one explicit transaction makes a migration happen whole or not at all.
            connection.executescript(f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version = {number};")
            if connection.execute("PRAGMA foreign_key_check").fetchone():
                raise dbapi2.IntegrityError(f"after migration {number} rows refer to others that are not there")
            connection.execute("COMMIT")
        connection.execute("PRAGMA foreign_keys = ON")
    except dbapi2.DatabaseError as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise StoreError(f"cannot bring the database up to date: {error}") from error
    return len(due)


def migrate_postgres(url: str) -> int:
    """Bring a PostgreSQL database up to date; how many migrations ran. Others that do the same wait for each other.

    Raises `StoreError` where it cannot be reached, or a newer program has written it.
    """
    connection = connect(url, "migration")
    try:
        # As long as it takes: the other's migrations may be long, and so may ours.
        connection.execute("SET lock_timeout = 0; SET statement_timeout = 0", prepare=False)
        connection.execute(Q["wait_for_lock"], {"locks": LOCKS, "task": MIGRATING})
        due = pending("postgres", version_there(connection))
        for number, text in due:
            with connection.transaction():
                connection.execute(text.encode(), prepare=False)
                connection.execute(Q["set_version"], {"version": number})
    except psycopg.Error as error:
        raise StoreError(f"cannot bring the database up to date: {one_line(error)}") from error
    finally:
        # The lock goes with the connection.
        connection.close()
    return len(due)


def version_at(url: str) -> int:
    """The number of the newest migration that ran on a PostgreSQL database; 0 where none did. Raises `StoreError`."""
    connection = connect(url, "migration")
    try:
        return version_there(connection)
    except psycopg.Error as error:
        raise StoreError(f"cannot read the database: {one_line(error)}") from error
    finally:
        connection.close()


def version_of(connection: dbapi2.Connection) -> int:
    """The number of the newest migration that ran on an embedded database; 0 where none did. Raises `StoreError`."""
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except dbapi2.DatabaseError as error:
        raise StoreError(f"cannot read the database: {error}; check the file and its disk") from error


def version_there(connection: psycopg.Connection) -> int:
    """The same of a PostgreSQL database."""
    found = connection.execute(Q["has_meta"]).fetchone()
    if not found or not found[0]:
        return 0
    row = connection.execute(Q["version"]).fetchone()
    return int(row[0]) if row else 0


def pending(dialect: str, version: int) -> list[tuple[int, str]]:
    """The migrations that a database at this version still needs. Raises `StoreError` where a newer program wrote it."""
    known = migrations(dialect)
    if version > known[-1][0]:
        raise StoreError(
            f"the database is at version {version} and this program knows up to {known[-1][0]}: "
            "run the newer program that wrote it"
        )
    return [(number, text) for number, text in known if number > version]
