"""Two databases, one set of migrations and one set of queries."""

import re
from importlib.resources import files
from pathlib import Path

from pithead.store import tx
from pithead.store.queries import POSTGRES, SQLITE, load


def _migrations(dialect: str) -> list[str]:
    return sorted(entry.name for entry in files("pithead.store").joinpath("migrations", dialect).iterdir())


def test_both_databases_have_the_same_migrations() -> None:
    names = _migrations("sqlite")
    assert names == _migrations("postgres")
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_what_postgresql_is_asked_in_other_words_is_a_query_of_both() -> None:
    assert load("queries_postgres.sql").keys() <= SQLITE.keys()
    assert not load("queries_coordinators.sql").keys() & SQLITE.keys()


def test_a_query_takes_the_same_values_on_both_databases() -> None:
    different = load("queries_postgres.sql").keys()
    for name in SQLITE.keys() - different:
        assert re.findall(r"%\((\w+)\)s", POSTGRES[name]) == re.findall(r":(\w+)", SQLITE[name]), name


def test_every_query_is_used() -> None:
    sources = [file.read_text(encoding="utf-8") for file in Path(tx.__file__).parent.glob("*.py")]
    used = set(re.findall(r'"([a-z_]+)"', "\n".join(sources)))
    assert POSTGRES.keys() <= used
