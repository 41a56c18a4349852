"""The two loops that do I/O: send, ask `core` what to do about the outcome, sleep or stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx
from httpx_sse import EventSource, SSEError

from pithead import __version__, tracing
from pithead.client import core
from pithead.client.core import Call, Outcome, Reply
from pithead.client.environment import checked_key, checked_url
from pithead.client.errors import BadAnswer
from pithead.client.follow import ENDED, SILENCE, Follow, StreamEvent

T = TypeVar("T")
D = TypeVar("D")

_CHUNK: Final = 1 << 20


def _headers(key: str | None) -> dict[str, str]:
    headers = {"User-Agent": f"pithead/{__version__}", "Accept": "application/json, application/problem+json, */*"}
    if key is not None:
        headers["Authorization"] = f"Bearer {checked_key(key)}"
    return headers


def _request(call: Call[Any], timeout: float) -> dict[str, Any]:
    """What both kinds of httpx client are asked for."""
    headers = dict(call.headers) | tracing.carried()
    if call.sink is not None:
        headers |= call.sink.headers()
    if isinstance(call.body, Path):
        headers["Content-Length"] = str(call.body.stat().st_size - call.offset)
    limits = httpx.Timeout(timeout, read=timeout + call.hold)
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.query) or None,
        "headers": headers,
        "timeout": limits,
    }


def _reply(response: httpx.Response, body: bytes) -> Reply:
    return Reply(response.status_code, response.headers, body, str(response.request.url.copy_with(query=None)))


class SyncDriver:
    """Sends calls over an `httpx.Client`. Safe to share between threads."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = checked_url(url)
        self._http = httpx.Client(base_url=self._url, headers=_headers(key), transport=transport)
        self._timeout, self._retry_for, self._sleep, self._clock = timeout, retry_for, sleep, clock

    def _run(self, call: Call[T]) -> T:
        began, attempt = self._clock(), 0
        while True:
            outcome = self._attempt(call)
            elapsed = self._clock() - began
            pause = core.pause(
                call, outcome, attempt=attempt, elapsed=elapsed, retry_for=self._retry_for, draw=core.draw
            )
            if pause is None:
                return core.conclude(call, outcome, self._url)
            self._sleep(pause)
            attempt += 1

    def _attempt(self, call: Call[Any]) -> Outcome:
        if call.resume is not None:
            call = core.resumed(call, self._attempt(call.resume))
        content = _file(call.body, call) if isinstance(call.body, Path) else _rest(call)
        try:
            with self._http.stream(content=content, **_request(call, self._timeout)) as response:
                if call.sink is None or not response.is_success:
                    return _reply(response, response.read())
                call.sink.begin(response.status_code)
                for chunk in response.iter_bytes(_CHUNK):
                    call.sink.write(chunk)
                return _reply(response, b"")
        except httpx.RequestError as error:
            return error

    def _follow(self, follow: Follow[D]) -> Iterator[StreamEvent[D]]:
        began, attempt = self._clock(), 0
        while not follow.over:
            try:
                with self._http.stream(**_stream(follow, self._timeout)) as response:
                    outcome: Outcome = ENDED
                    if response.status_code == 204:
                        return
                    if not response.is_success:
                        outcome = _reply(response, response.read())
                    else:
                        for said in EventSource(response).iter_sse():
                            event = follow.take(said)
                            if event is not None:
                                yield event
                            began, attempt = self._clock(), 0
            except SSEError as error:
                raise BadAnswer(url=self._url, why=str(error)) from error
            except httpx.RequestError as error:
                outcome = error
            if not follow.over:
                self._sleep(_again(self, follow, outcome, self._clock() - began, attempt))
                attempt += 1

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncDriver:
    """Sends calls over an `httpx.AsyncClient`, in one event loop."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = checked_url(url)
        self._http = httpx.AsyncClient(base_url=self._url, headers=_headers(key), transport=transport)
        self._timeout, self._retry_for, self._sleep, self._clock = timeout, retry_for, sleep, clock

    async def _run(self, call: Call[T]) -> T:
        began, attempt = self._clock(), 0
        while True:
            outcome = await self._attempt(call)
            elapsed = self._clock() - began
            pause = core.pause(
                call, outcome, attempt=attempt, elapsed=elapsed, retry_for=self._retry_for, draw=core.draw
            )
            if pause is None:
                return core.conclude(call, outcome, self._url)
            await self._sleep(pause)
            attempt += 1

    async def _attempt(self, call: Call[Any]) -> Outcome:
        if call.resume is not None:
            call = core.resumed(call, await self._attempt(call.resume))
        content = _file_async(call.body, call) if isinstance(call.body, Path) else _rest(call)
        try:
            async with self._http.stream(content=content, **_request(call, self._timeout)) as response:
                if call.sink is None or not response.is_success:
                    return _reply(response, await response.aread())
                call.sink.begin(response.status_code)
                async for chunk in response.aiter_bytes(_CHUNK):
                    await asyncio.to_thread(call.sink.write, chunk)
                return _reply(response, b"")
        except httpx.RequestError as error:
            return error

    async def _follow(self, follow: Follow[D]) -> AsyncIterator[StreamEvent[D]]:
        began, attempt = self._clock(), 0
        while not follow.over:
            try:
                async with self._http.stream(**_stream(follow, self._timeout)) as response:
                    outcome: Outcome = ENDED
                    if response.status_code == 204:
                        return
                    if not response.is_success:
                        outcome = _reply(response, await response.aread())
                    else:
                        async for said in EventSource(response).aiter_sse():
                            event = follow.take(said)
                            if event is not None:
                                yield event
                            began, attempt = self._clock(), 0
            except SSEError as error:
                raise BadAnswer(url=self._url, why=str(error)) from error
            except httpx.RequestError as error:
                outcome = error
            if not follow.over:
                await self._sleep(_again(self, follow, outcome, self._clock() - began, attempt))
                attempt += 1

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()


def _stream(follow: Follow[Any], timeout: float) -> dict[str, Any]:
    """What both kinds of httpx client are asked for."""
    headers = {"Accept": "text/event-stream, application/problem+json", **follow.headers()}
    limits = httpx.Timeout(timeout, read=SILENCE)
    return {"method": follow.call.method, "url": follow.call.path, "headers": headers, "timeout": limits}


def _again(
    driver: SyncDriver | AsyncDriver, follow: Follow[Any], outcome: Outcome, elapsed: float, attempt: int
) -> float:
    """Seconds until a stream that broke off is asked for again. Raises what it came to, where that is no use."""
    pause = core.pause(
        follow.call, outcome, attempt=attempt, elapsed=elapsed, retry_for=driver._retry_for, draw=core.draw
    )
    if pause is None:
        core.conclude(follow.call, outcome, driver._url)
        raise BadAnswer(url=driver._url, why="it answers otherwise than with events")
    return pause


def _rest(call: Call[Any]) -> bytes | None:
    return call.body[call.offset :] if isinstance(call.body, bytes) else None


def _file(path: Path, call: Call[Any]) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(call.offset)
        while chunk := file.read(_CHUNK):
            yield chunk
            if call.sent is not None:
                call.sent(file.tell())


async def _file_async(path: Path, call: Call[Any]) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        file.seek(call.offset)
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
            if call.sent is not None:
                call.sent(file.tell())
    finally:
        file.close()
