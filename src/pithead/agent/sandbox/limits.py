"""What a job may use, as its owner has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MIB: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one job may use. Sizes in bytes, times in seconds."""

    #: Memory of all its processes together, its files in memory included.
    memory: int = 2048 * _MIB
    #: Processes and threads at a time.
    processes: int = 128
    #: Processors that it keeps busy.
    cpus: float = 1.0
    #: What it may write to each of /work, /tmp and /dev/shm; they are kept in memory, and count there too.
    scratch: int = 256 * _MIB
    #: Its answer: what it writes to standard output.
    output: int = 16 * _MIB
    #: From its start to its end, whatever it does meanwhile.
    seconds: float = 600.0

    def __post_init__(self) -> None:
        """Raises `ValueError`, with the field that is out of range."""
        for name in ("memory", "processes", "cpus", "scratch", "output", "seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
