"""Operations that share one transaction: each undoes itself where it fails, and harms no other.

A savepoint for each costs as much as a statement or two – and one around all of them that the database keeps a copy of every
page – and few fail after they have changed something: a refusal comes before. So they run without, and where one does fail
so late the transaction is begun anew, and the whole batch run again with a savepoint each. An operation may therefore run more
than once, as it may on PostgreSQL: what it changes is the transaction's.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlcipher3 import dbapi2

from pithead.exchange.events import Event
from pithead.exchange.ports import Tx
from pithead.exchange.promises import Promise
from pithead.store.memory import Memory, RememberingTx
from pithead.store.sqlite import executor, executor_of_many


class Item:
    """An operation, and what came of it: an outcome, or why not."""

    __slots__ = ("failure", "operation", "outcome", "promise")

    def __init__(self, operation: Callable[[Tx], Any], promise: Promise | None = None) -> None:
        self.operation = operation
        #: Who waits for it.
        self.promise = promise
        self.outcome: Any = None
        self.failure: BaseException | None = None


class Batches:
    """Runs batches within transactions that are begun and ended elsewhere, on the one connection that writes."""

    def __init__(self, connection: dbapi2.Connection) -> None:
        self._connection = connection
        self._execute, self._execute_many = executor(connection), executor_of_many(connection)
        self.memory = Memory()
        #: Changes with every commit of somebody else.
        self._version = 0

    def run(self, batch: Sequence[Item]) -> list[Event]:
        """Run these operations in the transaction that has just begun; the events of those that succeeded.

        Raises what fails the whole transaction.
        """
        connection, memory = self._connection, self.memory
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            memory.forget()
            self._version = version
        events: list[Event] = []
        for item in batch:
            tx, changes = self._tx(), connection.total_changes
            try:
                item.outcome = item.operation(tx)
                events += tx.events
            except dbapi2.OperationalError:
                # The disk is full, or fails: nothing of the batch will get there, and SQLite may have undone it already.
                raise
            except Exception as error:
                # It may not be to blame for what the database says: it may have written what others left to be written.
                changed = connection.total_changes - changes - tx.caught_up
                if tx.moved or changed or isinstance(error, dbapi2.Error):
                    return self._run_carefully(batch)
                item.failure = error
        try:
            self._tx().write_all()
        except dbapi2.IntegrityError:
            return self._run_carefully(batch)
        return events

    def _tx(self) -> RememberingTx:
        return RememberingTx(self._execute, self._execute_many, self.memory)

    def _run_carefully(self, batch: Sequence[Item]) -> list[Event]:
        connection, memory = self._connection, self.memory
        connection.execute("ROLLBACK")
        memory.forget()
        # Should another process write between the two, everybody is told so, as where a commit fails.
        connection.execute("BEGIN IMMEDIATE")
        events: list[Event] = []
        for item in batch:
            item.failure = None
            connection.execute("SAVEPOINT operation")
            tx = self._tx()
            try:
                item.outcome = item.operation(tx)
                tx.write_all()
                events += tx.events
            except dbapi2.OperationalError:
                raise
            except Exception as error:
                item.failure = error
                memory.forget()
                connection.execute("ROLLBACK TO operation")
            connection.execute("RELEASE operation")
        return events
