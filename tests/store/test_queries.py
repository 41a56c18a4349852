"""The file of queries: each has a sentence of its own, and is found where the code asks for it."""

import contextlib
import re
import sqlite3
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

import pytest

from pithead.store import tx
from pithead.store.queries import COORDINATORS, POSTGRES, SHARED, SQLITE, load, setting, tables_of
from pithead.store.sqlite import SqliteStore


def entries(file: str) -> list[tuple[str, list[str]]]:
    """The names in the file, each with the lines under it."""
    text = files("pithead.store").joinpath(file).read_text(encoding="utf-8")
    parts = re.split(r"^-- name: ", text, flags=re.MULTILINE)[1:]
    return [(part.splitlines()[0], part.splitlines()[1:]) for part in parts]


@pytest.mark.parametrize("file", [*SHARED, *COORDINATORS, "queries_postgres.sql"])
def test_every_query_has_a_name_and_a_sentence(file: str) -> None:
    found = entries(file)
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), "a name is given once"
    for name, (sentence, *rest) in found:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
        assert re.match(r"-- \S", sentence), f"{name} says nothing"
        comment = [line for line in [sentence, *rest] if line.startswith("--")]
        assert comment[-1].rstrip().endswith("."), f"{name}: the sentence ends"
        assert any(line.strip() and not line.startswith("--") for line in rest), f"{name} asks nothing"


def test_every_query_that_the_code_asks_for_exists() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in Path(tx.__file__).parent.glob("*.py"))
    asked = set(re.findall(r'self\._(?:one|all|do|put)\(\s*"([a-z_]+)"', code))
    assert len(asked) > 50
    assert asked <= POSTGRES.keys()
    assert POSTGRES.keys() - SQLITE.keys() == load(*COORDINATORS).keys()


@pytest.mark.parametrize("queries", [SQLITE, POSTGRES], ids=["sqlite", "postgres"])
def test_every_placeholder_was_filled(queries: dict[str, str]) -> None:
    for name, sql in queries.items():
        # Those of `save_job` are filled in for each kind of change.
        assert "{" not in setting(sql, ("state",)), name
        assert ";" not in sql, f"{name} is more than one statement"


def test_the_tables_of_a_query_are_those_that_the_database_looks_at(tmp_path: Path) -> None:
    """What is written later is written before a query of the same table: none may go unnoticed."""
    SqliteStore(tmp_path / "x.db").close()
    written = {"accounts", "attempts", "inputs", "miners", "transfers"}
    looked_at: set[str] = set()
    actions = (sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)

    def note(action: int, table: str | None, *_: str | None) -> int:
        if action in actions and table is not None:
            looked_at.add(table)
        return sqlite3.SQLITE_OK

    with contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.set_authorizer(note)
        for name, sql in SQLITE.items():
            looked_at.clear()
            connection.execute(f"EXPLAIN {setting(sql, ('state',))}", defaultdict(int))
            assert looked_at & written <= tables_of(sql), name
