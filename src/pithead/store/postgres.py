"""PostgreSQL through `psycopg`: connections, one transaction, and what goes wrong.

docs/locking.md says which locks are taken, in which order, and why.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import Int8Dumper

from pithead.core.jobs import Job
from pithead.core.miners import Miner
from pithead.exchange.events import Event
from pithead.exchange.ports import Task
from pithead.store.errors import StoreError
from pithead.store.queries import POSTGRES
from pithead.store.together import CHANGES, Execute, Together, settle
from pithead.store.tx import SqlTx

T = TypeVar("T")

#: The first half of every advisory lock of ours; the second says what for.
LOCKS: Final = 0x70697468
#: Held by whoever brings the schema up to date.
MIGRATING: Final = 1
#: Held, shared, by every coordinator that is up.
UP: Final = 2
_TASKS: Final[Mapping[Task, int]] = {"upkeep": 3, "operator-key": 4, "payouts": 5, "data-key": 6}

#: How a connection is made unless the setting says otherwise. Seconds (the last one: milliseconds) until a server that
#: has gone without a word is given up.
_DEFAULTS: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}

#: A coordinator that stands still, or whose machine is gone, holds locks no longer than this.
_SESSION: Final = """
    SET idle_in_transaction_session_timeout = '15s';
    SET statement_timeout = '60s';
    SET lock_timeout = '2s';
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""


def conninfo(url: str, purpose: str) -> str:
    """What to connect with for this purpose. Raises `StoreError` where the setting cannot be read."""
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.ProgrammingError:
        # Not with the parser's own words: they quote the part that it stumbled over, which may be the password.
        raise StoreError(
            "the setting database is not of the form postgresql://user:password@host:port/database; correct it"
        ) from None
    return make_conninfo(**{"application_name": f"pithead {purpose}"} | _DEFAULTS | given)


def prepare(connection: psycopg.Connection) -> None:
    """Make a connection fit for our queries."""
    connection.autocommit = True
    # A number is always a BIGINT: by its size, one query would be prepared anew for small and large ones.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.prepare_threshold = 0
    connection.prepared_max = 1000
    connection.execute(_SESSION, prepare=False)


def connect(url: str, purpose: str) -> psycopg.Connection:
    """A connection of its own. Raises `StoreError`, in one line and without the password."""
    info = conninfo(url, purpose)
    try:
        connection = psycopg.connect(info, autocommit=True)
        prepare(connection)
    except psycopg.Error as error:
        raise StoreError(_unusable(info, error)) from error
    return connection


def _unusable(info: str, error: psycopg.Error) -> str:
    """Why there is no connection, and what to do."""
    parts = conninfo_to_dict(info)
    where = f"{parts.get('host') or 'the local socket'}:{parts.get('port') or 5432}"
    said = one_line(error)
    if "password authentication failed" in said or "no password supplied" in said:
        return (
            f"the database at {where} refuses the user {parts.get('user')}: wrong or no password; "
            "set it in the setting database, or in PGPASSWORD or a password file"
        )
    if "does not exist" in said and "database" in said:
        return (
            f"the database at {where} has no database {parts.get('dbname')}; "
            f"create it (createdb {parts.get('dbname')}), or correct the setting database"
        )
    return f"cannot reach the database at {where}: {said}; see that it runs, and correct the setting database if not"


def one_line(error: BaseException) -> str:
    """What the database said, in one line, without libpq's guesses and without what it puts before it."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    said = re.sub(r" (?:Is the server running|This probably means) .*", "", " ".join(str(error).split()))
    if said.startswith("connection"):
        said = said.rpartition(" failed: ")[2]
    return said.removeprefix("FATAL:").strip()


class PostgresTx(SqlTx):
    """An operation's transaction, in a batch of several.

    What other coordinators' operations may change meanwhile is locked as it is read (`{LOCK}` in the queries). Balances
    alone are not: they are moved at the end of the batch, in the order of the accounts, so that the busiest rows are
    locked last and for the shortest time, and no two batches wait for each other.
    """

    def __init__(
        self,
        execute: Execute,
        moved: Mapping[int, int],
        pipeline: psycopg.Pipeline | None = None,
        together: Together | None = None,
    ) -> None:
        """`moved`: what the operations before it in the batch moved. In a `pipeline` only reads are waited for. `together`
        has what those left to be written, and gets what this one leaves; without, that is its own."""
        super().__init__(execute, POSTGRES)
        self._pipeline = pipeline
        self._moved_before = moved
        self._together = Together(execute) if together is None else together
        #: What this operation moved, by account.
        self.moved: dict[int, int] = {}
        #: Whether it changed anything, written or not.
        self.changed = False

    def write_rows(self) -> None:
        """Leave nothing to be written but balances."""
        self._together.write()

    def _one(self, query: str, **values: Any) -> Any:
        self._look(query, values)
        return super()._one(query, **values)

    def _all(self, query: str, **values: Any) -> list[Any]:
        self._look(query, values)
        return super()._all(query, **values)

    def _do(self, query: str, **values: Any) -> int:
        self._look(query, values)
        return super()._do(query, **values)

    def _put(self, query: str, **values: Any) -> None:
        self.changed = True
        if not self._together.take(query, values):
            self._together.before(query, values)
            super()._put(query, **values)

    def _look(self, query: str, values: Mapping[str, Any]) -> None:
        self.changed = self.changed or query in CHANGES
        self._together.before(query, values)

    def save_job(self, before: Job, after: Job) -> bool:
        self.changed = True
        return super().save_job(before, after)

    def miner_by_id(self, miner_id: str) -> Miner | None:
        return self._counted(super().miner_by_id, miner_id)

    def miner_by_seq(self, seq: int) -> Miner | None:
        return self._counted(super().miner_by_seq, seq)

    def _counted(self, read: Callable[[Any], Miner | None], which: str | int) -> Miner | None:
        miner = read(which)
        if miner is not None and self._together.counts(miner.seq):
            self._together.write()
            miner = read(which)
        return miner

    def _count(self, sql: str, values: Mapping[str, Any]) -> int:
        cursor = self._execute(sql, values)
        if self._pipeline is not None:
            self._pipeline.sync()
        return int(cursor.rowcount)

    def move(self, account: int, amount: int) -> None:
        self.changed = True
        self.moved[account] = self.moved.get(account, 0) + amount

    def balance(self, account: int) -> int:
        return super().balance(account) + self._moved_before.get(account, 0) + self.moved.get(account, 0)

    def alone(self, task: Task) -> bool:
        return bool(self._one("alone", locks=LOCKS, task=_TASKS[task])[0])

    def only_one(self) -> bool:
        return bool(self._one("alone", locks=LOCKS, task=UP)[0])

    def prune(self, notices_before: float) -> None:
        super().prune(notices_before)
        self._do("prune_writers")
        self._do("prune_rates")


def write(connection: psycopg.Connection, operation: Callable[[PostgresTx], T]) -> tuple[T, list[Event]]:
    """Run one operation in a transaction of its own: its outcome, and what happened. For tools and tests."""
    with connection.transaction():
        tx = PostgresTx(connection.execute, {})
        outcome = operation(tx)
        tx.write_rows()
        settle(connection.execute, tx.moved)()
    return outcome, tx.events


class IdleStore:
    """A database that no coordinator uses, and that none begins to use before it is closed."""

    def __init__(self, url: str) -> None:
        """Raises `StoreError` where it cannot be reached, or a coordinator uses it."""
        self._connection = connect(url, "offline")
        [(taken,)] = self._connection.execute(POSTGRES["try_lock"], {"locks": LOCKS, "task": UP}).fetchall()
        if not taken:
            self.close()
            raise StoreError("coordinators run on this database; stop all of them first")

    def write(self, operation: Callable[[PostgresTx], T]) -> T:
        """Run an operation in a transaction of its own. Raises `StoreError`."""
        try:
            return write(self._connection, operation)[0]
        except psycopg.Error as error:
            raise StoreError(f"the database did not take the change: {one_line(error)}") from error

    def close(self) -> None:
        """Let coordinators in again."""
        self._connection.close()
