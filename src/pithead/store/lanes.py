"""Writing to PostgreSQL: operations that wait are run in one transaction, committed once, durably, and only then answered.

Each lane is a thread with a connection. It takes the operations that have gathered, runs them, writes what they left to be
written together, moves the balances, commits, and hands all the outcomes to the event loop. While one lane waits for its
commit, another runs.

What happens when something goes wrong:

- An operation that raises before it changed anything harms no other. Otherwise the batch is run again with a savepoint for
  each, and it undoes itself.
- One that would have to wait for a row that somebody else holds undoes itself; what was done before it is committed, and it
  is the first of the next batch. Only the first waits, which holds nothing yet. So no two transactions wait for each other.
- If the connection is lost before the commit, nothing happened, and the whole batch is run again.
- If it is lost during the commit, the batch's number tells on a new connection whether it was committed.
- What cannot be done for `PATIENCE` seconds is refused, which over HTTP is a 503.
"""

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import psycopg
from psycopg import errors
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from pithead.core.errors import Fault, Invalid
from pithead.exchange.events import Event
from pithead.exchange.ports import Tx
from pithead.exchange.promises import Promise
from pithead.exchange.tally import BATCHES, COMMITS, Histogram
from pithead.store.clock import DatabaseClock
from pithead.store.errors import OutcomeUnknown, StoreError
from pithead.store.notes import payloads_of
from pithead.store.postgres import PostgresTx, connect, one_line
from pithead.store.queries import POSTGRES as Q
from pithead.store.together import Together, settle

T = TypeVar("T")
Operation = Callable[[Tx], Any]

_log = logging.getLogger("pithead.store")

#: The more savepoints a transaction has, the more each look at its rows costs the others; from 64 on it is much.
MAX_BATCH: Final = 60
#: Seconds for which a change is tried before it is refused.
PATIENCE: Final = 8.0
#: Seconds between two tries to reach the database.
_RETRY_EVERY: Final = 0.2
#: Seconds there and back from which on a database is far. On one machine it is a tenth of that.
_FAR: Final = 0.0003
#: How often an operation is run that finds that somebody else has just stored the same: after the first time it sees it.
_MOST_TRIES: Final = 3
#: For how many batches a lane that met a row which somebody else holds makes savepoints.
_WARY_FOR: Final = 50

#: The first operation of a batch may wait for a row: it holds none that others wait for.
_BEGIN: Final = "BEGIN; SET LOCAL lock_timeout = '1s'"
_HASTY: Final = "SET LOCAL lock_timeout = '20ms'"
#: Balances are locked last and in order, so waiting for them ends.
_LAST: Final = "SET LOCAL lock_timeout = '10s'"

#: Somebody else holds a row.
_HELD: Final = (errors.LockNotAvailable, errors.DeadlockDetected)
#: Somebody else was there first: the operation is run again, on what they left.
_RACED: Final = (errors.SerializationFailure, errors.UniqueViolation)
#: The connection is of no more use: the server cannot be written to for now, and another may be where it was; or what was
#: prepared on it is gone, as a pooler in between may bring about.
_UNFIT: Final = (
    errors.ReadOnlySqlTransaction,
    errors.AdminShutdown,
    errors.CannotConnectNow,
    errors.InvalidSqlStatementName,
)


class _NotSoBoldError(Exception):
    """An operation failed after it had changed something, and has no savepoint."""


class _Waiting:
    """An operation and who waits for its outcome."""

    __slots__ = ("careful", "events", "failure", "operation", "outcome", "promise", "since", "tries")

    def __init__(self, operation: Operation, promise: Promise) -> None:
        self.operation = operation
        self.promise = promise
        self.since = time.monotonic()
        self.tries = 0
        self.careful = False
        self.outcome: Any = None
        self.failure: BaseException | None = None
        self.events: Sequence[Event] = ()


class Lanes:
    """The operations that wait, and the lanes that run them. Make it on the event loop's thread."""

    def __init__(
        self,
        url: str,
        name: str,
        clock: DatabaseClock,
        on_events: Callable[[list[Event]], None],
        on_doubt: Callable[[], None],
        lanes: int,
    ) -> None:
        """`on_events` is told what became durable, `on_doubt` that something may have without a word; on the loop."""
        self.name = name
        self.patience = PATIENCE
        #: Whether the database is so far that writes had better not be waited for one by one; `None`: find out.
        self.far: bool | None = None
        self._loop = asyncio.get_running_loop()
        self._on_events = on_events
        self._on_doubt = on_doubt
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self.stopped = threading.Event()
        self._lanes = [_Lane(self, url, f"{name}-{number}", clock) for number in range(lanes)]
        for lane in self._lanes:
            lane.start()
        self._expiring = self._loop.call_later(1.0, self._expire)
        self.commits = 0
        self.operations = 0
        self.batches = Histogram(BATCHES)
        self.seconds = Histogram(COMMITS)

    def run(self, operation: Callable[[Tx], T]) -> "asyncio.Future[T]":
        """Queue `operation`; the future has its outcome once that is durable. Call from the event loop's thread."""
        future: asyncio.Future[T] = self._loop.create_future()
        self.run_into(operation, future)
        return future

    def run_into(self, operation: Operation, promise: Promise) -> None:
        """Queue `operation`; the promise is given its outcome once that is durable. From the event loop's thread likewise."""
        with self._changed:
            if not self._closing:
                self._queue.append(_Waiting(operation, promise))
                self._changed.notify()
                return
        promise.set_exception(StoreError("the coordinator is stopping"))

    @property
    def waiting(self) -> int:
        """How many operations wait for their turn."""
        return len(self._queue)

    async def close(self) -> None:
        """Finish what is queued, and stop the lanes."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for lane in self._lanes:
            await asyncio.to_thread(lane.join)
        self._expiring.cancel()
        # What the lanes handed to the loop before they ended is answered before whoever closes goes on.
        await asyncio.sleep(0)

    def take(self) -> list[_Waiting]:
        """A batch for a lane; none once there is nothing left to do."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            return [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]

    def postpone(self, batch: Sequence[_Waiting], why: str, *, last: bool = False) -> bool:
        """Nothing came of these: they are run again, before or (`last`) after all others, or refused after too long.

        Whether there are any to run.
        """
        now = time.monotonic()
        given_up = []
        with self._changed:
            for waiting in batch if last else reversed(batch):
                waiting.outcome, waiting.failure, waiting.events = None, None, ()
                if now - waiting.since < self.patience:
                    (self._queue.append if last else self._queue.appendleft)(waiting)
                else:
                    waiting.failure = StoreError(f"the database did not take the change: {why}")
                    given_up.append(waiting)
            self._changed.notify()
            left = bool(self._queue)
        self.answer(given_up)
        return left

    def answer(self, batch: Sequence[_Waiting], *, committed: float | None = None) -> None:
        """Hand outcomes to those who wait; with the seconds that their commit took. From any thread."""
        if batch:
            self._loop.call_soon_threadsafe(self._answer, batch, committed)

    def doubt(self) -> None:
        """Something may have happened that nobody was told of. From any thread."""
        self._loop.call_soon_threadsafe(self._on_doubt)

    def _answer(self, batch: Sequence[_Waiting], committed: float | None) -> None:
        if committed is not None:
            self.commits += 1
            self.operations += len(batch)
            self.batches.add(len(batch))
            self.seconds.add(committed)
            events = [event for waiting in batch for event in waiting.events]
            if events:
                self._on_events(events)
        for waiting in batch:
            promise = waiting.promise
            if promise.done():
                continue
            if waiting.failure is not None:
                promise.set_exception(waiting.failure)
            else:
                promise.set_result(waiting.outcome)

    def _expire(self) -> None:
        """Refuse what no lane has come to: all of them hang on a server that does not answer."""
        self._expiring = self._loop.call_later(1.0, self._expire)
        now, late = time.monotonic(), []
        with self._changed:
            while self._queue and now - self._queue[0].since > self.patience:
                late.append(self._queue.popleft())
        for waiting in late:
            waiting.failure = StoreError("the database does not answer, or not in time")
        self._answer(late, None)


class _Ran(NamedTuple):
    """What became of a batch."""

    done: list[_Waiting]  #: They have an outcome.
    busy: list[_Waiting]  #: To be run next.
    stuck: list[_Waiting]  #: To be run later.


class _Lane(threading.Thread):
    """One connection, and the batches that are run on it."""

    def __init__(self, lanes: Lanes, url: str, name: str, clock: DatabaseClock) -> None:
        super().__init__(name=f"pithead-{name}", daemon=True)
        self._lanes = lanes
        self._url = url
        # Its own for every start: a number left behind by another process must not be taken for one of ours.
        self._id = f"{name}-{secrets.token_hex(8)}"
        self._clock = clock
        self._connection: psycopg.Connection | None = None
        self._batch = 0
        #: About the shortest time that the server took for an answer lately.
        self._way = 1.0
        #: How many batches more are run with savepoints.
        self._wary = 0

    def run(self) -> None:
        while batch := self._lanes.take():
            try:
                self._do(batch)
            except Exception as error:  # A fault of ours: those who wait must hear of it, and the lane must go on.
                _log.exception("a batch of %d operations failed", len(batch))
                self._drop()
                for waiting in batch:
                    waiting.failure = error
                self._lanes.answer(batch)
        self._leave()

    def _do(self, batch: list[_Waiting]) -> None:
        try:
            connection = self._connected()
            ran = self._run_batch(connection, batch)
        except (psycopg.Error, StoreError, _NotSoBoldError) as error:
            # Not committed, so nothing of it happened.
            usable = self._undone(error)
            if not usable:
                self._drop()
            if self._lanes.postpone(batch, _why(error)) and not usable:
                time.sleep(_RETRY_EVERY)
            return
        began = time.monotonic()
        committed = self._commit(connection)
        if committed:
            self._lanes.answer(ran.done, committed=time.monotonic() - began)
        elif committed is False:
            self._lanes.postpone(ran.done, "the commit failed")
        else:
            for waiting in ran.done:
                waiting.failure = OutcomeUnknown(
                    "the database was lost while it took the change: whether it did is not known"
                )
            self._lanes.doubt()
            self._lanes.answer(ran.done)
        others = "others keep changing the same"
        self._lanes.postpone(ran.stuck, others, last=True)
        self._lanes.postpone(ran.busy, others)

    def _run_batch(self, connection: psycopg.Connection, batch: list[_Waiting]) -> _Ran:
        """Run operations up to the commit.

        Without a savepoint for each, as long as that goes well: few operations fail after they have changed something. Where
        one does, or meets a row that somebody else holds, the whole batch is run again, with savepoints.

        With a database on another machine, what an operation writes is sent together with the next that it reads: only
        looks cost the way there and back. That something was wrong with a write may then show late, in another operation;
        so the whole batch is run again `careful`, with an answer awaited for each. With a database that is near it costs
        more than it saves.
        """
        asked_at = time.monotonic()
        connection.execute(_BEGIN, prepare=False)
        clock = connection.execute(Q["clock"]).fetchone()
        assert clock is not None
        answered_at = time.monotonic()
        self._clock.saw(float(clock[0]), asked_at, answered_at)
        self._way = min(answered_at - asked_at, 1.1 * self._way)
        far = self._way > _FAR if self._lanes.far is None else self._lanes.far
        careful = any(waiting.careful for waiting in batch)
        bold = not careful and not self._wary
        self._wary = max(self._wary - 1, 0)
        try:
            with connection.pipeline() if far and not careful else contextlib.nullcontext() as pipeline:
                run = self._run_boldly if bold else self._run_with_savepoints
                return run(connection, batch, pipeline)
        except (psycopg.Error, _NotSoBoldError) as error:
            if isinstance(error, _HELD):
                self._wary = _WARY_FOR
            for waiting in batch:
                waiting.careful = True
            raise

    def _run_boldly(
        self, connection: psycopg.Connection, batch: list[_Waiting], pipeline: psycopg.Pipeline | None
    ) -> _Ran:
        execute = connection.execute
        ran, moved, together = _Ran([], [], []), dict[int, int](), Together(execute)
        for number, waiting in enumerate(batch):
            tx = PostgresTx(execute, moved, pipeline, together)
            try:
                waiting.outcome = waiting.operation(tx)
            except psycopg.Error:
                raise
            except Exception as error:
                if tx.changed:
                    raise _NotSoBoldError from None
                waiting.failure = error
            else:
                _note(waiting, tx, moved)
            ran.done.append(waiting)
            if not number:
                execute(_HASTY, prepare=False)
        execute(_LAST, prepare=False)
        together.write()
        return self._finish(connection, ran, moved, pipeline)

    def _run_with_savepoints(
        self, connection: psycopg.Connection, batch: list[_Waiting], pipeline: psycopg.Pipeline | None
    ) -> _Ran:
        execute = connection.execute
        ran, moved, hasty = _Ran([], [], []), dict[int, int](), False
        for number, waiting in enumerate(batch):
            savepoint = f"operation_{number}"
            execute(f"SAVEPOINT {savepoint}", prepare=False)
            tx = PostgresTx(execute, moved, pipeline)
            try:
                waiting.outcome = waiting.operation(tx)
                tx.write_rows()
            except _HELD:
                # By its own name: if it was an earlier operation's write that met a lock, this savepoint was never made.
                _recover(pipeline)
                _roll_back(connection, savepoint, pipeline)
                if ran.done:
                    # Others wait for what was done: it is committed at once, and the rest comes after it.
                    ran.busy.extend(batch[number:])
                    break
                ran.stuck.append(waiting)
            except psycopg.Error as error:
                if pipeline is not None or connection.closed or isinstance(error, _UNFIT):
                    raise
                _roll_back(connection, savepoint, pipeline)
                waiting.tries += 1
                if isinstance(error, _RACED) and waiting.tries <= _MOST_TRIES:
                    ran.stuck.append(waiting)
                else:
                    waiting.failure = _refusal(error)
                    ran.done.append(waiting)
            except Exception as error:
                _roll_back(connection, savepoint, pipeline)
                waiting.failure = error
                ran.done.append(waiting)
            else:
                _note(waiting, tx, moved)
                ran.done.append(waiting)
            execute(f"RELEASE {savepoint}", prepare=False)
            if ran.done and not hasty:
                execute(_HASTY, prepare=False)
                hasty = True
        execute(_LAST, prepare=False)
        return self._finish(connection, ran, moved, pipeline)

    def _finish(
        self,
        connection: psycopg.Connection,
        ran: _Ran,
        moved: Mapping[int, int],
        pipeline: psycopg.Pipeline | None,
    ) -> _Ran:
        missing = settle(connection.execute, moved)
        events = [event for waiting in ran.done for event in waiting.events]
        payloads = list(payloads_of(self._lanes.name, events))
        connection.execute(Q["end_batch"], {"id": self._id, "batch": self._batch + 1, "payloads": payloads})
        if pipeline is not None:
            pipeline.sync()
        missing()
        return ran

    def _commit(self, connection: psycopg.Connection) -> bool | None:
        """Whether the batch is durable; `None` where that cannot be found out."""
        self._batch += 1
        try:
            return connection.execute("COMMIT", prepare=False).statusmessage == "COMMIT"
        except psycopg.Error as error:
            if self._undone(error):
                return False
        self._drop()
        until = time.monotonic() + self._lanes.patience
        while time.monotonic() < until:
            try:
                # Both wait for a server process that is still at it.
                self._connected().execute(Q["await_writer"], {"id": self._id})
                row = self._connected().execute(Q["last_batch"], {"id": self._id}).fetchone()
            except (psycopg.Error, StoreError):
                self._drop()
                time.sleep(_RETRY_EVERY)
            else:
                return row is not None and row[0] == self._batch
        return None

    def _undone(self, error: BaseException) -> bool:
        """Roll back; whether the connection is good for more."""
        connection = self._connection
        if connection is None or connection.closed or isinstance(error, _UNFIT):
            return False
        return _said(connection, "ROLLBACK").status == ExecStatus.COMMAND_OK

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = connect(self._url, "writer")
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _leave(self) -> None:
        try:
            if self._connection is not None:
                self._connection.execute(Q["remove_writer"], {"id": self._id})
        except psycopg.Error:
            _log.debug("the writer's row stays for others to remove", exc_info=True)
        self._drop()


def _note(waiting: _Waiting, tx: PostgresTx, moved: dict[int, int]) -> None:
    """An operation went well: keep what is to be told of it, and what it moved."""
    waiting.events = tx.events
    for account, amount in tx.moved.items():
        moved[account] = moved.get(account, 0) + amount


def _roll_back(connection: psycopg.Connection, savepoint: str, pipeline: psycopg.Pipeline | None) -> None:
    """Undo what was done since the savepoint.

    In a pipeline psycopg sees it (see `_said`), and must before anything else is prepared, which it would send ahead of the
    order to forget.
    """
    if pipeline is not None:
        connection.execute(f"ROLLBACK TO {savepoint}", prepare=False)
        pipeline.sync()
        return
    result = _said(connection, f"ROLLBACK TO {savepoint}")
    if result.status != ExecStatus.COMMAND_OK:
        raise errors.error_from_result(result)


def _said(connection: psycopg.Connection, command: str) -> PGresult:
    """What the server says to an order to roll back, past psycopg; not in a pipeline.

    Psycopg has the server forget all that is prepared as soon as it sees that something was rolled back, in case tables were
    made in between. Nothing here makes any, so what is prepared stays prepared.
    """
    return connection.pgconn.exec_(command.encode())


def _recover(pipeline: psycopg.Pipeline | None) -> None:
    """Make a pipeline that met an error take statements again."""
    if pipeline is not None:
        with contextlib.suppress(psycopg.Error):
            pipeline.sync()


def _why(error: Exception) -> str:
    """For those who asked: what the server said, but nothing of where it is."""
    return one_line(error) if isinstance(error, psycopg.Error) and error.sqlstate else "it does not answer"


def _refusal(error: psycopg.Error) -> Exception:
    if isinstance(error, psycopg.DataError):
        return Invalid(Fault("", "holds a value that cannot be stored"))
    return StoreError(f"the database did not take the change: {one_line(error)}")
