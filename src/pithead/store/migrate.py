"""Versioned migrations, each in one transaction, counted in `PRAGMA user_version`.

`migrations/sqlite/NNNN_name.sql`, and the same in `migrations/postgres` under the same number and name: the tables and
columns that they lead to are the same, and a test compares.
"""

import hashlib
from importlib.resources import files

from sqlcipher3 import dbapi2

from pithead.store.errors import StoreError


def migrations(dialect: str) -> list[tuple[int, str]]:
    """All migrations of a database, `sqlite` or `postgres`, in order: their numbers and texts."""
    found = [
        (int(entry.name[:4]), entry.read_text(encoding="utf-8"))
        for entry in files("pithead.store").joinpath("migrations", dialect).iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found)


def migrate(connection: dbapi2.Connection) -> int:
    """Bring the database up to date; how many migrations ran.

    Raises `StoreError` where a newer program has written the database, or it is none.
    """
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        known = migrations("sqlite")
        if version > known[-1][0]:
            raise StoreError(
                f"the database is at version {version} and this program knows up to {known[-1][0]}: "
                "run the newer program that wrote it"
            )
        pending = [(number, text) for number, text in known if number > version]
        connection.create_function("sha256_hex", 1, lambda text: hashlib.sha256(text.encode()).hexdigest())
        # Some make a table anew that others refer to. Whether all references still lead somewhere is looked at below.
        connection.execute("PRAGMA foreign_keys = OFF")
        for number, text in pending:
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
    return len(pending)
