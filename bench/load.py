"""The load generator: keep-alive connections in a closed loop, each following a script.

It has to cost much less than what it measures, so requests are bytes made beforehand and of an answer only the status, the
length and the body are looked at. A script is a generator that yields `(step, request)` and is sent the body of the answer;
each step has its own latencies.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Generator, Sequence
from typing import Final, cast

import msgspec

#: What a connection does: yields a step's number and a request, is sent the body of its answer.
Script = Generator[tuple[int, bytes], bytes, None]

_LENGTH: Final = b"\r\ncontent-length:"
_clock = time.perf_counter


class LoadError(Exception):
    """A server answered in a way that makes its figures worthless."""


class Answer(msgspec.Struct, frozen=True):
    """Where a whole answer lies in a buffer that begins with it."""

    status: int
    body: int  #: Where its body begins,
    end: int  #: and ends.


def find_answer(data: bytes) -> Answer | None:
    """The answer at the start of `data`, once all of it is there. Raises `LoadError` without a Content-Length."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return None
    at = data.find(_LENGTH, 0, head)
    if at < 0:
        at = data[:head].lower().find(_LENGTH)
        if at < 0:
            raise LoadError("an answer without a Content-Length")
    line_end = data.find(b"\r\n", at + len(_LENGTH))
    end = head + 4 + int(data[at + len(_LENGTH) : line_end])
    return Answer(int(data[9:12]), head + 4, end) if len(data) >= end else None


class Recorder:
    """Latencies in seconds by step, from `begin` on."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.latencies: list[list[float]] = []
        self.began = self.last = 0.0
        self.begin()

    def begin(self) -> None:
        """Forget what was recorded: the warm-up is over."""
        self.latencies = [[] for _ in range(self._steps)]
        self.began = self.last = _clock()

    def add(self, step: int, sent: float, now: float) -> None:
        """An answer arrived."""
        self.latencies[step].append(now - sent)
        self.last = now


class Connection(asyncio.Protocol):
    """One connection that follows a script: the next request goes out when the answer to the one before is in."""

    def __init__(self, script: Script, recorder: Recorder) -> None:
        self._script = script
        self._recorder = recorder
        self._buffer = b""
        self._step = 0
        self._sent = 0.0
        self._transport: asyncio.Transport
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, which says it is a base transport.

    def start(self) -> None:
        """Send the first request."""
        self._next(None)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        try:
            answer = find_answer(data)
            if answer is None:
                self._buffer = data
                return
            self._buffer = b""
            if answer.status >= 300:
                raise LoadError(f"an answer of {answer.status}: {data[answer.body : answer.end].decode()}")
            if len(data) != answer.end:
                raise LoadError("more than one answer to one request")
        except LoadError as error:
            self._finish(error)
            return
        self._recorder.add(self._step, self._sent, _clock())
        self._next(data[answer.body : answer.end])

    def _next(self, body: bytes | None) -> None:
        try:
            # A generator that has not begun takes nothing but None.
            self._step, request = self._script.send(body)  # type: ignore[arg-type]
        except StopIteration:
            self._finish(None)
            return
        self._sent = _clock()
        self._transport.write(request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._finish(LoadError(f"the connection was closed: {exc}"))

    def abort(self) -> None:
        """Close it, whatever it waits for."""
        if not self.done.done():
            self.done.set_result(None)
        self._transport.abort()

    def _finish(self, error: LoadError | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        self._transport.close()


class Window(msgspec.Struct, frozen=True):
    """What was measured: seconds, and the latencies in seconds by step."""

    seconds: float
    latencies: list[list[float]]
    #: The longest wait of all, in seconds, those included that were answered only after the window.
    worst: float

    @property
    def requests(self) -> int:
        """How many were answered."""
        return sum(map(len, self.latencies))

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


class Stop:
    """Tells the scripts to end, each where its work is whole."""

    def __init__(self) -> None:
        self.set = False


async def follow(ports: Sequence[int], scripts: Sequence[Script]) -> None:
    """Run scripts to their end, with no measuring: preparation."""
    await drive(ports, scripts, 1, Stop(), warm_up=0.0, seconds=float("inf"))


async def drive(
    ports: Sequence[int],
    scripts: Sequence[Script],
    steps: int,
    stop: Stop,
    *,
    warm_up: float,
    seconds: float,
    mark: Callable[[], None] = lambda: None,
) -> Window:
    """Run the scripts, a connection each, to the ports in turn; measure for `seconds` after `warm_up`, or until they end by themselves.

    `mark` is called where the measured time begins and where it ends. Raises `LoadError`.
    """
    loop = asyncio.get_running_loop()
    recorder = Recorder(steps)
    connections: list[Connection] = []
    for number, script in enumerate(scripts):
        port = ports[number % len(ports)]
        _, connection = await loop.create_connection(lambda s=script: Connection(s, recorder), "127.0.0.1", port)  # type: ignore[misc]
        connections.append(connection)
    gc.collect()
    gc.disable()  # A pause of the generator's own would be read as the server's.
    try:
        for connection in connections:
            connection.start()
        everybody = asyncio.gather(*(connection.done for connection in connections))
        await _wait(everybody, warm_up)
        recorder.begin()
        mark()
        began = recorder.began
        await _wait(everybody, seconds)
        mark()
        # A server that stalled at the end had the whole window; only where the scripts ran dry it is shorter.
        ended = recorder.last if everybody.done() else _clock()
        within = recorder.latencies
        recorder.begin()
        stop.set = True
        await asyncio.wait_for(everybody, 60)
    finally:
        gc.enable()
    worst = max((max(step) for step in (*within, *recorder.latencies) if step), default=0.0)
    return Window(ended - began, within, worst)


async def _wait(everybody: "asyncio.Future[list[None]]", seconds: float) -> None:
    await asyncio.wait([everybody], timeout=None if seconds == float("inf") else seconds)
    if everybody.done():
        everybody.result()
