"""Load in an open loop: requests are due at instants set beforehand, whether or not the ones before were answered.

Latency counts from the instant at which a request was due. In a closed loop a server that stalls is asked nothing
meanwhile, so that its stall shows in one latency; here it shows in all that were due while it lasted.
"""

import asyncio
import heapq
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import msgspec

from bench.load import LoadError, find_answer

_clock: Final = time.perf_counter

#: Given the body of an answer, or `None` for the first: the next request and how many seconds from now it is due.
Plan = Callable[[bytes | None], tuple[float, bytes] | None]


class Tally(msgspec.Struct):
    """What came of it."""

    #: Seconds from the instant at which a request was due to its answer.
    latencies: list[float]
    asked: int = 0
    refused: int = 0
    #: Seconds until latencies counted.
    warmed_up_in: float = 0.0


class _Line(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._buffer = b""
        self.transport: asyncio.Transport
        self.then: Callable[[int, bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        answer = find_answer(data)
        if answer is None:
            self._buffer = data
            return
        self._buffer = b""
        then, self.then = self.then, None
        assert then is not None
        self._pool.free(self)
        then(answer.status, data[answer.body : answer.end])

    def connection_lost(self, exc: Exception | None) -> None:
        if self.then is not None:
            self._pool.failed = LoadError(f"a connection was closed: {exc}")
        self._pool.lost(self)


class Pool:
    """Up to so many connections, taken by whichever request is due next. Servers close those that are idle for long."""

    def __init__(self, port: int, size: int) -> None:
        self._port, self._size = port, size
        self._idle: list[_Line] = []
        self._opened = 0
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[bytes, Callable[[int, bytes], None]]] = deque()
        self.failed: LoadError | None = None
        self._closed = False

    def ask(self, request: bytes, then: Callable[[int, bytes], None]) -> None:
        """Send it on a connection that is idle or new, else on the first that will be free."""
        if self._idle:
            line = self._idle.pop()
            line.then = then
            line.transport.write(request)
            return
        self._waiting.append((request, then))
        if self._opened < self._size:
            self._opened += 1
            task = asyncio.ensure_future(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        try:
            _, line = await asyncio.get_running_loop().create_connection(lambda: _Line(self), "127.0.0.1", self._port)
        except OSError as error:
            self.failed = LoadError(f"cannot connect: {error}")
            return
        self.free(line)

    def free(self, line: _Line) -> None:
        """It has its answer."""
        if self._closed:
            line.transport.close()
        elif self._waiting:
            request, line.then = self._waiting.popleft()
            line.transport.write(request)
        else:
            self._idle.append(line)

    def lost(self, line: _Line) -> None:
        """The server closed it."""
        self._opened -= 1
        if line in self._idle:
            self._idle.remove(line)

    @property
    def behind(self) -> bool:
        """Whether requests that are due wait for a connection."""
        return bool(self._waiting)

    def close(self) -> None:
        """Close what is idle, and the others when they have their answers."""
        self._closed = True
        for line in self._idle:
            line.transport.close()


async def run(port: int, plans: list[tuple[float, Plan]], *, seconds: float, warm_up: float, lines: int) -> Tally:
    """Follow the plans, each from so many seconds after the start on. Raises `LoadError`.

    The warm-up is over when what came late in it has been made up for, at the latest after twice its time: what is measured is
    the load, and not what the first of it left behind.
    """
    pool, tally = Pool(port, lines), Tally([])
    began = _clock()
    counts_from = ends = math.inf if warm_up else began
    ends += seconds
    #: When it is due, a number that makes entries unlike, the request, and its plan.
    due: list[tuple[float, int, bytes, Plan]] = []
    for number, (offset, plan) in enumerate(plans):
        first = plan(None)
        if first is not None:
            due.append((began + offset + first[0], number, first[1], plan))
    heapq.heapify(due)
    number = len(due)

    def send(at: float, request: bytes, plan: Plan) -> None:
        def answered(status: int, body: bytes) -> None:
            nonlocal number
            now = _clock()
            if at >= counts_from:
                tally.latencies.append(now - at)
            if status >= 500:
                pool.failed = LoadError(f"an answer of {status}: {body.decode()}")
            if status >= 400:
                tally.refused += 1
            following = plan(body if status < 400 else b"")
            if following is not None:
                number += 1
                heapq.heappush(due, (now + following[0], number, following[1], plan))

        tally.asked += 1
        pool.ask(request, answered)

    while (now := _clock()) < ends and pool.failed is None:
        while due and due[0][0] <= now:
            at, _, request, plan = heapq.heappop(due)
            send(at, request, plan)
        warmed_for = now - began
        if counts_from > now and warmed_for >= warm_up and (warmed_for >= 2 * warm_up or not pool.behind):
            counts_from, ends, tally.warmed_up_in = now, now + seconds, now - began
        # A millisecond is finer than what is measured, and lets answers be read.
        await asyncio.sleep(0.001 if not due else min(0.001, max(0.0, due[0][0] - now)))
    pool.close()
    if pool.failed is not None:
        raise pool.failed
    return tally
