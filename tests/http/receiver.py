"""Somebody who is told: an HTTP server on the loopback that answers as the test says, and checks what it is sent."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import time_machine
from standardwebhooks import Webhook


class Told(NamedTuple):
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def says(self, secret: str) -> Any:
        """What it says, verified by the library that receivers use, at the time that it names."""
        with time_machine.travel(float(self.headers["webhook-timestamp"]), tick=False):
            return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """What it got, and what it answers: the statuses in turn, and then 204."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: list[Told] = []
        self.answers: deque[bytes] = deque()
        #: Set once there is a message.
        self.arrived = asyncio.Event()
        #: How many connections were made.
        self.connections = 0

    def answer(self, *statuses: int, more: bytes = b"") -> None:
        self.answers.extend(b"HTTP/1.1 %d X\r\n%s" % (status, more) for status in statuses)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            assert lines[0].startswith("POST /hook HTTP/1.1")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            self.told.append(Told(headers, body))
            self.arrived.set()
            answer = self.answers.popleft() if self.answers else b"HTTP/1.1 204 X\r\n"
            if answer:
                writer.write(answer + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver, until the end of the block."""
    receiver = Receiver("")
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield receiver
