"""What only PostgreSQL is asked for: an index for every query that is asked all day."""

import re

import pytest
from tests.postgres import Server
from tests.store.conftest import Postgres
from tests.store.test_sqlite import SCANS

from pithead.store.queries import POSTGRES, setting

#: Beside those that may look at a whole table in the embedded database.
MAY = {*SCANS, "extend_leases", "queued_resting"}
TABLES = ("accounts", "attempts", "clients", "inputs", "jobs", "keys", "miners", "transfers")


def plan(shared: Postgres, name: str) -> str:
    """How the query would be answered if no table were small."""
    names: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    query = re.sub(r"%\((\w+)\)s", numbered, setting(POSTGRES[name], ("state",))).replace("%%", "%")
    execute = shared.connection.execute
    execute("SET enable_seqscan = off")
    # In the simple protocol, as it stands: the placeholders are the planner's.
    rows = execute(f"EXPLAIN (GENERIC_PLAN) {query}".encode(), prepare=False).fetchall()
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize(
    "name", sorted(name for name, sql in POSTGRES.items() if name not in MAY and re.match(r"SELECT|UPDATE|DELETE", sql))
)
def test_no_query_looks_at_a_whole_table_but_those_that_may(shared: Postgres, name: str) -> None:
    found = plan(shared, name)
    whole = re.findall(rf"Seq Scan on ({'|'.join(TABLES)})\b", found)
    assert not whole, found


def test_the_server_is_one_that_the_documentation_names(postgres: Server) -> None:
    with postgres.connect("postgres") as connection:
        assert connection.info.server_version >= 160000
