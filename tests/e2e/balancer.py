"""A load balancer in front of coordinators: it asks them whether they are ready, and repeats nothing."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import httpx
import uvicorn

#: Seconds between two questions whether a coordinator is ready.
EVERY: Final = 0.1
_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "host"}


class Balancer:
    """An ASGI application that passes each request on to a coordinator that is ready, and keeps connections to them."""

    def __init__(self, backends: Sequence[str]) -> None:
        self._backends = list(backends)
        self._turns = itertools.count()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=60)
        self._http = httpx.AsyncClient(timeout=60, limits=limits)
        self.ready: set[str] = set()
        #: How many requests each had.
        self.passed = dict.fromkeys(backends, 0)
        self.failures: list[str] = []
        self._looked = asyncio.Condition()

    async def look(self) -> None:
        """Ask all of them again and again."""
        while True:
            for backend in self._backends:
                if await self._is_ready(backend):
                    self.ready.add(backend)
                else:
                    self.ready.discard(backend)
            async with self._looked:
                self._looked.notify_all()
            await asyncio.sleep(EVERY)

    async def _is_ready(self, backend: str) -> bool:
        try:
            # On a connection of its own, as balancers do.
            async with httpx.AsyncClient(timeout=5) as http:
                return (await http.get(f"{backend}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def sees(self, *backends: str) -> None:
        """Wait until just these are ready."""
        async with self._looked:
            await self._looked.wait_for(lambda: self.ready == set(backends))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        ready = sorted(self.ready)
        if not ready:
            return await self._fail(send, "none is ready")
        backend = ready[next(self._turns) % len(ready)]
        self.passed[backend] += 1
        url = backend + scope["path"] + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        headers = [(name, value) for name, value in scope["headers"] if name.decode() not in _HOP]
        try:
            answer = await self._http.request(scope["method"], url, content=body, headers=headers)
        except httpx.TransportError as error:
            return await self._fail(send, f"{scope['method']} {url}: {error!r}")
        kept = [(name.lower(), value) for name, value in answer.headers.raw if name.lower().decode() not in _HOP]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
        await send({"type": "http.response.body", "body": answer.content})
        return None

    async def _fail(self, send: Any, why: str) -> None:
        self.failures.append(why)
        await send({"type": "http.response.start", "status": 502, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its address, until the end of the block."""
        config = uvicorn.Config(self, port=0, log_config=None, lifespan="off", timeout_keep_alive=60)
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        ticking = asyncio.create_task(server.main_loop())
        looking = asyncio.create_task(self.look())
        try:
            port = server.servers[0].sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await ticking
            await server.shutdown()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await self._http.aclose()
