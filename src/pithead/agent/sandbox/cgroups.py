"""Control groups: limits that the kernel keeps for all processes of a job together. Version 2 and version 1.

A group is made below the agent's own, where the agent may: as root, or in a service with `Delegate=yes`. Elsewhere there
is none, and the sandbox limits each process instead and watches their sum.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pithead.agent.sandbox.limits import Limits

#: Where systems mount them.
ROOT: Final = Path("/sys/fs/cgroup")
#: Microseconds over which processor time is shared out.
_PERIOD: Final = 100_000
_PREFIX: Final = "pithead-job-"
_ASIDE: Final = "pithead-agent"


class Group(Protocol):
    """The group of one job. Implemented for each version."""

    def limit(self, limits: Limits) -> None:
        """Set the limits. Raises `OSError`."""

    def take_in(self, process: int) -> None:
        """Put a process into it, and with it all that it will start. Raises `OSError`."""

    def out_of_memory(self) -> bool:
        """Whether the kernel killed something in it for its memory."""

    def remove(self) -> None:
        """Take it away; its processes must have ended. Raises `OSError`."""


@dataclass(frozen=True)
class Unified:
    """Version 2: one folder."""

    folder: Path

    def limit(self, limits: Limits) -> None:
        """Implements `Group`."""
        _write(self.folder / "memory.max", limits.memory)
        # Swap would only make the same memory slower.
        with contextlib.suppress(FileNotFoundError):
            _write(self.folder / "memory.swap.max", 0)
        # All of the job, not its largest process alone: half a job is no use to anybody.
        with contextlib.suppress(FileNotFoundError):
            _write(self.folder / "memory.oom.group", 1)
        _write(self.folder / "pids.max", limits.processes)
        with contextlib.suppress(FileNotFoundError):
            _write(self.folder / "cpu.max", f"{round(limits.cpus * _PERIOD)} {_PERIOD}")

    def take_in(self, process: int) -> None:
        """Implements `Group`."""
        _write(self.folder / "cgroup.procs", process)

    def out_of_memory(self) -> bool:
        """Implements `Group`."""
        return _count(self.folder / "memory.events", "oom_kill") > 0

    def remove(self) -> None:
        """Implements `Group`."""
        self.folder.rmdir()


@dataclass(frozen=True)
class Separate:
    """Version 1: a folder for each controller."""

    memory: Path
    pids: Path
    cpu: Path | None

    def limit(self, limits: Limits) -> None:
        """Implements `Group`."""
        _write(self.memory / "memory.limit_in_bytes", limits.memory)
        # Memory and swap together. It is there only where swap is counted.
        with contextlib.suppress(FileNotFoundError):
            _write(self.memory / "memory.memsw.limit_in_bytes", limits.memory)
        _write(self.pids / "pids.max", limits.processes)
        if self.cpu is not None:
            _write(self.cpu / "cpu.cfs_period_us", _PERIOD)
            _write(self.cpu / "cpu.cfs_quota_us", round(limits.cpus * _PERIOD))

    def take_in(self, process: int) -> None:
        """Implements `Group`."""
        for folder in self._folders():
            _write(folder / "cgroup.procs", process)

    def out_of_memory(self) -> bool:
        """Implements `Group`."""
        return _count(self.memory / "memory.oom_control", "oom_kill") > 0

    def remove(self) -> None:
        """Implements `Group`."""
        for folder in self._folders():
            # Asked again, since one of the others was in use.
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()

    def _folders(self) -> Iterator[Path]:
        yield from (self.memory, self.pids)
        if self.cpu is not None:
            yield self.cpu


def create(limits: Limits, root: Path = ROOT, process: str = "self") -> Group | None:
    """A new group with these limits, for memory and processes at the least; `None` where there can be none."""
    # With the agent's number, so that another agent's start does not take a group that has no process yet for one left.
    name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    made: list[Path] = []

    def make(folder: Path) -> Path:
        (folder / name).mkdir()
        made.append(folder / name)
        return folder / name

    try:
        paths = _own(Path(f"/proc/{process}/cgroup"))
        group: Group
        if (root / "cgroup.controllers").exists():
            parent = _at(root, paths.get("", "/"))
            # Where an earlier job had the agent move aside.
            parent = parent.parent if parent.name == _ASIDE else parent
            _enable(parent)
            group = Unified(make(parent))
        else:
            memory, pids = (make(_at(root / one, paths.get(one, "/"))) for one in ("memory", "pids"))
            cpu = root / "cpu"
            group = Separate(memory, pids, make(_at(cpu, paths.get("cpu", "/"))) if cpu.is_dir() else None)
        group.limit(limits)
        return group
    except OSError:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        return None


def remove_left(root: Path = ROOT) -> None:
    """Remove empty groups of an agent that was killed. Those of agents that live stay, and those that are in use."""
    for folder in (root, *(root / one for one in ("memory", "pids", "cpu"))):
        for left in folder.rglob(f"{_PREFIX}*") if folder.is_dir() else ():
            agent = left.name.removeprefix(_PREFIX).partition("-")[0]
            if Path(f"/proc/{agent}").exists():
                continue
            with contextlib.suppress(OSError):
                left.rmdir()


def _own(file: Path) -> dict[str, str]:
    """The group that this process is in, by controller; by nothing for version 2. Lines are `4:memory:/path`."""
    paths: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _at(root: Path, path: str) -> Path:
    # In a container the path may be the host's, and what is mounted begins further down.
    folder = root / path.lstrip("/")
    return folder if folder.is_dir() else root


def _enable(parent: Path) -> None:
    """Have groups below `parent` count memory and processes. Raises `OSError`."""
    control = parent / "cgroup.subtree_control"
    if {"memory", "pids"} <= set(control.read_text(encoding="utf-8").split()):
        return
    # A group with processes of its own can have none that count below it. Where the agent is alone in its group, as a
    # service is, it moves aside; a terminal's group has other processes, and is not ours to rearrange.
    processes = (parent / "cgroup.procs").read_text(encoding="utf-8").split()
    if processes == [str(os.getpid())]:
        aside = parent / _ASIDE
        aside.mkdir(exist_ok=True)
        _write(aside / "cgroup.procs", os.getpid())
    for controller in ("memory", "pids"):
        _write(control, f"+{controller}")
    with contextlib.suppress(OSError):
        _write(control, "+cpu")


def _write(file: Path, value: int | str) -> None:
    # Without O_CREAT: a file that is not there is a controller that is not there.
    with file.open("r+", encoding="utf-8") as control:
        control.write(str(value))


def _count(file: Path, key: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0
