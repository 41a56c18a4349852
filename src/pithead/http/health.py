"""The door in front of the application: shut while it starts and stops, and what load balancers ask it.

`GET /healthz`: the process is up. `GET /readyz`: it can be sent requests; else 503, with the reason. Neither needs a key,
and neither counts against a limit.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pithead.http.middleware import Problems, RequestId
from pithead.http.problems import HttpProblem
from pithead.http.short import ShortWay

_log = logging.getLogger("pithead.http")

#: Seconds in which the database must answer.
PROMPT: Final = 2.0
#: The paths that are answered here.
PATHS: Final = frozenset({"/healthz", "/readyz"})

_CLOSE: Final = (b"connection", b"close")


class Door:
    """An ASGI application that lets requests through to another one, once that is there."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None
        self._probe: Callable[[], Awaitable[object]] | None = None
        self._probing: asyncio.Task[str] | None = None
        self._own: Final[ASGIApp] = RequestId(Problems(self._answer))
        #: Whether it is about to stop: what is asked is still done, and connections end with their answer.
        self.draining = False
        #: The short way for some requests, while there is one.
        self.short: ShortWay | None = None

    def open(self, app: ASGIApp, probe: Callable[[], Awaitable[object]], short: ShortWay | None = None) -> None:
        """From now on requests go to `app`. `probe` asks the database something, and raises if it does not answer."""
        self._app, self._probe = app, probe
        if not self.draining:
            self.short = short

    def drain(self) -> None:
        """From now on it is not ready; what comes all the same is served as before."""
        self.draining, self.short = True, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None or scope["path"] in PATHS:
            await self._own(scope, receive, send)
        elif self.draining:
            await self._app(scope, receive, _closing(send))
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["path"] if scope["method"] in ("GET", "HEAD") else ""
        if asked != "/healthz" and (reason := await self._reason(asked)):
            raise HttpProblem(503, "not-ready", "Not ready", reason, headers={"Retry-After": "1"})
        if not asked:
            raise HttpProblem(405, "method-not-allowed", "Method Not Allowed", "ask with GET", headers={"Allow": "GET"})
        body = b'{"status":"ok"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send(
            {"type": "http.response.start", "status": 200, "headers": [*headers, (b"cache-control", b"no-store")]}
        )
        await send({"type": "http.response.body", "body": body})

    async def _reason(self, asked: str) -> str:
        """Why it is not ready; nothing where it is."""
        if self._probe is None:
            return "the coordinator is starting"
        if not asked:
            return ""
        if self.draining:
            return "the coordinator is stopping"
        # One question at a time, however many ask: a database that hangs must not gather them.
        probing = self._probing
        if probing is None or probing.done():
            probing = self._probing = asyncio.ensure_future(_ask(self._probe))
        await asyncio.wait([probing], timeout=PROMPT)
        return probing.result() if probing.done() else f"the database does not answer within {PROMPT:g} s"


async def _ask(probe: Callable[[], Awaitable[object]]) -> str:
    try:
        await probe()
    except Exception as error:
        _log.warning("the database does not answer: %s", error)
        return "the database does not answer"
    return ""


def _closing(send: Send) -> Send:
    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), _CLOSE]
        await send(message)

    return closing
