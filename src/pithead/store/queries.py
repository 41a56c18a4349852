"""Loads the files of queries: every query under its name, with the columns of the entities filled in, for each database."""

import itertools
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Final

from pithead.core import payouts
from pithead.core.bookkeeping import Posting
from pithead.core.jobs import Attempt, Job
from pithead.core.miners import Miner
from pithead.core.payouts import Payout
from pithead.exchange.ports import Client, Key

_ENTITIES: Final = {
    "job": Job, "attempt": Attempt, "miner": Miner, "client": Client, "key": Key, "posting": Posting,
    "payout": Payout,
}  # fmt: skip


def _states(wanted: Sequence[StrEnum]) -> str:
    return "(" + ", ".join(f"'{s}'" for s in wanted) + ")"


def _substitutions() -> dict[str, str]:
    filled = {"{OPEN_PAYOUT}": _states([s for s in payouts.State if s in payouts.OPEN])}
    for name, entity in _ENTITIES.items():
        columns = entity.__struct_fields__
        for suffix, some in (("", columns), (".but_seq", tuple(c for c in columns if c != "seq"))):
            filled[f"{{{name}{suffix}}}"] = ", ".join(some)
            filled[f"{{{name}{suffix}.values}}"] = ", ".join(f":{c}" for c in some)
    return filled


def _named(file: str) -> Iterator[tuple[str, str]]:
    text = files("pithead.store").joinpath(file).read_text(encoding="utf-8")
    for part in re.split(r"^-- name: ", text, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if not line.startswith("--")]
        yield name.strip(), "\n".join(lines).strip()


def load(*names: str) -> dict[str, str]:
    """All queries by name, from these files; what a later one has counts."""
    substitutions = _substitutions()
    queries: dict[str, str] = {}
    for name, sql in itertools.chain.from_iterable(map(_named, names)):
        for placeholder, value in substitutions.items():
            sql = sql.replace(placeholder, value)
        queries[name] = sql
    return queries


def _for_psycopg(sql: str) -> str:
    """The query with `%(name)s` for `:name`."""
    return re.sub(r"(?<![:\w]):(\w+)", r"%(\1)s", sql.replace("%", "%%"))


#: What both databases are asked.
SHARED: Final = ("queries.sql", "queries_ledger.sql", "queries_retention.sql")
#: All queries by name, as `sqlcipher3` takes them.
SQLITE: Final = load(*SHARED)
#: All queries by name, as `psycopg` takes them.
POSTGRES: Final = {name: _for_psycopg(sql) for name, sql in load(*SHARED, "queries_postgres.sql").items()}


@cache
def setting(sql: str, names: tuple[str, ...]) -> str:
    """The query with `{changes}` as assignments to these columns, in its own way of naming values."""
    form = "{0} = %({0})s" if "%(seq)s" in sql else "{0} = :{0}"
    return sql.replace("{changes}", ", ".join(form.format(name) for name in names) or "seq = seq")
