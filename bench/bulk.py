"""Rows by the million: what a few jobs left in a database, over and over, each time a little further on.

The jobs of the pattern are made by the exchange's own operations. Their rows are laid aside, and whole copies of them are
added by one statement for each table, in the order of every key but the ledger's two by account, so that the trees grow at
their ends and no index has to be sorted. Schema, triggers and indexes stay as they are.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from sqlcipher3 import dbapi2

#: After so many copies it is known how much room one takes.
_SAMPLE: Final = 16
#: And between so many it is said how far it is.
_TOLD_EVERY: Final = 100
#: Bytes that are left free for what the load adds, and for the write-ahead log.
SPARE: Final = 2**30


class NoRoomError(Exception):
    """The disk has too little room for a database of this size."""


class Table(msgspec.Struct, frozen=True):
    """A table, which of its rows belong to the pattern, and what a copy's columns are other than the pattern's.

    The expressions may name columns and the values that each copy has.
    """

    name: str
    where: str
    changed: Mapping[str, str]


@contextmanager
def opened(file: Path) -> Iterator[dbapi2.Connection]:
    """A connection that writes as fast as it can, in one transaction: what is half made when the machine stops is made anew.

    In the end everything is on the disk, so that whoever is measured next does not wait for it.
    """
    db = dbapi2.connect(str(file), isolation_level=None)
    try:
        db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
            " PRAGMA cache_size = -65536; BEGIN"
        )
        yield db
        db.execute("COMMIT")
    finally:
        db.close()
    db = dbapi2.connect(str(file), isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    with file.open("rb") as written:
        os.fsync(written.fileno())


def repeat(
    db: dbapi2.Connection,
    tables: list[Table],
    times: int,
    values: Callable[[int], dict[str, object]],
    say: Callable[[int], None],
) -> None:
    """Add `times - 1` copies of the pattern, each with the `values` of its number (from 1); `say` is told how many there are.

    The balances follow. Raises `NoRoomError` while almost nothing is written yet.
    """
    for table in tables:
        # A statement that reads what it writes would first lay all of it aside.
        db.execute(f"CREATE TEMP TABLE pattern_{table.name} AS SELECT * FROM main.{table.name} WHERE {table.where}")
    statements = [_statement(db, table) for table in tables]
    before = _bytes(db)
    for number in range(1, times):
        named = values(number)
        for statement in statements:
            db.execute(statement, named)
        if number == _SAMPLE:
            _see_to_room(db, (_bytes(db) - before) / _SAMPLE, times)
        if number % _TOLD_EVERY == 0:
            say(number)
    say(times)
    db.execute(
        "UPDATE accounts SET balance = balance + :more * ("
        "(SELECT coalesce(sum(amount), 0) FROM pattern_transfers WHERE credit = accounts.seq)"
        " - (SELECT coalesce(sum(amount), 0) FROM pattern_transfers WHERE debit = accounts.seq))"
        " WHERE seq IN (SELECT credit FROM pattern_transfers UNION SELECT debit FROM pattern_transfers)",
        {"more": times - 1},
    )


def _statement(db: dbapi2.Connection, table: Table) -> str:
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table.name})")]
    copied = ", ".join(table.changed.get(column, column) for column in columns)
    return f"INSERT INTO main.{table.name} ({', '.join(columns)}) SELECT {copied} FROM pattern_{table.name}"


def _bytes(db: dbapi2.Connection) -> int:
    pages, size = (db.execute(f"PRAGMA main.{name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages) * int(size)


def _see_to_room(db: dbapi2.Connection, each: float, times: int) -> None:
    file = Path(db.execute("PRAGMA database_list").fetchone()[2])
    needed, free = int(each * times) + SPARE, shutil.disk_usage(file.parent).free
    if needed > free:
        raise NoRoomError(f"needs {needed / 1e9:,.1f} GB on the disk, where {free / 1e9:,.1f} GB are free")
