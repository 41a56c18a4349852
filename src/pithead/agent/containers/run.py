"""A container from its beginning to its end.

Guarantees, each with a test that tries to break it (tests/agent/test_container_escape.py):

- It sees its image, its input and its scratch folders; it is nobody, has no rights, and has a network only if it is given one.
- It has the memory, processes, processors, scratch space and time that its limits say.
- When `run` returns or raises, the container is removed with all that it wrote. What an agent that was killed has left is
  removed by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pithead.agent import leftovers
from pithead.agent.containers.engine import Engine, Spec, Unavailable, environment
from pithead.agent.sandbox import Limits, Outcome
from pithead.agent.sandbox.box import Stopped
from pithead.agent.sandbox.streams import end_of, first_of

log = logging.getLogger(__name__)

#: Seconds that the engine may take for anything but the run itself.
_PATIENCE: Final = 60.0
_NAME: Final = re.compile(r"pithead-job-(\d+)-(\d+)-\w+")
#: Seconds by which two looks at when a process was begun may differ.
_SAME: Final = 2
#: How programs end that are killed: 128 and SIGKILL.
_KILLED: Final = 137


class NoImage(Exception):
    """The image is not on this machine."""


class Containers:
    """Runs containers. For one event loop, any number at a time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def check(self) -> str:
        """Ask the engine whether it works, and remove what earlier agents left; its name. Raises `Unavailable`."""
        status, said, complaint = await self._call(self.engine.ours())
        if status:
            raise Unavailable(f"{self.engine.program} does not work: {complaint.strip() or f'status {status}'}")
        left = [name for name in said.split() if _is_left(name)]
        for name in left:
            await self._call(self.engine.remove(name))
        if left:
            log.info("removed %d containers of an earlier run", len(left))
        return str(self.engine.program)

    async def volumes_of(self, image: str) -> list[str]:
        """The folders that the image would have on the disk. Raises `NoImage`."""
        status, said, complaint = await self._call(self.engine.volumes_of(image))
        if status:
            raise NoImage(complaint.strip())
        return sorted(json.loads(said) or ())

    async def run(self, spec: Spec, limits: Limits, *, stdin: bytes = b"", contents: Mapping[str, bytes]) -> Outcome:
        """Run an image to its end, or to that of its limits. `contents`: files beside those of the spec, as bytes.

        Raises `Unavailable` and `NoImage`. When cancelled it ends the container first.
        """
        running = asyncio.create_task(self._run(spec, limits, stdin, contents), name="container")
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # Cancelled once, however often this is: a second time must not leave anything behind.
            running.cancel()
            while not running.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            raise

    async def _run(self, spec: Spec, limits: Limits, stdin: bytes, contents: Mapping[str, bytes]) -> Outcome:
        spec = replace(spec, volumes=await self.volumes_of(spec.image))
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as kept:
            # Nobody else goes through the folder itself; the engine shows the job single files of it.
            folder = Path(kept)
            await asyncio.to_thread(_write, folder, {**contents, ".stdin": stdin})
            shown = {name: folder / name for name in contents}
            spec = replace(spec, files={**spec.files, **shown})
            name = f"pithead-job-{os.getpid()}-{_begun(os.getpid()) or 0}-{secrets.token_hex(6)}"
            creating = asyncio.create_task(self._call(self.engine.create(name, spec, limits)))
            try:
                status, _, complaint = await asyncio.shield(creating)
                if status:
                    raise Unavailable(f"the container cannot be made: {complaint.strip()}")
                return await _Run(self, name, limits).to_its_end(folder / ".stdin")
            finally:
                # One that is cancelled while it is made is there all the same.
                await asyncio.wait([creating])
                status, _, complaint = await self._call(self.engine.remove(name))
                if status and "no such container" not in complaint.lower():
                    log.error("container %s is not removed: %s", name, complaint.strip())

    async def _call(self, line: Sequence[str]) -> tuple[int, str, str]:
        """Have the engine do something: the status, what it says, and what it complains of. Raises `Unavailable`."""
        process = await self.begin(line, stdin=asyncio.subprocess.DEVNULL)
        try:
            async with asyncio.timeout(_PATIENCE):
                said, complaint = await process.communicate()
        except TimeoutError:
            raise Unavailable(f"{self.engine.program} gives no answer to {line[0]}") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, said.decode(errors="replace"), complaint.decode(errors="replace")

    async def begin(self, line: Sequence[str], *, stdin: Any, folder: Path | None = None) -> asyncio.subprocess.Process:
        """Start the engine's program, in that folder: Podman's monitor leaves a file where it was started. Raises
        `Unavailable`.
        """
        try:
            return await asyncio.create_subprocess_exec(
                str(self.engine.program),
                *line,
                stdin=stdin,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(),
                cwd=folder or Path("/"),
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(f"{self.engine.program} cannot be started: {error}") from None

    async def ask(self, line: Sequence[str]) -> str:
        """What the engine says; empty where it fails."""
        status, said, _ = await self._call(line)
        return "" if status else said


class _Run:
    """A container that was made."""

    def __init__(self, containers: Containers, name: str, limits: Limits) -> None:
        self._containers, self._name, self._limits = containers, name, limits
        self._stopped: Stopped | None = None
        self._too_much = asyncio.Event()

    async def to_its_end(self, stdin: Path) -> Outcome:
        began, engine = time.monotonic(), self._containers.engine
        with stdin.open("rb") as given:
            process = await self._containers.begin(engine.start(self._name), stdin=given, folder=stdin.parent)
        assert process.stdout is not None and process.stderr is not None
        output = asyncio.create_task(first_of(process.stdout, self._limits.output, self._too_much.set))
        complaint = asyncio.create_task(end_of(process.stderr))
        ended = asyncio.create_task(process.wait())
        over = asyncio.create_task(self._too_much.wait())
        try:
            done, _ = await asyncio.wait(
                [ended, over], timeout=self._limits.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if ended not in done:
                await self._kill("output" if over in done else "timeout")
                async with asyncio.timeout(_PATIENCE):
                    await ended
            seconds = time.monotonic() - began
            status = await self._status(await ended, complaint)
            return Outcome(status, await output, await complaint, self._stopped, seconds)
        except TimeoutError:
            raise Unavailable(f"{engine.program} does not end a container that it was to kill") from None
        finally:
            over.cancel()
            if process.returncode is None:
                # First the container, and with that who looks on ends by itself. Were that one killed while it begins the
                # container, Podman's monitor would wait for it, and be left behind.
                await self._containers.ask(engine.remove(self._name))
                await asyncio.wait([ended], timeout=_PATIENCE)
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.wait([ended, output, complaint])

    async def _status(self, said: int, complaint: asyncio.Task[str]) -> int:
        """How the container ended. Raises `Unavailable` where it was never begun."""
        state = json.loads(await self._containers.ask(self._containers.engine.state(self._name)) or "{}")
        status = int(state.get("ExitCode", said))
        if state.get("Status") in (None, "created", "initialized", "configured"):
            why = (await complaint).strip()
            # A runtime's word for a program that it cannot start in a container that it could make.
            if {said, status} & {126, 127} or 'exec: "' in why:
                return 127
            raise Unavailable(f"the container was not begun: {why}")
        # Where a group of the kernel's has no memory left the kernel kills, and not every engine is told.
        if self._stopped is None and (state.get("OOMKilled") or status == _KILLED):
            self._stopped = "out_of_memory"
        return status

    async def _kill(self, why: Stopped) -> None:
        self._stopped = why
        await self._containers.ask(self._containers.engine.kill(self._name))


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o444)


def _is_left(name: str) -> bool:
    """Whether a container is one of an agent that is no more."""
    found = _NAME.fullmatch(name)
    if found is None:
        return False
    begun = _begun(int(found[1]))
    return begun is None or abs(begun - int(found[2])) > _SAME


def _begun(pid: int) -> int | None:
    """When that process was begun, in seconds of the epoch; `None` where there is none."""
    import psutil

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
