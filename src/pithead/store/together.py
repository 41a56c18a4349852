"""What the operations of a batch on PostgreSQL leave to be written at its end: one statement for all rows of a kind.

A statement is a message to another process and an answer from it, and costs about as much for a hundred rows as for one.
So rows that nobody has to be told of at once – inputs, attempts and their ends, transfers, the counts of miners – are
gathered, and written before the commit, or before anything looks for them. Balances are moved likewise, last of all.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pithead.store.errors import StoreError
from pithead.store.queries import POSTGRES, tables_of

Execute = Callable[[str, Mapping[str, Any]], Any]

#: What is written together, in this order, and by which query: attempts before what is said of their end.
TOGETHER: Final = {
    "add_input": "add_inputs",
    "add_attempt": "add_attempts",
    "settle": "settle_all",
    "add_transfer": "add_transfers",
    "count_ended": "count_all_ended",
}
_WRITTEN: Final = frozenset({"inputs", "attempts", "transfers", "miners"})
#: The tables of these that a query looks at or changes; one that deletes may be about any.
_TABLES: Final = {
    name: _WRITTEN if re.search(r"\bDELETE\b", sql) else tables_of(sql) & _WRITTEN for name, sql in POSTGRES.items()
}
#: Queries about miners that neither read nor write their counts, or that whoever asks them looks after.
_NOT_OF_COUNTS: Final = frozenset({"beat", "heard", "save_miner", "miner_by_id", "miner_by_seq"})
#: Queries that change something.
CHANGES: Final = frozenset(
    name for name, sql in POSTGRES.items() if re.search(r"\b(INSERT|DELETE|(?<!FOR )(?<!KEY )(?<!DO )UPDATE)\b", sql)
)


class Together:
    """The rows that some operations left to be written."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._rows: dict[str, list[Mapping[str, Any]]] = {query: [] for query in TOGETHER}
        #: What these rows are about: the jobs, by table, and the miners.
        self._jobs: dict[str, set[int]] = {"inputs": set(), "attempts": set()}
        self._miners: set[int] = set()

    def take(self, query: str, values: Mapping[str, Any]) -> bool:
        """Whether this is one that can wait; then it is written later."""
        rows = self._rows.get(query)
        if rows is None:
            return False
        rows.append(values)
        if query == "count_ended":
            self._miners.add(values["miner"])
        elif query != "add_transfer":
            self._jobs["inputs" if query == "add_input" else "attempts"].add(values["job"])
        return True

    def before(self, query: str, values: Mapping[str, Any]) -> None:
        """Write what this query would miss."""
        tables = _TABLES[query]
        if not tables or query in _NOT_OF_COUNTS:
            return
        about = values.get("job") if tables <= self._jobs.keys() else None
        if about is None or any(about in self._jobs[table] for table in tables):
            self.write()

    def counts(self, miner: int) -> bool:
        """Whether there are counts of this miner among what is to be written."""
        return miner in self._miners

    def write(self) -> None:
        """Leave nothing to be written."""
        for query, rows in self._rows.items():
            if rows:
                some = _summed(rows) if query == "count_ended" else rows
                self._execute(POSTGRES[TOGETHER[query]], {name: [row[name] for row in some] for name in some[0]})
                rows.clear()
        for jobs in self._jobs.values():
            jobs.clear()
        self._miners.clear()


def _summed(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row for each miner: of several for one row, an UPDATE would take any one."""
    sums: dict[int, dict[str, Any]] = {}
    for row in rows:
        before = sums.get(row["miner"])
        if before is None:
            sums[row["miner"]] = dict(row)
        else:
            for name, value in row.items():
                if name != "miner":
                    before[name] += value
    return [sums[miner] for miner in sorted(sums)]


def settle(execute: Execute, moved: Mapping[int, int]) -> Callable[[], None]:
    """Move balances: the last that a transaction does before it commits. The accounts are locked in their order first.

    To be called once the answers are there: whether all of the accounts are. Raises `StoreError`.
    """
    moves = {account: amount for account, amount in sorted(moved.items()) if amount}
    if not moves:
        return lambda: None
    accounts = list(moves)
    execute(POSTGRES["lock_accounts"], {"accounts": accounts})
    cursor = execute(POSTGRES["move_balances"], {"accounts": accounts, "amounts": list(moves.values())})

    def check() -> None:
        # Instead of a foreign key, which would be looked at for each transfer (see the first migration).
        if missing := sorted(moves.keys() - {account for (account,) in cursor.fetchall()}):
            raise StoreError(f"no such account: {missing}")

    return check
