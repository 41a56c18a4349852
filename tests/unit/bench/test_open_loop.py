"""The open loop: what is due is sent whether or not the one before was answered, and latency counts from when it was due."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from bench.load import LoadError
from bench.open_loop import Plan, run

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Answers after so many seconds, at the beginning of a run not at all."""

    def __init__(self, stalls_for: float = 0.0, answer: bytes = OK) -> None:
        self.opens_at = time.perf_counter() + stalls_for
        self.answer, self.asked = answer, 0
        self.lines: set[asyncio.Task[None] | None] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines.add(asyncio.current_task())
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                await asyncio.sleep(max(0.0, self.opens_at - time.perf_counter()))
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def port(self) -> AsyncIterator[int]:
        """Serve until the end of the block, and until everybody has hung up."""
        server = await asyncio.start_server(self, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]
            await asyncio.gather(*(line for line in self.lines if line is not None))


def every(seconds: float) -> Plan:
    return lambda answer: (0.0 if answer is None else seconds, b"GET / HTTP/1.1\r\n\r\n")


async def test_a_stall_shows_in_all_that_was_due_meanwhile() -> None:
    handler = Server(stalls_for=0.3)
    async with handler.port() as port:
        plans = [(number * 0.01, every(10)) for number in range(20)]
        tally = await run(port, plans, seconds=0.6, warm_up=0.0, lines=2)
    assert handler.asked == tally.asked == len(tally.latencies) == 20
    # The last one was due after 0.19 s and waited for the stall to end like the first.
    assert min(tally.latencies) >= 0.1
    assert max(tally.latencies) >= 0.29


async def test_what_the_warm_up_left_behind_does_not_count() -> None:
    handler = Server(stalls_for=0.3)
    async with handler.port() as port:
        plans = [(number * 0.02, every(0.1)) for number in range(10)]
        tally = await run(port, plans, seconds=0.3, warm_up=0.2, lines=2)
    # What was late was made up for once the stall was over.
    assert tally.warmed_up_in >= 0.29
    assert 0 < len(tally.latencies) < tally.asked
    assert max(tally.latencies) < 0.29


async def test_a_warm_up_ends_after_twice_its_time_at_the_latest() -> None:
    handler = Server(stalls_for=0.5)
    async with handler.port() as port:
        plans = [(number * 0.02, every(0.1)) for number in range(10)]
        tally = await run(port, plans, seconds=0.1, warm_up=0.1, lines=2)
    assert 0.2 <= tally.warmed_up_in < 0.5


async def test_what_comes_after_is_due_so_long_after_the_answer() -> None:
    handler = Server()
    async with handler.port() as port:
        tally = await run(port, [(0.0, every(0.05))], seconds=0.5, warm_up=0.0, lines=1)
    assert 3 <= len(tally.latencies) <= 10


async def test_a_server_error_ends_the_run() -> None:
    answer = b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno"
    async with Server(answer=answer).port() as port:
        with pytest.raises(LoadError, match="an answer of 503: no"):
            await run(port, [(0.0, every(0.05))], seconds=5.0, warm_up=0.0, lines=1)
