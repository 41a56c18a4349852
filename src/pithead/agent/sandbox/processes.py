"""The processes of sandboxes, as they are seen from outside."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import defaultdict
from pathlib import Path
from typing import Final

_NAME: Final = "pithead-sandbox:"


def name() -> str:
    """What bubblewrap's own processes are called: they show whose they are."""
    return f"{_NAME}{os.getpid()}"


def tree(first: int) -> list[int]:
    """That process and all below it."""
    children = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # `pid (name) state parent …`, and a name may have spaces and brackets.
            parent = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
            children[int(parent)].append(int(folder.name))
    found, ahead = [], [first]
    while ahead:
        process = ahead.pop()
        found.append(process)
        ahead += children[process]
    return found


def memory(first: int) -> int:
    """Bytes that a process and all below it have, what several share counted once in all."""
    total = 0
    for process in tree(first):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
    return total


def end_left() -> None:
    """End what an agent that was killed has left of a sandbox in the making: nothing of a job is in it yet.

    A child of bubblewrap waits for its parent without a look at whether it lives.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            name = (folder / "cmdline").read_bytes().partition(b"\0")[0].decode()
            if name.startswith(_NAME) and not Path("/proc", str(int(name.removeprefix(_NAME)))).exists():
                os.kill(int(folder.name), signal.SIGKILL)
