"""Processes that hold a model for a runner: what is said to them and heard from them, and which are kept warm.

They speak in frames over their standard input and output, four bytes of length, big endian, then JSON (`channel` is their
side of it). To stop a run its process is killed: nothing of it goes on, and no later run sees what it left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pithead.agent.runners.base import RunFailed

#: The most that a child may say at once, in bytes.
_LONGEST_FRAME: Final = 64 << 20


class Child:
    """A process that has a model loaded, or is about to."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @staticmethod
    async def spawn(module: str, folder: Path, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        """Start `python -m module`, which ends with this process."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=folder,
            env=_environment() | dict(environment),
            # Ctrl-C on a terminal goes to the agent alone.
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def end(self) -> None:
        """Kill it. Its end is waited for: its memory is free again when this returns."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _say(self, frame: dict[str, Any]) -> None:
        data = json.dumps(frame).encode()
        assert self._process.stdin is not None
        # A process that is gone is noticed by what it does not answer.
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(struct.pack(">I", len(data)) + data)
            await self._process.stdin.drain()

    async def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            size = struct.unpack(">I", await self._process.stdout.readexactly(4))[0]
            if size > _LONGEST_FRAME:
                raise RunFailed("error", "the model's answer is too long")
            frame: dict[str, Any] = json.loads(await self._process.stdout.readexactly(size))
            return frame
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self._process.wait()
            if code == -signal.SIGKILL:
                # Nobody but the kernel kills it while it is waited for.
                raise RunFailed("out_of_memory", "the model's process was killed; it may need more memory") from None
            raise RunFailed("error", f"the model's process ended with {code}") from None


C = TypeVar("C", bound=Child)


class Warm(Generic[C]):
    """Processes that wait for the next run, no more in all than there may be runs at a time."""

    def __init__(self) -> None:
        #: One for each run, the idle ones of other models included.
        self.most = 1
        #: The one idle for the longest first.
        self.idle: list[C] = []
        self._busy = 0

    @contextlib.asynccontextmanager
    async def borrowed(self, fits: Callable[[C], bool], start: Callable[[], Awaitable[C]]) -> AsyncIterator[C]:
        """One that fits, or a new one. It comes back warm only if the run ended as it should."""
        self._busy += 1
        child = None
        try:
            child = next((one for one in reversed(self.idle) if one.alive and fits(one)), None)
            if child is not None:
                self.idle.remove(child)
            # Also where one was found: there may be fewer at a time now than when they were started.
            while self.idle and len(self.idle) + self._busy > self.most:
                await self.idle.pop(0).end()
            if child is None:
                child = await start()
            yield child
        except RunFailed as failed:
            # An input that the model refuses says nothing against the process.
            if child is not None and failed.kind == "bad_input" and child.alive:
                self.idle.append(child)
                child = None
            raise
        else:
            self.idle.append(child)
            child = None
        finally:
            self._busy -= 1
            if child is not None:
                # Shielded: a second cancellation must not leave the process behind.
                await asyncio.shield(child.end())

    async def close(self) -> None:
        """End them."""
        while self.idle:
            await self.idle.pop().end()


def _environment() -> dict[str, str]:
    # Keys and addresses are not the child's business.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PITHEAD_")}
    # OpenMP's threads spin while they wait. Where more of them run than there are cores – two agents, or an owner at work –
    # they then wait for each other a hundred times as long as they work.
    return {"OMP_WAIT_POLICY": "passive"} | ours
