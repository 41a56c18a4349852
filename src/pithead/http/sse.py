"""Server-sent events (the WHATWG's HTML standard, 9.2), as an answer that goes on until there is nothing more to tell.

The format is three kinds of lines. What libraries for it add – tasks that ping, a hook in the server's way to stop – is here
the matter of whoever makes the frames, who has to wait for events, for the time and for the coordinator's end anyway.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from pithead.store.errors import StoreError
from pithead.wire.base import encode

#: Seconds without a word after which a line goes out that says nothing: proxies cut off what is silent for longer.
PING_EVERY: Final = 15.0
#: Seconds in which a reader has to take what it is sent. One that does not is cut off, and can come back.
PATIENCE: Final = 30.0
#: What goes out then. Clients pass over it.
PING: Final = b": still here\n\n"

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # For nginx, which would collect some kilobytes first.
    (b"x-accel-buffering", b"no"),
]


def frame(id: str, event: str, data: msgspec.Struct) -> bytes:
    """One event. JSON has no line breaks of its own."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (id.encode(), event.encode(), encode(data))


class Events:
    """The answer. `frames` may refuse up to its first frame; without any it is a 204, on which browsers do not come back."""

    def __init__(self, frames: AsyncGenerator[bytes]) -> None:
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self._frames) as frames:
            chunk = await anext(frames, None)
            if chunk is None:
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            gone = asyncio.ensure_future(_gone(receive))
            try:
                while chunk is not None:
                    async with asyncio.timeout(PATIENCE):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    chunk = await _next(frames, gone)
                async with asyncio.timeout(PATIENCE):
                    await send({"type": "http.response.body", "body": b""})
            except (TimeoutError, StoreError):
                pass  # It does not read, or the database is away. The server closes what is left unfinished; it can come back.
            finally:
                gone.cancel()


async def _next(frames: AsyncGenerator[bytes], gone: "asyncio.Future[None]") -> bytes | None:
    """The next frame; `None` where there is none, or nobody to read it."""
    following = asyncio.ensure_future(anext(frames, None))
    try:
        either: set[asyncio.Future[Any]] = {following, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return following.result() if following.done() else None
    finally:
        if not following.done():
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
