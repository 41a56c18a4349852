"""Requests to an application within the test by the way that they would take from a real connection, the short one too."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import httpx

from pithead.http.health import Door


class _Asked:
    """One request on the short way."""

    def __init__(self) -> None:
        self._response: asyncio.Future[httpx.Response] = asyncio.get_running_loop().create_future()
        self._work: asyncio.Task[None] | None = None

    def answer(self, head: bytes, body: bytes) -> None:
        status, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
        headers = [tuple(line.split(b": ", 1)) for line in lines]
        if not self._response.done():
            self._response.set_result(httpx.Response(int(status.split()[1]), headers=headers, content=body))  # type: ignore[arg-type]

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = asyncio.create_task(work)

    async def response(self) -> httpx.Response:
        return await self._response


class Ways(httpx.ASGITransport):
    """What a server does with a request: the short way where it is one for that, else the application."""

    def __init__(self, door: Door, *, short: bool = True, **more: Any) -> None:
        super().__init__(door, **more)
        self._door = door
        self._short = short
        #: How many requests went the short way.
        self.taken = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        short = self._door.short
        if self._short and short is not None and request.method in ("GET", "POST"):
            body = await request.aread()
            headers = [(name.lower(), value) for name, value in request.headers.raw]
            asked = _Asked()
            if short.take(request.method.encode(), request.url.raw_path, headers, body, asked):
                self.taken += 1
                return await asked.response()
        return await super().handle_async_request(request)
