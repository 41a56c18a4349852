"""A TCP proxy within the process that does to connections what networks do: cuts, delays, silence."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Final, Literal, get_args

Fault = Literal["cut", "cut mid-request", "cut before the answer", "delay", "black hole"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)

_CHUNK: Final = 1 << 16


class _Link:
    """One connection through the proxy: both its ends."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._ends = (near, far)
        #: What was sent last is carried out, but its answer never arrives.
        self.mute = False

    def cut(self) -> None:
        """As a machine that is gone: what is on its way is lost."""
        for end in self._ends:
            end.transport.abort()


@contextlib.contextmanager
def _both_ends(link: _Link) -> Iterator[None]:
    """Where one end was reset, the other one is too: nobody waits for an answer that cannot come."""
    try:
        yield
    except OSError:
        link.cut()


class Proxy:
    """Listens on a port of its own, and hands each connection on to one of several targets, by turns.

    An armed fault strikes the next bytes that anybody sends: `cut` the connection, let half of the bytes pass and cut
    it, let all of them pass and cut it as the answer comes, hold them back, or swallow everything for a while and cut.
    """

    def __init__(self, targets: Callable[[], list[int]], random: Random, longest: float) -> None:
        """`targets`: the ports that may be up, asked for each connection. `longest`: seconds of a delay or a silence."""
        self._targets, self._random, self._longest = targets, random, longest
        self._armed: deque[Fault] = deque()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._turn = 0
        #: How often each fault struck.
        self.struck: Counter[Fault] = Counter()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.calm()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def arm(self, fault: Fault) -> None:
        """Let this strike next, unless something else is about to: where nobody sends, they must not pile up."""
        if not self._armed:
            self._armed.append(fault)

    def cut(self) -> None:
        """Cut all connections now."""
        for link in list(self._links):
            link.cut()

    def calm(self) -> None:
        """Let nothing more strike."""
        self._armed.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if found := await self._reach():
                await self._carry(reader, writer, *found)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        ports = self._targets()
        for _ in ports:
            self._turn += 1
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", ports[self._turn % len(ports)])
        return None

    async def _carry(
        self,
        near: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        far: asyncio.StreamReader,
        forth: asyncio.StreamWriter,
    ) -> None:
        link = _Link(back, forth)
        self._links.add(link)
        try:
            await asyncio.gather(self._ask(link, near, forth), self._answer(link, far, back))
        finally:
            self._links.discard(link)
            forth.close()

    async def _ask(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with _both_ends(link):
            while chunk := await reader.read(_CHUNK):
                if self._armed and not link.mute:
                    fault = self._armed.popleft()
                    self.struck[fault] += 1
                    if not await self._strike(fault, link, chunk, writer):
                        return
                    continue
                writer.write(chunk)
                await writer.drain()
            writer.write_eof()

    async def _strike(self, fault: Fault, link: _Link, chunk: bytes, writer: asyncio.StreamWriter) -> bool:
        """Do it; whether the connection goes on."""
        if fault == "delay":
            await asyncio.sleep(self._random.uniform(0, self._longest))
        if fault == "cut mid-request":
            writer.write(chunk[: len(chunk) // 2])
            await writer.drain()
        elif fault == "cut before the answer":
            link.mute = True
        elif fault == "black hole":
            await asyncio.sleep(self._random.uniform(0, self._longest))
        if fault in ("delay", "cut before the answer"):
            writer.write(chunk)
            await writer.drain()
            return True
        link.cut()
        return False

    async def _answer(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with _both_ends(link):
            while chunk := await reader.read(_CHUNK):
                if link.mute:
                    link.cut()
                    return
                writer.write(chunk)
                await writer.drain()
            writer.write_eof()
