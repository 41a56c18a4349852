"""What the exchange costs as it grows: the queue, its kinds, the miners, and the history behind it.

The cost is processor time of the server for each request of a job cycle (submit, available, accept, complete), so that it
says something of the server alone; each figure is a ratio to the smallest exchange, which runs beside it and is measured by
turns with it: a machine is not equally fast from one minute to the next.
"""

import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench import fleet
from bench.bulk import NoRoomError
from bench.contenders import Contender
from bench.fill import FILE, fill, finish, multiply
from bench.fleet import Fleet, Kind
from bench.load import Stop, drive
from bench.measures import MEASURES, Target
from bench.progress import Say
from bench.scenarios import quantile
from bench.servers import coordinator, cpu_seconds

_CONNECTIONS: Final = 64
#: Of so many windows of so many seconds, each beside one of the smallest exchange, the median counts.
_WINDOWS: Final = 4
_SECONDS: Final = 2.0


class Size(msgspec.Struct, frozen=True):
    """How large an exchange is."""

    jobs: int = 1000
    kinds: int = 100
    miners: int = 512
    finished: int = 0

    @property
    def name(self) -> str:
        """Short, for a table."""
        return f"{self.jobs:,} jobs of {self.kinds:,} kinds, {self.miners:,} miners, {self.finished:,} finished"

    def against(self, smallest: "Size") -> str:
        """What it has other than the smallest, in words."""
        titles = {"jobs": "queued jobs", "kinds": "kinds", "miners": "miners", "finished": "finished jobs"}
        pairs = [(getattr(self, name), title, getattr(smallest, name)) for name, title in titles.items()]
        return " and ".join(
            f"{mine:,} {title} against {f'{theirs:,}' if theirs else 'none'}"
            for mine, title, theirs in pairs
            if mine != theirs
        )


class Grown(msgspec.Struct, frozen=True):
    """What an exchange of that size costs."""

    size: Size
    #: Processor time of the server for each request, in microseconds: its own, and that of the smallest exchange just before.
    windows: list[tuple[float, float]]
    p99: float
    #: Seconds until it listened, and bytes that it then had.
    started_in: float
    memory: int
    #: Seconds in which the database was made, until it was on the disk, and its bytes.
    filled_in: float
    written: int

    @property
    def cost(self) -> float:
        """Microseconds for each request."""
        return statistics.median(cost for cost, _ in self.windows)

    @property
    def smallest(self) -> float:
        """The same of the smallest exchange."""
        return statistics.median(cost for _, cost in self.windows)

    @property
    def ratio(self) -> float:
        """What it costs, of what the smallest exchange costs at the same time."""
        return statistics.median(cost / smallest for cost, smallest in self.windows)


class LeftOut(msgspec.Struct, frozen=True):
    """A size that was not measured, and why."""

    size: Size
    why: str


#: What the others are compared with; with itself too, which says how much a ratio is worth.
SMALLEST: Final = Size()
SIZES: Final = (
    SMALLEST,
    *(
        Size(jobs=jobs, kinds=kinds)
        for jobs in (1000, 100_000, 10_000_000)
        for kinds in (1, 100, 10_000)
        if kinds <= jobs
    ),
    *(Size(miners=miners) for miners in (100, 10_000, 100_000)),
    Size(finished=1_000_000),
    Size(finished=10_000_000),
    Size(finished=50_000_000),
)


def kinds_of(count: int) -> Iterator[Kind]:
    """So many kinds, endlessly in turn: by type, model and price, all of them within what the miners take."""
    while True:
        for number in range(count):
            gpu_type = fleet.GPU_TYPES[number % len(fleet.GPU_TYPES)]
            model = fleet.MODELS[number // 4 % len(fleet.MODELS)] + ("" if number < 32 else f"-{number // 32 % 32}")
            yield Kind(gpu_type, model, round(0.05 + number // 1024 * 0.01, 6))


def measure(
    folder: Path, both: tuple[int, int], say: Say, sizes: Sequence[Size] = SIZES
) -> tuple[list[Grown], list[LeftOut]]:
    """Each size in turn, on databases that are made for it and removed again; what the disk has no room for is left out."""
    found: list[Grown] = []
    left_out: list[LeftOut] = []
    for size in dict.fromkeys(sizes):
        try:
            found.append(_once(folder, size, both[0], say))
        except NoRoomError as error:
            left_out.append(LeftOut(size, str(error)))
    return found, left_out


def _once(folder: Path, size: Size, core: int, say: Say) -> Grown:
    own = folder / "growth"
    try:
        return _grown(own, size, core, lambda line, done=0, total=0: say(f"growth: {size.name}: {line}", done, total))
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _grown(folder: Path, size: Size, core: int, say: Say) -> Grown:
    began = time.perf_counter()
    say("filling")
    at, everybody = _filled(folder / "grown", size, say)
    filled_in, written = time.perf_counter() - began, (at / FILE).stat().st_size
    beside, theirs = _filled(folder / "smallest", SMALLEST, say)
    say("measuring")
    with coordinator("growth", at, core) as server, coordinator("smallest", beside, core) as smallest:
        own, other = Contender("growth", [server], everybody, 0), Contender("smallest", [smallest], theirs, 0)
        windows, p99 = uvloop.run(_by_turns(own, other))
        return Grown(size, windows, p99, server.started_in, server.memory, filled_in, written)


def _filled(folder: Path, size: Size, say: Say) -> tuple[Path, Fleet]:
    """The folder of an exchange that has been made as large, and who is in it."""
    at = folder / "first"
    base = max(1000, size.kinds)
    everybody = fill(at, size.miners, 0 if size.jobs < base else base, kinds=kinds_of(size.kinds))
    if size.jobs > base:
        at = folder / "longer"
        multiply(folder / "first", at, size.jobs // base, say)
    if size.finished:
        finish(at, size.finished, say)
    return at, everybody


async def _by_turns(grown: Contender, smallest: Contender) -> tuple[list[tuple[float, float]], float]:
    """The cost of a request in each window, in the grown exchange and in the smallest; p99 over all windows of the former."""
    windows: list[tuple[float, float]] = []
    latencies: list[float] = []
    large, small = Target(grown, _CONNECTIONS), Target(smallest, _CONNECTIONS)
    for number in range(_WINDOWS):
        warm_up = 0.5 if number else 2.0
        theirs, _ = await _window(small, warm_up)
        own, seen = await _window(large, warm_up)
        windows.append((own, theirs))
        latencies += seen
    return windows, quantile(sorted(latencies), 0.99)


async def _window(target: Target, warm_up: float) -> tuple[float, list[float]]:
    """The cost of a request, and the latencies."""
    cycle = next(one for one in MEASURES if one.name == "cycle")
    pid, stop, used = target.contender.servers[0].pid, Stop(), list[float]()
    window = await drive(
        target.contender.ports,
        [cycle.script(target, connection, stop) for connection in range(_CONNECTIONS)],
        len(cycle.steps),
        stop,
        warm_up=warm_up,
        seconds=_SECONDS,
        mark=lambda: used.append(cpu_seconds(pid)),
    )
    return (used[1] - used[0]) / window.requests * 1e6, [latency for step in window.latencies for latency in step]
