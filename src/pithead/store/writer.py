"""The writer: operations that wait are run in one transaction, committed once, durably, and only then answered.

Operations run on the event loop's own thread: they are short, await nothing, and two threads that hand Python's lock back
and forth cost more than the operations do. The commit, which waits for the disk, runs in a thread and holds no lock
meanwhile. While it is on its way, requests are read and operations gather, so a batch grows with the load and is one
operation when there is none (`store.batches`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sqlcipher3 import dbapi2

from pithead.exchange.events import Event
from pithead.exchange.ports import Tx
from pithead.exchange.promises import Promise
from pithead.exchange.tally import BATCHES, COMMITS, Histogram
from pithead.store.batches import Batches, Item
from pithead.store.errors import StoreError

T = TypeVar("T")
Operation = Callable[[Tx], Any]

#: Bounds how long the first of a batch waits for the last, and for how long requests are not read.
MAX_BATCH: Final = 256
#: Seconds between two tries where somebody else – a backup, a shell – writes to the database, and how long it is tried.
_RETRY_EVERY: Final = 0.005
_GIVE_UP_AFTER: Final = 10.0
#: Seconds that a commit takes from which on it is done in a thread. Handing over and back costs about as much as this.
_WORTH_A_THREAD: Final = 0.002
#: So many more slow commits than quick ones, and the disk counts as slow; then one in so many is still timed here.
_SLOW_FROM: Final = 8
_PROBE_EVERY: Final = 50


class Writer:
    """Runs operations on one connection, in durable batches. Lives on one event loop."""

    def __init__(self, connection: dbapi2.Connection, on_events: Callable[[list[Event]], None]) -> None:
        self._connection = connection
        # Waiting for somebody else's transaction is done on the event loop (`_turn`), not by SQLite, which would block it.
        connection.execute("PRAGMA busy_timeout = 0")
        self._on_events = on_events
        self._batches = Batches(connection)
        self._queue: deque[Item] = deque()
        self._loop = asyncio.get_running_loop()
        self._disk = ThreadPoolExecutor(1, "pithead-commit")
        #: Whether a turn is scheduled or a commit is on its way.
        self._busy = False
        #: Goes up with each commit that was slow, and down with each that was not.
        self._slow_commits = 0
        self._closing = False
        self._idle: asyncio.Future[None] | None = None
        self.commits = 0
        self.operations = 0
        #: Of the commits: how many operations each had, and the seconds from the last one's end to the disk's word.
        self.batches = Histogram(BATCHES)
        self.seconds = Histogram(COMMITS)
        self._ran_at = 0.0

    def run(self, operation: Callable[[Tx], T]) -> "asyncio.Future[T]":
        """Queue `operation`; the future has its outcome once that is durable. Call from the event loop's thread."""
        future: asyncio.Future[T] = self._loop.create_future()
        self.run_into(operation, future)
        return future

    def run_into(self, operation: Operation, promise: Promise) -> None:
        """Queue `operation`; the promise is given its outcome once that is durable."""
        if self._closing:
            promise.set_exception(StoreError("the coordinator is stopping"))
            return
        self._queue.append(Item(operation, promise))
        if not self._busy:
            self._busy = True
            # Not at once: whatever else arrived in this turn of the loop shares the commit.
            self._loop.call_soon(self._turn, self._loop.time() + _GIVE_UP_AFTER)

    async def close(self) -> None:
        """Finish what is queued."""
        self._closing = True
        if self._busy:
            self._idle = self._loop.create_future()
            await self._idle
        self._disk.shutdown()

    def _turn(self, give_up_at: float) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except dbapi2.OperationalError as error:
            if "locked" in str(error) and self._loop.time() < give_up_at:
                self._loop.call_later(_RETRY_EVERY, self._turn, give_up_at)
                return
            batch, events = self._taken(), list[Event]()
            self._finish(batch, events, error)
            return
        batch = self._taken()
        try:
            events = self._batches.run(batch)
        except dbapi2.Error as error:
            self._finish(batch, [], error)
            return
        began = self._ran_at = time.perf_counter()
        if self._slow_commits >= _SLOW_FROM and self.commits % _PROBE_EVERY:
            commit = self._loop.run_in_executor(self._disk, self._connection.execute, "COMMIT")
            commit.add_done_callback(lambda done: self._finish(batch, events, done.exception()))
            return
        failure: BaseException | None = None
        try:
            self._connection.execute("COMMIT")
        except dbapi2.Error as error:
            failure = error
        slow = time.perf_counter() - began > _WORTH_A_THREAD
        self._slow_commits = min(self._slow_commits + 1, 2 * _SLOW_FROM) if slow else max(self._slow_commits - 1, 0)
        self._finish(batch, events, failure)

    def _taken(self) -> list[Item]:
        queue = self._queue
        return [queue.popleft() for _ in range(min(len(queue), MAX_BATCH))]

    @property
    def waiting(self) -> int:
        """How many operations wait for their turn."""
        return len(self._queue)

    def _finish(self, batch: list[Item], events: list[Event], error: BaseException | None) -> None:
        """Answer a batch: all of it is durable, or with `error` nothing of it happened."""
        try:
            if error is None:
                self.commits += 1
                self.operations += len(batch)
                self.batches.add(len(batch))
                self.seconds.add(time.perf_counter() - self._ran_at)
                if events:
                    self._on_events(events)
            else:
                # The disk is full, the database is gone: everybody is told so.
                self._batches.memory.forget()
                for waiting in batch:
                    waiting.failure = StoreError(f"the database did not take the change: {error}")
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        finally:
            # Whatever else went wrong, which the event loop logs: nobody waits for ever, and the next batch has its turn.
            self._answer(batch)

    def _answer(self, batch: list[Item]) -> None:
        for waiting in batch:
            promise = waiting.promise
            if promise is None or promise.done():
                continue
            if waiting.failure is not None:
                promise.set_exception(waiting.failure)
            else:
                promise.set_result(waiting.outcome)
        if self._queue:
            self._loop.call_soon(self._turn, self._loop.time() + _GIVE_UP_AFTER)
        else:
            self._busy = False
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)
