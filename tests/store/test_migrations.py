"""Migrations of the embedded database: whole or not at all, once, and never backwards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2

from pithead.store import migrate as module
from pithead.store.errors import StoreError
from pithead.store.migrate import migrate, migrations
from pithead.store.sqlite import SqliteStore

NEWEST = migrations("sqlite")[-1][0]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[dbapi2.Connection]:
    """An empty database."""
    opened = dbapi2.connect(str(tmp_path / "pithead.db"), isolation_level=None)
    yield opened
    opened.close()


def version(connection: dbapi2.Connection) -> Any:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def schema(connection: dbapi2.Connection) -> list[tuple[str, str]]:
    return list(connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall())


def test_from_nothing_and_then_no_more(connection: dbapi2.Connection) -> None:
    assert migrate(connection) == len(migrations("sqlite"))
    assert version(connection) == NEWEST
    before = schema(connection)
    assert migrate(connection) == 0
    assert schema(connection) == before
    assert {"jobs", "attempts", "miners", "transfers", "transfers_are_never_deleted"} <= {name for name, _ in before}


def test_one_after_the_other_is_the_same_as_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that was brought up to date with every version of the program on the way."""
    every = migrations("sqlite")
    step_by_step = dbapi2.connect(str(tmp_path / "old.db"), isolation_level=None)
    for count in range(1, len(every) + 1):
        monkeypatch.setattr(module, "migrations", lambda dialect, upto=count: every[:upto])
        assert migrate(step_by_step) == 1
    at_once = dbapi2.connect(str(tmp_path / "new.db"), isolation_level=None)
    monkeypatch.undo()
    migrate(at_once)
    assert schema(step_by_step) == schema(at_once)
    step_by_step.close()
    at_once.close()


def test_what_is_stored_survives_a_migration(connection: dbapi2.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(connection)
    connection.execute("INSERT INTO meta (key, value) VALUES ('alive_at', 5.0)")
    more = [*migrations("sqlite"), (NEWEST + 1, "ALTER TABLE meta ADD COLUMN note TEXT NOT NULL DEFAULT 'x';")]
    monkeypatch.setattr(module, "migrations", lambda dialect: more)
    assert migrate(connection) == 1
    assert connection.execute("SELECT * FROM meta").fetchall() == [("alive_at", 5.0, "x")]


def test_one_that_fails_leaves_the_earlier_ones_and_nothing_of_itself(
    connection: dbapi2.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = "CREATE TABLE half (a INTEGER);\nINSERT INTO meta VALUES ('half', 1.0);\nINSERT INTO nowhere VALUES (1);"
    more = [*migrations("sqlite"), (NEWEST + 1, "CREATE TABLE whole (a INTEGER);"), (NEWEST + 2, fails)]
    monkeypatch.setattr(module, "migrations", lambda dialect: more)
    with pytest.raises(StoreError, match=r"cannot bring the database up to date: .*nowhere"):
        migrate(connection)
    assert not connection.in_transaction
    assert version(connection) == NEWEST + 1
    assert {"whole"} == {name for name, _ in schema(connection)} & {"whole", "half"}
    assert connection.execute("SELECT count(*) FROM meta").fetchone() == (0,)
    # Mended, it goes on from there.
    monkeypatch.setattr(
        module, "migrations", lambda dialect: [*more[:-1], (NEWEST + 2, "CREATE TABLE half (a INTEGER);")]
    )
    assert migrate(connection) == 1
    assert version(connection) == NEWEST + 2


def test_a_newer_program_s_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "pithead.db"
    SqliteStore(file).close()
    connection = dbapi2.connect(str(file), isolation_level=None)
    connection.execute(f"PRAGMA user_version = {NEWEST + 1}")
    before = schema(connection)
    connection.close()
    with pytest.raises(StoreError, match=rf"version {NEWEST + 1} .* knows up to {NEWEST}: run the newer program"):
        SqliteStore(file)
    connection = dbapi2.connect(str(file), isolation_level=None)
    assert (version(connection), schema(connection)) == (NEWEST + 1, before)
    connection.close()
