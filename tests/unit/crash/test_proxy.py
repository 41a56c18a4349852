"""What the crash campaign does to connections is what it says."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from random import Random

import pytest
from tests.crash.proxy import FAULTS, Fault, Proxy

REQUEST = b"do it, and say so"


class Target:
    """Answers what it is asked with the same words, and keeps them."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1024):
                self.heard += chunk
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.ended.set()


@pytest.fixture
async def target() -> AsyncIterator[tuple[Target, Proxy]]:
    target = Target()
    server = await asyncio.start_server(target.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Proxy(lambda: [1, port], Random(1), 0.01) as proxy:
        yield target, proxy
    server.close()


async def answer(proxy: Proxy) -> bytes:
    """What comes back on one request: nothing, once the connection is cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(REQUEST)
        return await asyncio.wait_for(reader.read(1024), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_without_a_fault_everything_passes(target: tuple[Target, Proxy]) -> None:
    """The first target refuses the connection; the next one is taken."""
    heard, proxy = target
    assert await answer(proxy) == REQUEST
    assert heard.heard == REQUEST


#: What is heard of a request at the other end, and what comes back.
STRUCK: dict[Fault, tuple[bytes, bytes]] = {
    "cut": (b"", b""),
    "cut mid-request": (REQUEST[: len(REQUEST) // 2], b""),
    "cut before the answer": (REQUEST, b""),
    "delay": (REQUEST, REQUEST),
    "black hole": (b"", b""),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_strikes_once(target: tuple[Target, Proxy], fault: Fault) -> None:
    heard, answered = STRUCK[fault]
    there, proxy = target
    proxy.arm(fault)
    assert await answer(proxy) == answered
    await asyncio.wait_for(there.ended.wait(), 10)
    assert there.heard == heard
    assert proxy.struck == {fault: 1}
    assert await answer(proxy) == REQUEST


async def test_a_reset_at_one_end_is_one_at_the_other() -> None:
    """Else somebody would wait for ever for an answer that cannot come."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with Proxy(lambda: [server.sockets[0].getsockname()[1]], Random(1), 0.01) as proxy:
        assert await answer(proxy) == b""
    server.close()
