"""What is killed in a campaign, and what starts it again: coordinators, miners, PostgreSQL."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

import psycopg
from tests.e2e.processes import PITHEAD, clean
from tests.postgres import Server

#: Seconds until a process that ended is started again.
_REST: Final = 0.1


def free_port() -> int:
    """A port that nobody listens on, and none that the system gives to outgoing connections.

    One of those can be taken while its owner is down; whoever keeps trying to reach it may even reach itself.
    """
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", secrets.randbelow(20_000) + 10_000))
            return int(probe.getsockname()[1])


class Service:
    """A process that is started again whenever it ends, as a supervisor does, until it is told to end for good."""

    def __init__(
        self, command: Sequence[str], log: Path, given: bytes = b"", settings: Mapping[str, str] | None = None
    ) -> None:
        """`given`: its standard input. `settings`: its environment, beside the usual one."""
        self._command, self._log, self._given, self._settings = command, log, given, settings or {}
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False
        self._task: asyncio.Task[int] | None = None
        #: How often it ended without having been killed.
        self.gave_up = 0

    def start(self) -> None:
        """Start it, and keep it running."""
        self._task = asyncio.create_task(self._keep())

    async def _keep(self) -> int:
        while True:
            with self._log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env=clean(**self._settings),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                )
            self._process = process
            assert process.stdin is not None
            process.stdin.write(self._given)
            process.stdin.close()
            code = await process.wait()
            if self._ending:
                return code
            self.gave_up += code != -signal.SIGKILL
            await asyncio.sleep(_REST)

    def kill(self) -> bool:
        """SIGKILL it, whatever it is doing, its start included; whether it was there."""
        if self._process is None or self._process.returncode is not None:
            return False
        self._process.kill()
        return True

    async def end(self, how: signal.Signals, patience: float = 30.0) -> int:
        """Let it end in order: its exit code."""
        assert self._task is not None
        self._ending = True
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(how)
        try:
            return await asyncio.wait_for(asyncio.shield(self._task), patience)
        except TimeoutError:
            self.kill()
            await self._task
            return -signal.SIGKILL

    async def abandon(self) -> None:
        """Kill it for good."""
        self._ending = True
        self.kill()
        if self._task is not None:
            await self._task


def coordinator(folder: Path, port: int, settings: Mapping[str, str]) -> Service:
    """A coordinator with a folder of its own."""
    command = [*PITHEAD, "serve", "--port", str(port), "--data", str(folder)]
    return Service(command, folder.with_suffix(".log"), settings=settings)


def miner(folder: Path, name: str, machine: bytes) -> Service:
    """A process with simulated miners."""
    return Service([sys.executable, "-m", "tests.crash.miner"], folder / f"{name}.log", machine)


async def answers(port: int, patience: float = 40.0) -> None:
    """Wait until somebody listens there."""
    for _ in range(int(patience / 0.1)):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise TimeoutError(f"nobody listens on port {port}")


class Postgres:
    """A PostgreSQL server of which everything can be killed."""

    def __init__(self, server: Server, random: Random) -> None:
        self.server, self._random = server, random

    async def kill_backend(self) -> bool:
        """SIGKILL a process that serves a coordinator: PostgreSQL then ends all the others, and recovers. Whether there was one."""
        return await asyncio.to_thread(self._kill_backend)

    def _kill_backend(self) -> bool:
        try:
            with self.server.connect("postgres") as connection:
                rows = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pithead%' ORDER BY pid"
                ).fetchall()
        except psycopg.OperationalError:
            return False
        if not rows:
            return False
        try:
            os.kill(self._random.choice(rows)[0], signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    async def kill(self) -> None:
        """SIGKILL the postmaster, and start it again once all its processes are gone."""
        await asyncio.to_thread(self.server.stop, signal.SIGKILL)
        await asyncio.to_thread(self.server.start_again)
