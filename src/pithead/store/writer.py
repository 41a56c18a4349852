"""The writer: operations that wait are run in one transaction, committed once, durably, and only then answered.

One thread owns the writing connection. It takes what has gathered while the last commit was on its way to the disk (so the
batch grows with the load and is one operation when there is none), runs each in a savepoint – one that fails undoes itself
and harms no other – commits, and hands all the outcomes to the event loop at once.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlcipher3 import dbapi2

from pithead.exchange.events import Event
from pithead.exchange.ports import Tx
from pithead.store.errors import StoreError
from pithead.store.sqlite import SqliteTx

T = TypeVar("T")
Operation = Callable[[Tx], Any]

#: Bounds how long the first of a batch waits for the last.
MAX_BATCH: Final = 256


class _Waiting:
    """An operation and who waits for its outcome."""

    __slots__ = ("events", "failure", "future", "operation", "outcome")

    def __init__(self, operation: Operation, future: "asyncio.Future[Any]") -> None:
        self.operation = operation
        self.future = future
        self.outcome: Any = None
        self.failure: BaseException | None = None
        self.events: list[Event] = []


class Writer:
    """Runs operations on one connection, in durable batches."""

    def __init__(self, connection: dbapi2.Connection, on_events: Callable[[list[Event]], None]) -> None:
        self._connection = connection
        self._on_events = on_events
        self._queue: deque[_Waiting] = deque()
        self._wake = threading.Semaphore(0)
        self._idle = True
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="pithead-writer", daemon=True)
        self.commits = 0
        self.operations = 0
        self._thread.start()

    def run(self, operation: Callable[[Tx], T]) -> "asyncio.Future[T]":
        """Queue `operation`; the future has its outcome once that is durable. Call from the event loop's thread."""
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closing:
            future.set_exception(StoreError("the coordinator is stopping"))
            return future
        self._queue.append(_Waiting(operation, future))
        if self._idle:
            self._idle = False
            self._wake.release()
        return future

    def close(self) -> None:
        """Finish what is queued and stop the thread."""
        self._closing = True
        self._wake.release()
        self._thread.join()

    def _work(self) -> None:
        while True:
            self._wake.acquire()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
                self._run_batch(batch)
                self._loop.call_soon_threadsafe(self._answer, batch)
            # Set before the last look: an operation appended in between either is seen here or releases the semaphore.
            self._idle = True
            if self._queue:
                self._idle = False
                self._wake.release()
            elif self._closing:
                return

    def _run_batch(self, batch: list[_Waiting]) -> None:
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            for waiting in batch:
                execute("SAVEPOINT operation")
                tx = SqliteTx(self._connection)
                try:
                    waiting.outcome = waiting.operation(tx)
                    waiting.events = tx.events
                except Exception as error:
                    waiting.failure = error
                    execute("ROLLBACK TO operation")
                execute("RELEASE operation")
            execute("COMMIT")
            self.commits += 1
            self.operations += len(batch)
        except dbapi2.Error as error:
            # The disk is full, the database is gone: nothing of this batch happened, and everybody is told so.
            if self._connection.in_transaction:
                execute("ROLLBACK")
            for waiting in batch:
                waiting.failure = StoreError(f"the database did not take the change: {error}")
                waiting.events = []

    def _answer(self, batch: list[_Waiting]) -> None:
        events = [event for waiting in batch for event in waiting.events]
        if events:
            self._on_events(events)
        for waiting in batch:
            if waiting.future.cancelled():
                continue
            if waiting.failure is not None:
                waiting.future.set_exception(waiting.failure)
            else:
                waiting.future.set_result(waiting.outcome)
