"""Two databases, one set of migrations and one set of queries."""

import re
from importlib.resources import files
from pathlib import Path

from tests.postgres import Server
from tests.store.conftest import Sqlite

from pithead.store import tx
from pithead.store.queries import COORDINATORS, POSTGRES, SQLITE, load


def _migrations(dialect: str) -> list[str]:
    return sorted(entry.name for entry in files("pithead.store").joinpath("migrations", dialect).iterdir())


def test_both_databases_have_the_same_migrations() -> None:
    names = _migrations("sqlite")
    assert names == _migrations("postgres")
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_what_postgresql_is_asked_in_other_words_is_a_query_of_both() -> None:
    assert load("queries_postgres.sql").keys() <= SQLITE.keys()
    assert not load(*COORDINATORS).keys() & SQLITE.keys()


def test_a_query_takes_the_same_values_on_both_databases() -> None:
    different = load("queries_postgres.sql").keys()
    for name in SQLITE.keys() - different:
        assert re.findall(r"%\((\w+)\)s", POSTGRES[name]) == re.findall(r":(\w+)", SQLITE[name]), name


def test_every_query_is_used() -> None:
    sources = [file.read_text(encoding="utf-8") for file in Path(tx.__file__).parent.glob("*.py")]
    used = set(re.findall(r'"([a-z_]+)"', "\n".join(sources)))
    assert POSTGRES.keys() <= used


#: What coordinators that share a database need beside, and one alone does not.
_OF_COORDINATORS = {"writers", "rate_windows"}
_TYPES = {"INTEGER": {"bigint", "boolean"}, "REAL": {"double precision"}, "TEXT": {"text"}, "BLOB": {"bytea"}}


def test_both_databases_end_up_with_the_same_tables_and_columns(sqlite: Sqlite, postgres: Server) -> None:
    execute = sqlite.store.writing.execute
    tables = {name for (name,) in execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    with postgres.lent() as database, postgres.connect(database) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        ).fetchall()
    there: dict[str, dict[str, tuple[str, bool]]] = {}
    for table, column, kind, nullable in rows:
        there.setdefault(table, {})[column] = (kind, nullable == "YES")
    assert there.keys() - _OF_COORDINATORS == tables
    for table in tables:
        here = {row[1]: row for row in execute(f"PRAGMA table_xinfo({table})")}
        assert here.keys() == there[table].keys(), table
        for name, (_, _, kind, not_null, _, key, hidden) in here.items():
            other, nullable = there[table][name]
            assert other in _TYPES[kind], f"{table}.{name}"
            assert key or hidden or not_null != nullable, f"{table}.{name}: one of them may be NULL"
