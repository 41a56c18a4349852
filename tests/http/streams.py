"""Reading server-sent events of an application within the test: as they come, and only while the test reads them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message
from tests.http.exchange import Party, World


class Event(NamedTuple):
    """One event."""

    id: str
    kind: str
    data: dict[str, Any]


class Stream:
    """A call that goes on. The application can send no more than `room` pieces that nobody has read."""

    def __init__(self, app: ASGIApp, path: str, query: str, headers: dict[str, str], room: int) -> None:
        self._sent: asyncio.Queue[Message] = asyncio.Queue(room)
        self._hung_up = asyncio.Event()
        self._asked = False
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1), "server": ("pithead", 80), "state": {},
        }  # fmt: skip
        self.task: asyncio.Task[None] = asyncio.create_task(app(scope, self._receive, self._sent.put))  # type: ignore[arg-type]
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pings = 0
        self._text = ""
        self._events: list[Event] = []

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._hung_up.wait()
        return {"type": "http.disconnect"}

    async def opened(self) -> "Stream":
        """Once it is answered."""
        start = await self._message()
        self.status = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return self

    async def _message(self) -> Message:
        getting = asyncio.ensure_future(self._sent.get())
        await asyncio.wait({getting, self.task}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        if not getting.done():
            getting.cancel()
            assert self.task.done(), "nothing comes"
            self.task.result()
            return {"type": "end"}
        return getting.result()

    async def next(self) -> Event | None:
        """The next event; `None` at the end of the stream."""
        while not self._events:
            message = await self._message()
            if message["type"] == "end" or not message.get("more_body", False):
                return None
            self._text += message["body"].decode()
            *whole, self._text = self._text.split("\n\n")
            self._events += [event for event in map(self._read, whole) if event is not None]
        return self._events.pop(0)

    def _read(self, text: str) -> Event | None:
        if text.startswith(":"):
            self.pings += 1
            return None
        fields = dict(line.split(": ", 1) for line in text.splitlines())
        return Event(fields["id"], fields["event"], json.loads(fields["data"]))

    async def until(self, kind: str, **said: Any) -> Event:
        """The next event of this kind whose data say so."""
        while (event := await self.next()) is not None:
            if event.kind == kind and event.data.items() >= said.items():
                return event
        raise AssertionError(f"the stream ended without {kind} {said}")

    async def rest(self) -> list[Event]:
        """All that is left of it."""
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found


@contextlib.asynccontextmanager
async def watching(
    world: World, party: Party, path: str, *, after: str | None = None, query: str = "", room: int = 1000
) -> AsyncIterator[Stream]:
    """The stream at this path; at the end of the block the reader hangs up, and the call must end."""
    headers = {"Authorization": f"Bearer {party.key}"} | ({} if after is None else {"Last-Event-ID": after})
    stream = Stream(world.application.asgi, path, query, headers, room)
    try:
        yield await stream.opened()
    finally:
        stream._hung_up.set()
        while not stream.task.done():
            with contextlib.suppress(asyncio.QueueEmpty):
                stream._sent.get_nowait()
            await asyncio.sleep(0)
        stream.task.result()
