"""Loads the files of queries: every query under its name, with the columns of the entities filled in, for each database."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import Any, Final

from pithead.core import payouts
from pithead.core.bookkeeping import Posting
from pithead.core.jobs import Attempt, Job
from pithead.core.miners import Miner
from pithead.core.payouts import Payout
from pithead.exchange.input_ports import InputFile
from pithead.exchange.ports import Client, Key
from pithead.exchange.webhook_ports import Delivery, Webhook

_ENTITIES: Final = {
    "job": Job, "attempt": Attempt, "miner": Miner, "client": Client, "key": Key, "posting": Posting,
    "payout": Payout, "input_file": InputFile, "webhook": Webhook, "delivery": Delivery,
}  # fmt: skip


def _states(wanted: Sequence[StrEnum]) -> str:
    return "(" + ", ".join(f"'{s}'" for s in wanted) + ")"


def _substitutions() -> dict[str, str]:
    filled = {"{OPEN_PAYOUT}": _states([s for s in payouts.State if s in payouts.OPEN])}
    for name, entity in _ENTITIES.items():
        columns = entity.__struct_fields__
        for suffix, some in (("", columns), (".but_seq", tuple(c for c in columns if c != "seq"))):
            filled[f"{{{name}{suffix}}}"] = ", ".join(some)
            filled[f"{{{name}s.{name}{suffix}}}"] = ", ".join(f"{name}s.{c}" for c in some)
            filled[f"{{{name}{suffix}.values}}"] = ", ".join(f":{c}" for c in some)
    return filled


def _named(file: str) -> Iterator[tuple[str, str]]:
    text = files("pithead.store").joinpath(file).read_text(encoding="utf-8")
    for part in re.split(r"^-- name: ", text, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if not line.startswith("--")]
        yield name.strip(), "\n".join(lines).strip()


def load(*names: str, lock: str = "") -> dict[str, str]:
    """All queries by name, from these files; what a later one has counts. `lock` is how rows are kept, if they are."""
    substitutions = _substitutions() | {" {LOCK}": lock, " {TAKE}": lock and f"{lock} SKIP LOCKED"}
    queries: dict[str, str] = {}
    for name, sql in itertools.chain.from_iterable(map(_named, names)):
        for placeholder, value in substitutions.items():
            sql = sql.replace(placeholder, value)
        queries[name] = sql
    return queries


def tables_of(sql: str) -> frozenset[str]:
    """The tables that a query names. (A column of jobs has the name of one.)"""
    return frozenset(re.findall(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(\w+)", sql))


def _for_psycopg(lock: str = "") -> dict[str, str]:
    """All queries as `psycopg` takes them, with `%(name)s` for `:name`."""
    queries = load(*SHARED, "queries_postgres.sql", *COORDINATORS, lock=lock)
    return {name: re.sub(r"(?<![:\w]):(\w+)", r"%(\1)s", sql.replace("%", "%%")) for name, sql in queries.items()}


#: What only PostgreSQL is asked.
COORDINATORS: Final = ("queries_coordinators.sql", "queries_rates.sql")
#: What both databases are asked.
SHARED: Final = (
    "queries.sql", "queries_ledger.sql", "queries_retention.sql", "queries_inputs.sql", "queries_live.sql", "queries_webhooks.sql",
    "queries_pages.sql",
)  # fmt: skip
#: All queries by name, as `sqlcipher3` takes them.
SQLITE: Final = load(*SHARED)
#: All queries by name, as `psycopg` takes them, for an operation, which locks what it reads.
POSTGRES: Final = _for_psycopg(lock=" FOR NO KEY UPDATE")
#: The same for those who only read.
POSTGRES_READING: Final = _for_psycopg()


@cache
def setting(sql: str, names: tuple[str, ...]) -> str:
    """The query with `{changes}` as assignments to these columns, in its own way of naming values."""
    form = "{0} = %({0})s" if "%(seq)s" in sql else "{0} = :{0}"
    return sql.replace("{changes}", ", ".join(form.format(name) for name in names) or "seq = seq")


@cache
def positional(sql: str) -> tuple[str, Callable[[Mapping[str, Any]], Sequence[Any]]]:
    """The query with `?` for each `:name`, and what puts the values in their order: bound so, a value costs a third."""
    text, names = re.sub(r"(?<![:\w]):(\w+)", "?", sql), re.findall(r"(?<![:\w]):(\w+)", sql)
    # With one name `itemgetter` gives the value itself, and without one it cannot be made.
    return text, itemgetter(*names) if len(names) > 1 else lambda values: [values[name] for name in names]
