"""One run: prepare the databases, start the servers, measure them by turns, check what they did."""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench import check
from bench.fill import FILE, fill, multiply
from bench.load import Stop, Window, drive
from bench.machine import Machine, describe
from bench.measures import Measure, Target, prepare
from bench.servers import Server, coordinator, core_busy_seconds, cores, cpu_seconds, pinned, reference

MINERS: Final = 512
FEW_JOBS: Final = 1000
MANY_JOBS: Final = 1_000_000
RESULTS: Final = Path(__file__).parent / "results"

#: A window in which others took more of either core than this is measured again, up to so many times in all.
DISTURBED: Final = 0.05
TRIES: Final = 3

#: Names of the servers, as the results have them.
REFERENCE: Final = "reference"
FEW: Final = "1k"
MANY: Final = "1M"


class Plan(msgspec.Struct, frozen=True):
    """How much to measure."""

    measures: Sequence[Measure]
    deep: bool  #: With the long queue as well.
    rounds: int
    seconds: float  #: Of one window.
    warm_up: float
    connections: int


class Sample(msgspec.Struct, frozen=True):
    """One window."""

    window: Window
    #: Shares of a core: 1 is all of it.
    server_cpu: float
    load_cpu: float
    #: What other processes took of the core of which they took more.
    others_cpu: float


class Figures(msgspec.Struct, frozen=True):
    """One measure on one server: medians over the windows, and percentiles over all their requests."""

    rate: float  #: Requests a second.
    p50: float  #: Seconds.
    p99: float
    worst: float  #: The longest wait of all: a stall of the whole server strikes too few requests for a percentile.
    steps: dict[str, tuple[float, float]]  #: p50 and p99 by step.
    server_cpu: float
    load_cpu: float
    others_cpu: float


class Started(msgspec.Struct, frozen=True):
    """What a server took before the load."""

    seconds: float
    memory: int  #: Bytes.


class Outcome(msgspec.Struct, frozen=True):
    """All that a run found."""

    machine: Machine
    plan: Plan
    figures: dict[str, dict[str, Figures]]  #: By measure, then by server.
    started: dict[str, Started]
    completed: int
    faults: list[str]
    took: float


def percentiles(latencies: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    ordered = sorted(latencies)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def run(plan: Plan, say: Callable[[str], None]) -> Outcome:
    """Measure; `say` is told what goes on. Raises `ServerError`, `LoadError`."""
    began = time.perf_counter()
    both = server_core, load_core = cores()
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as name:
        folder = Path(name)
        machine = describe(folder)
        say(f"filling a database with {FEW_JOBS:,} jobs and {MINERS} miners")
        fleet = fill(folder / FEW, MINERS, FEW_JOBS)
        if plan.deep:
            say(f"multiplying it to {MANY_JOBS:,} jobs")
            multiply(folder / FEW, folder / MANY, MANY_JOBS // FEW_JOBS)
        names = [FEW, MANY] if plan.deep else [FEW]
        with pinned(load_core), _servers(folder, names, server_core, say) as servers:
            started = {s.name: Started(s.started_in, s.memory) for s in servers}
            targets = [Target(server, fleet, plan.connections) for server in servers]
            samples = _rounds(plan, targets, both, say)
        say("checking what was paid")
        made = {target.server.name: target.completed for target in targets}
        faults = [f"{name} jobs: {fault}" for name in names for fault in check.faults(folder / name / FILE, made[name])]
    return Outcome(
        machine=machine,
        plan=plan,
        figures={
            measure: {server: _figures(plan, measure, found) for server, found in by_server.items()}
            for measure, by_server in samples.items()
        },
        started=started,
        completed=sum(made[name] for name in names),
        faults=faults,
        took=time.perf_counter() - began,
    )


@contextlib.contextmanager
def _servers(folder: Path, names: Sequence[str], core: int, say: Callable[[str], None]) -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(reference(folder, core))]
        for name in names:
            say(f"starting the coordinator over {name} jobs")
            servers.append(stack.enter_context(coordinator(name, folder / name, core)))
        yield servers


def _rounds(
    plan: Plan, targets: Sequence[Target], both: tuple[int, int], say: Callable[[str], None]
) -> dict[str, dict[str, list[Sample]]]:
    """All servers are up all the time and are measured by turns, so that what else the machine does strikes all alike."""
    samples: dict[str, dict[str, list[Sample]]] = {m.name: {t.server.name: [] for t in targets} for m in plan.measures}
    for number in range(plan.rounds):
        for measure in plan.measures:
            for target in targets:
                say(f"round {number + 1} of {plan.rounds}: {measure.title}, {target.server.name}")
                samples[measure.name][target.server.name].append(_undisturbed(plan, measure, target, both))
    return samples


def _undisturbed(plan: Plan, measure: Measure, target: Target, both: tuple[int, int]) -> Sample:
    """A window in which server and load had their cores to themselves; the best of a few where the machine gives none."""
    tried: list[Sample] = []
    while len(tried) < TRIES:
        tried.append(uvloop.run(_measure(plan, measure, target, both)))
        if tried[-1].others_cpu <= DISTURBED:
            return tried[-1]
    return min(tried, key=lambda sample: sample.others_cpu)


async def _measure(plan: Plan, measure: Measure, target: Target, both: tuple[int, int]) -> Sample:
    if measure.known_jobs:
        await prepare(target, measure.known_jobs, real=target.server.name != REFERENCE)
    stop = Stop()
    used: list[tuple[float, ...]] = []

    def mark() -> None:
        used.append((time.perf_counter(), cpu_seconds(target.server.pid), cpu_seconds(), *map(core_busy_seconds, both)))

    window = await drive(
        target.server.port,
        [measure.script(target, number, stop) for number in range(plan.connections)],
        len(measure.steps),
        stop,
        warm_up=plan.warm_up,
        seconds=plan.seconds,
        mark=mark,
    )
    seconds, server, load, *busy = (after - before for before, after in zip(*used, strict=True))
    others = max(0.0, busy[0] - server, busy[1] - load)
    return Sample(window, server / seconds, load / seconds, others / seconds)


def _figures(plan: Plan, name: str, samples: Sequence[Sample]) -> Figures:
    steps = next(measure.steps for measure in plan.measures if measure.name == name)
    latencies = [[t for s in samples for t in s.window.latencies[step]] for step in range(len(steps))]
    p50, p99 = percentiles([t for step in latencies for t in step])
    return Figures(
        rate=statistics.median(s.window.rate for s in samples),
        p50=p50,
        p99=p99,
        worst=max(s.window.worst for s in samples),
        steps={step: percentiles(found) for step, found in zip(steps, latencies, strict=True)},
        server_cpu=statistics.median(s.server_cpu for s in samples),
        load_cpu=statistics.median(s.load_cpu for s in samples),
        others_cpu=statistics.median(s.others_cpu for s in samples),
    )
