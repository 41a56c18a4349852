"""Running a program in the sandbox, and ending it.

Guarantees, each with a test that tries to break it (tests/agent/test_escape.py):

- It sees the system's programs, what its owner named, its input and its scratch folder; no other file, process, user,
  terminal or network.
- It has the memory, processes, processors, disk and time that its limits say, all of its processes together.
- When `run` returns or raises, none of its processes are left, and no file of it, whatever it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pithead.agent.sandbox import cgroups, processes, seccomp
from pithead.agent.sandbox.bubblewrap import FILES, INPUT, STDIN, View, arguments, candidates
from pithead.agent.sandbox.descriptors import Pipe, pipe, read_all, readable, ready
from pithead.agent.sandbox.limits import Limits
from pithead.agent.sandbox.shown import shown
from pithead.agent.sandbox.streams import end_of, first_of

#: Why a run was ended from here.
Stopped = Literal["timeout", "out_of_memory", "output"]

#: Seconds in which the kernel must have set up a sandbox, and in which it must have taken one down.
_PATIENCE: Final = 10.0
#: Seconds between two looks at a job's memory.
_LOOK: Final = 0.1
#: Users for jobs where the agent is root: systemd's range for users that come and go.
_USERS: Final = range(61184, 65520)


class Unavailable(Exception):
    """There is no sandbox here. The message says why and what to do; it is for the owner, not for clients."""


@dataclass(frozen=True)
class Outcome:
    """What a program came to."""

    #: Its exit status; 128 and the signal's number where one ended it.
    status: int
    #: What it wrote to standard output, up to the limit.
    output: bytes
    #: The end of what it wrote to standard error.
    complaint: str
    #: Why it was ended, where it did not end by itself.
    stopped: Stopped | None
    seconds: float


class Sandbox:
    """Runs programs. For one event loop, any number at a time."""

    def __init__(self, bwrap: Path | None = None, *, groups: Path | None = cgroups.ROOT) -> None:
        """`bwrap`: which bubblewrap; by default the first that works. `groups`: where control groups are; `None` for none."""
        self._given, self._groups = bwrap, groups
        self._bwrap: Path | None = None
        self._users: set[int] = set()

    async def check(self) -> str:
        """Try it out; what it is made of, in words. Raises `Unavailable`."""
        if self._bwrap is None:
            reasons = []
            for candidate in (self._given,) if self._given else candidates():
                try:
                    await self._try(candidate)
                    self._bwrap = candidate
                    break
                except Unavailable as unavailable:
                    reasons.append(f"{candidate}: {unavailable}")
            else:
                raise Unavailable(
                    "; ".join(reasons) or "bubblewrap is not installed; on Debian: apt install bubblewrap"
                )
            await asyncio.to_thread(processes.end_left)
            if self._groups is not None:
                await asyncio.to_thread(cgroups.remove_left, self._groups)
        group = self._group(Limits())
        if group is not None:
            group.remove()
        counted = "control groups" if group is not None else "limits of each process"
        user = "a user of its own" if os.geteuid() == 0 else "your user, without rights"
        return f"{self._bwrap}, {counted}, {user}"

    async def _try(self, bwrap: Path) -> None:
        outcome = await self._run(bwrap, ["/bin/sh", "-c", "echo it works"], Limits(seconds=_PATIENCE))
        if outcome.output != b"it works\n":
            raise Unavailable(outcome.complaint.strip() or f"it ends with status {outcome.status}")

    async def run(
        self,
        command: Sequence[str],
        limits: Limits,
        *,
        view: View | None = None,
        stdin: bytes = b"",
        files: Mapping[str, bytes | Path] | None = None,
    ) -> Outcome:
        """Run a program to its end, or to that of its limits.

        `files`: by their names in the folder `/input`, to be read only; each is bytes, which are kept in memory, or a
        file on the disk, which is not copied. Raises `Unavailable`, and `OSError` where a file cannot be read. When
        cancelled it ends the program first.
        """
        await self.check()
        assert self._bwrap is not None
        running = asyncio.create_task(
            self._run(self._bwrap, command, limits, view=view, stdin=stdin, files=files), name="sandbox"
        )
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # Cancelled once, however often this is: a second time must not leave anything behind.
            running.cancel()
            while not running.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            raise

    async def _run(
        self,
        bwrap: Path,
        command: Sequence[str],
        limits: Limits,
        *,
        view: View | None = None,
        stdin: bytes = b"",
        files: Mapping[str, bytes | Path] | None = None,
    ) -> Outcome:
        prlimit = shutil.which("prlimit")
        if prlimit is None:
            raise Unavailable("prlimit is not installed; it comes with util-linux")
        view = view or View()
        given = (files or {}).items()
        contents = {**FILES, STDIN: stdin} | {f"{INPUT}/{name}": one for name, one in given if isinstance(one, bytes)}
        on_disk = {name: one for name, one in given if isinstance(one, Path)}
        async with contextlib.AsyncExitStack() as stack:
            user = stack.enter_context(self._user())
            seen = await stack.enter_async_context(shown(on_disk, user))
            group = self._group(limits)
            try:
                data = {path: stack.enter_context(readable(content)).fileno() for path, content in contents.items()}
                try:
                    program = seccomp.program(memory_is_counted=group is not None)
                except seccomp.UnknownMachine as unknown:
                    raise Unavailable(str(unknown)) from None
                filtered = stack.enter_context(readable(program))
                info, gate = pipe(stack), pipe(stack)
                line = arguments(
                    bwrap, Path(prlimit), command, view=view, limits=limits, data=data,
                    files={f"{INPUT}/{name}": path for name, path in seen.items()}, seccomp=filtered.fileno(),
                    info=info.far.fileno(),
                    # What a driver maps of a device is no memory, but is counted as such.
                    address_space=limits.memory if group is None and not view.devices else None,
                )  # fmt: skip
                passed = (*data.values(), filtered.fileno(), info.far.fileno())
                box = _Box(limits, group, info, gate)
                try:
                    return await box.run(line, passed, user)
                finally:
                    await box.end()
            finally:
                if group is not None:
                    await _removed(group)

    def _group(self, limits: Limits) -> cgroups.Group | None:
        return cgroups.create(limits, self._groups) if self._groups is not None else None

    @contextlib.contextmanager
    def _user(self) -> Iterator[int | None]:
        """A user that nobody else is, for as long as a job runs; `None` where the agent is not root and cannot choose."""
        if os.geteuid() != 0:
            yield None
            return
        while (user := secrets.choice(_USERS)) in self._users or _is_known(user):
            pass
        self._users.add(user)
        try:
            yield user
        finally:
            self._users.discard(user)


class _Box:
    """One run."""

    def __init__(self, limits: Limits, group: cgroups.Group | None, info: Pipe, gate: Pipe) -> None:
        self._limits, self._group, self._info, self._gate = limits, group, info, gate
        self._monitor: asyncio.subprocess.Process | None = None
        #: The first process of the sandbox, and a descriptor of it that no other process can come to have.
        self._first: tuple[int, int] | None = None
        self._finding: asyncio.Task[None] | None = None
        self._stopped: Stopped | None = None
        #: What it writes to standard output and to standard error. Both are read to their end in any case: asyncio takes no
        #: process for ended whose pipes are full.
        self._readers: tuple[asyncio.Task[bytes], asyncio.Task[str]]

    async def run(self, line: list[str], passed: tuple[int, ...], user: int | None) -> Outcome:
        began = time.monotonic()
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                processes.name(),
                *line[1:],
                executable=line[0],
                stdin=self._gate.near,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=passed,
                # Its first process can be looked at from inside: nothing of the agent's may be in there.
                env={},
                cwd="/",
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        )
        try:
            await asyncio.shield(starting)
        finally:
            # One that is cancelled while it starts is there all the same.
            self._monitor = await starting
            # What is read from them then ends where bubblewrap, or we, end.
            self._info.far.close()
            self._gate.near.close()
            output, complaint = self._monitor.stdout, self._monitor.stderr
            assert output is not None and complaint is not None
            first = first_of(output, self._limits.output, lambda: self._kill("output"))
            self._readers = asyncio.create_task(first), asyncio.create_task(end_of(complaint))
        await self._set_up()
        await self._lasts(self._monitor)
        data, said = await self._readers[0], await self._readers[1]
        status = await self._monitor.wait()
        # Only what it makes of its own program's name could pass for this.
        if status == 1 and said.startswith("bwrap: "):
            raise Unavailable(said.strip())
        if self._group is not None and self._group.out_of_memory():
            self._kill("out_of_memory")
        return Outcome(status, data, said, self._stopped, time.monotonic() - began)

    async def _set_up(self) -> None:
        """Have the sandbox made, and its first process in the group. What fails, bubblewrap says on standard error."""
        try:
            await asyncio.shield(self._found())
        except TimeoutError:
            raise Unavailable(f"it was not made within {_PATIENCE:g} s") from None
        if self._first is not None and self._group is not None:
            # The first one first: what it starts from then on is in the group, and what it has started is found.
            with contextlib.suppress(ProcessLookupError):
                self._group.take_in(self._first[0])
            for process in await asyncio.to_thread(processes.tree, self._first[0]):
                with contextlib.suppress(ProcessLookupError):
                    self._group.take_in(process)
        # Nothing of the job has run yet: it waits for this line, and if none comes it never will.
        with contextlib.suppress(BrokenPipeError):
            self._gate.far.write(b"go\n")

    def _found(self) -> asyncio.Task[None]:
        """Looks for the first process, once: also when the run is cancelled, since it is what has to be ended."""
        self._finding = self._finding or asyncio.create_task(self._find())
        return self._finding

    async def _find(self) -> None:
        async with asyncio.timeout(_PATIENCE):
            said = await read_all(self._info.near)
        if said:
            first = int(json.loads(said)["child-pid"])
            with contextlib.suppress(ProcessLookupError):
                self._first = first, os.pidfd_open(first)

    async def _lasts(self, monitor: asyncio.subprocess.Process) -> None:
        """Until it ends, or its limits do it. It may have closed its output, and go on."""
        watch = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(self._limits.seconds):
                await monitor.wait()
        except TimeoutError:
            self._kill("timeout")
            await monitor.wait()
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        """End all of a job that is out of memory; the kernel may have picked one of its processes only."""
        while True:
            if await self._is_out_of_memory():
                break
            await asyncio.sleep(_LOOK)
        self._kill("out_of_memory")

    async def _is_out_of_memory(self) -> bool:
        if self._group is not None:
            return self._group.out_of_memory()
        # Do as a group would, where there is none.
        return (
            self._first is not None and await asyncio.to_thread(processes.memory, self._first[0]) > self._limits.memory
        )

    def _kill(self, why: Stopped | None = None) -> None:
        """With its first process all of a sandbox ends."""
        self._stopped = self._stopped or why
        with contextlib.suppress(ProcessLookupError):
            if self._first is not None:
                signal.pidfd_send_signal(self._first[1], signal.SIGKILL)
            elif self._monitor is not None and self._monitor.returncode is None:
                self._monitor.kill()

    async def end(self) -> None:
        """Kill it, and wait for its end."""
        if self._monitor is None:
            return
        with contextlib.suppress(TimeoutError):
            await self._found()
        self._kill()
        await self._monitor.wait()
        await asyncio.wait(self._readers)
        if self._first is not None:
            (_, descriptor), self._first = self._first, None
            try:
                async with asyncio.timeout(_PATIENCE):
                    await ready(descriptor)
            finally:
                os.close(descriptor)


async def _removed(group: cgroups.Group) -> None:
    """Remove the group. The last of its processes may be on its way out."""
    for _ in range(round(_PATIENCE / 0.02)):
        try:
            group.remove()
            return
        except FileNotFoundError:
            return
        except OSError:
            await asyncio.sleep(0.02)


def _is_known(user: int) -> bool:
    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True
