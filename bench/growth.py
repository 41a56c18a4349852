"""What the exchange costs as it grows: the queue, its kinds, the miners, and the history behind it.

The cost is processor time of the server for each request of a job cycle (submit, available, accept, complete), so that it
says something of the server alone; each figure is a ratio to the smallest exchange, measured in the same run.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench import fleet
from bench.contenders import Contender
from bench.fill import fill, finish, multiply
from bench.fleet import Kind
from bench.load import Stop, drive
from bench.measures import MEASURES, Measure, Target
from bench.servers import coordinator, cpu_seconds

_CONNECTIONS: Final = 64
_SECONDS: Final = 4.0


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


class Grown(msgspec.Struct, frozen=True):
    """What an exchange of that size costs."""

    size: Size
    #: Processor time of the server for each request, in microseconds.
    cost: float
    p99: float
    #: Seconds until it listened, and bytes that it then had.
    started_in: float
    memory: int


SIZES: Final = (
    Size(),
    *(
        Size(jobs=jobs, kinds=kinds)
        for jobs in (1000, 100_000, 10_000_000)
        for kinds in (1, 100, 10_000)
        if kinds <= jobs
    ),
    *(Size(miners=miners) for miners in (100, 10_000, 100_000)),
    Size(finished=1_000_000),
    Size(finished=10_000_000),
)


def kinds_of(count: int) -> Iterator[Kind]:
    """So many kinds, endlessly in turn: by type, model and price, all of them within what the miners take."""
    while True:
        for number in range(count):
            gpu_type = fleet.GPU_TYPES[number % len(fleet.GPU_TYPES)]
            model = fleet.MODELS[number // 4 % len(fleet.MODELS)] + ("" if number < 32 else f"-{number // 32 % 32}")
            yield Kind(gpu_type, model, round(0.05 + number // 1024 * 0.01, 6))


def measure(folder: Path, both: tuple[int, int], say: Callable[[str], None]) -> list[Grown]:
    """Each size in turn, on databases that are made for it and removed again."""
    cycle = next(one for one in MEASURES if one.name == "cycle")
    found = []
    for number, size in enumerate(dict.fromkeys(SIZES)):
        say(f"growth: {size.name}")
        own = folder / f"growth-{number}"
        base = max(1000, size.kinds)
        everybody = fill(own, size.miners, 0 if size.jobs < base else base, kinds=kinds_of(size.kinds))
        if size.jobs > base:
            multiply(own, folder / "larger", size.jobs // base)
            shutil.rmtree(own)
            (folder / "larger").rename(own)
        if size.finished:
            finish(own, size.finished)
        with coordinator(f"growth-{number}", own, both[0]) as server:
            contender = Contender("growth", [server], everybody, 0)
            cost, p99 = uvloop.run(_cost(contender, cycle))
            found.append(Grown(size, cost, p99, server.started_in, server.memory))
        shutil.rmtree(own)
    return found


async def _cost(contender: Contender, cycle: Measure) -> tuple[float, float]:
    target, stop = Target(contender, _CONNECTIONS), Stop()
    pid = contender.servers[0].pid
    used: list[float] = []
    window = await drive(
        contender.ports,
        [cycle.script(target, number, stop) for number in range(_CONNECTIONS)],
        len(cycle.steps),
        stop,
        warm_up=2.0,
        seconds=_SECONDS,
        mark=lambda: used.append(cpu_seconds(pid)),
    )
    latencies = sorted(t for step in window.latencies for t in step)
    return (used[1] - used[0]) / window.requests * 1e6, latencies[int(len(latencies) * 0.99)]
