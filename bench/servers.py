"""The processes that are measured, each on one core, and what they use of it."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench import fleet

_LISTENS: Final = re.compile(r"^pithead serves on http://127\.0\.0\.1:(\d+)$", re.MULTILINE)
_TICKS: Final = os.sysconf("SC_CLK_TCK")
#: A queue of a million jobs is read into memory before the server listens.
_START_WITHIN: Final = 120.0

#: No limits: the load comes from few miners that do nothing but ask. Miners stay online through the whole run.
_ENVIRONMENT: Final = {
    "PITHEAD_RATE_LIMITS__REQUESTS_PER_MINUTE": "0",
    "PITHEAD_RATE_LIMITS__JOB_OPERATIONS_PER_MINUTE": "0",
    "PITHEAD_RATE_LIMITS__REGISTRATIONS_PER_MINUTE": "0",
    "PITHEAD_RATE_LIMITS__CLIENT_REQUESTS_PER_MINUTE": "0",
    "PITHEAD_MINERS__OFFLINE_AFTER": str(fleet.SILENT_FOR),
    "PITHEAD_LOG_LEVEL": "warning",
    "PITHEAD_OPERATOR_KEY": "key_of-the-benchmark",
}


class ServerError(Exception):
    """A server does not start, or did not stop in order."""


class Server(msgspec.Struct, frozen=True):
    """A running server."""

    name: str
    port: int
    pid: int
    #: Seconds from the start of the process until it listened.
    started_in: float

    @property
    def memory(self) -> int:
        """Bytes resident."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def cpu_seconds(pid: int | None = None) -> float:
    """Processor time that a process (this one where none is named) has used, its kernel time included."""
    if pid is None:
        return time.process_time()
    # The name in field 2 may hold blanks and parentheses.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def core_busy_seconds(core: int) -> float:
    """Processor time that a core has spent on anything, since the machine started."""
    line = re.search(rf"^cpu{core} (.+)$", Path("/proc/stat").read_text(encoding="ascii"), re.MULTILINE)
    user, nice, system, _idle, _wait, irq, softirq, steal, *_ = (int(part) for part in line[1].split())  # type: ignore[index]
    return (user + nice + system + irq + softirq + steal) / _TICKS


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run what is inside, and the processes it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cores() -> tuple[int, int]:
    """The core of the servers and the core of the load. Raises `ServerError` where there are not two."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise ServerError("this needs two cores, one for the server and one for the load, and may use only one")
    return allowed[0], allowed[1]


@contextlib.contextmanager
def coordinator(
    name: str, folder: Path, core: int, more: dict[str, str] | None = None, *, killed: bool = False
) -> Iterator[Server]:
    """`pithead serve` over a database, with `more` settings; `killed`: it will not live to the end. Raises `ServerError`."""
    command = [str(Path(sys.executable).with_name("pithead")), "serve", "--port", "0", "--data", str(folder)]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PITHEAD_")}
    log = folder / "server.log"

    def port() -> int | None:
        found = _LISTENS.search(log.read_text(encoding="utf-8"))
        return int(found[1]) if found else None

    with log.open("wb") as out:
        with pinned(core):
            process = subprocess.Popen(command, stderr=out, stdout=out, env=inherited | _ENVIRONMENT | (more or {}))
        yield from _running(name, process, port, log, killed=killed)


@contextlib.contextmanager
def application(name: str, folder: Path, core: int, module: str, *arguments: str) -> Iterator[Server]:
    """Another application than ours, a module of this package that serves a socket it inherits. Raises `ServerError`."""
    log = folder / f"{name}.log"
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening, log.open("wb") as out:
        command = [sys.executable, "-m", module, str(listening.fileno()), *arguments]
        with pinned(core):
            process = subprocess.Popen(command, stderr=out, stdout=out, pass_fds=[listening.fileno()])
        number: int = listening.getsockname()[1]
        yield from _running(name, process, lambda: number, log)


def _running(
    name: str,
    process: "subprocess.Popen[bytes]",
    port: Callable[[], int | None],
    log: Path,
    *,
    killed: bool = False,
) -> Iterator[Server]:
    began = time.perf_counter()
    try:
        while (listens := port()) is None:
            if process.poll() is not None or time.perf_counter() - began > _START_WITHIN:
                said = log.read_text(encoding="utf-8").strip().splitlines()
                raise ServerError(f"{name} does not start: {said[-1] if said else 'it says nothing'}")
            time.sleep(0.02)
        yield Server(name, listens, process.pid, time.perf_counter() - began)
    finally:
        if not killed:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerError(f"{name} did not stop when asked to") from None
