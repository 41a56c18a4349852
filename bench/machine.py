"""The machine, so that a reader of the figures knows what they were taken on."""

import os
import platform
import re
import statistics
import time
from pathlib import Path
from typing import Final

import msgspec
from sqlcipher3 import dbapi2

_SYNCS: Final = 200
_PAGE: Final = 4096


class Machine(msgspec.Struct, frozen=True):
    """Where it ran."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    sqlite: str
    filesystem: str
    #: Milliseconds that a durable append of one page takes: the floor of a commit.
    sync_ms_p50: float
    sync_ms_p99: float


def describe(folder: Path) -> Machine:
    """The machine, and the disk under `folder`."""
    p50, p99 = _sync_latency(folder)
    return Machine(
        cpu=_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        memory_gib=round(int((_field("/proc/meminfo", "MemTotal") or "0").split()[0]) / 2**20, 1),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        sqlite=dbapi2.sqlite_version,
        filesystem=_filesystem(folder),
        sync_ms_p50=round(p50 * 1000, 3),
        sync_ms_p99=round(p99 * 1000, 3),
    )


def _field(file: str, name: str) -> str | None:
    found = re.search(rf"^{name}\s*:\s*(.+)$", Path(file).read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None


def _filesystem(folder: Path) -> str:
    """The type of the file system that holds `folder`."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    around = [(len(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(around)[1] if around else "unknown"


def _sync_latency(folder: Path) -> tuple[float, float]:
    """Median and 99th percentile, in seconds, of appending a page and waiting until it is on the disk."""
    file = folder / "sync-probe"
    took = []
    with file.open("wb", buffering=0) as out:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            out.write(bytes(_PAGE))
            os.fdatasync(out.fileno())
            took.append(time.perf_counter() - began)
    file.unlink()
    cuts = statistics.quantiles(took, n=100)
    return cuts[49], cuts[98]
