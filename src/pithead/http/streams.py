"""Answers that are sent while they are made: tables as CSV, and the progress of something long as lines of JSON."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
from starlette.types import Receive, Scope, Send

from pithead.http.decode import header
from pithead.wire import tables
from pithead.wire.base import encode


def accepts(scope: Scope, kind: str) -> bool:
    """Whether the caller's `Accept` names this media type, and not JSON."""
    accept = (header(scope, b"accept") or "").lower()
    return kind in accept and "application/json" not in accept


async def _send(send: Send, kind: bytes, chunks: AsyncIterator[bytes], name: str | None = None) -> None:
    headers = [(b"content-type", kind), (b"cache-control", b"no-store")]
    if name:
        headers.append((b"content-disposition", f'attachment; filename="{name}.csv"'.encode()))
    # What goes wrong before the first line can still become a problem.
    first = await anext(chunks)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class Csv:
    """Rows of one shape as `text/csv`; a first line has the names of its fields, or those given."""

    def __init__(
        self,
        name: str,
        shape: type[msgspec.Struct],
        chunks: AsyncIterator[Sequence[msgspec.Struct]],
        columns: Sequence[str] | None = None,
    ) -> None:
        self._name = name
        self._columns = columns or shape.__struct_fields__
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _send(send, b"text/csv; charset=utf-8", self._encoded(), self._name)

    async def _encoded(self) -> AsyncIterator[bytes]:
        before = tables.head(self._columns)
        async for rows in self._chunks:
            yield (before + tables.lines(rows)).encode()
            before = ""
        if before:
            yield before.encode()


class Told:
    """Something long as `application/x-ndjson`: a line for each step that it tells of, and its outcome as the last line."""

    def __init__(self, work: Callable[[Callable[[msgspec.Struct], None]], Awaitable[msgspec.Struct]]) -> None:
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _send(send, b"application/x-ndjson", self._lines())

    async def _lines(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[msgspec.Struct | None] = asyncio.Queue()

        def tell(step: msgspec.Struct) -> None:
            # Called in the thread that works.
            loop.call_soon_threadsafe(told.put_nowait, step)

        async def work() -> None:
            try:
                told.put_nowait(await self._work(tell))
            finally:
                told.put_nowait(None)

        task = asyncio.create_task(work(), name="told")
        try:
            while (step := await told.get()) is not None:
                yield encode(step) + b"\n"
        finally:
            await task
