"""One run: prepare the databases, start the servers, measure them by turns, check what they did."""

import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench import growth, scenarios
from bench.contenders import BARE, CIPHER, FEW, FEW_JOBS, MANY, PAIR, PLAIN, POSTGRES, REFERENCE, Lineup
from bench.fill import fill
from bench.load import Stop, Window, drive
from bench.machine import Machine, describe
from bench.measures import Measure, Target, prepare
from bench.postgres import Postgres
from bench.progress import Say
from bench.scenarios import Carried, Waking
from bench.servers import coordinator, core_busy_seconds, cores, cpu_seconds, pinned

RESULTS: Final = Path(__file__).parent / "results"
#: Those of a short run, and of a long one.
ALL: Final = (REFERENCE, BARE, PLAIN, FEW, MANY, CIPHER, POSTGRES, PAIR)

#: A window in which others took more of either core than this is measured again.
DISTURBED: Final = 0.05


class Plan(msgspec.Struct, frozen=True):
    """How much to measure."""

    measures: Sequence[Measure]
    contenders: Sequence[str]
    rounds: int
    seconds: float  #: Of one window.
    warm_up: float
    connections: int
    #: Jobs in the long queue.
    long_queue: int = 1_000_000
    #: Miners of the mixed load, one step after the other until p99 is over its bound.
    fleets: Sequence[int] = ()
    #: Whether wake-ups, memory and restarts are measured.
    moments: bool = False
    #: Whether growth is measured.
    growth: bool = False


class Sample(msgspec.Struct, frozen=True):
    """One window."""

    window: Window
    #: Shares of a core: 1 is all of it.
    server_cpu: float
    load_cpu: float
    #: What other processes took of the core of which they took more.
    others_cpu: float


class Figures(msgspec.Struct, frozen=True):
    """One measure on one contender: medians over the windows, and percentiles over all their requests."""

    rate: float  #: Requests a second.
    p50: float  #: Seconds.
    p99: float
    p999: float
    worst: float  #: The longest wait of all: a stall of the whole server strikes too few requests for a percentile.
    steps: dict[str, tuple[float, float]]  #: p50 and p99 by step.
    server_cpu: float
    load_cpu: float
    others_cpu: float


class Started(msgspec.Struct, frozen=True):
    """What a server took before the load."""

    seconds: float
    memory: int  #: Bytes.


class Moments(msgspec.Struct, frozen=True):
    """What happens between requests."""

    waking: Waking
    #: From a submit at one coordinator to the offer at the other, over one PostgreSQL.
    waking_across: Waking | None
    #: Bytes for each miner that waits.
    waiting_memory: float
    #: Seconds from a SIGKILL to a client that is served.
    served_again: float


class Outcome(msgspec.Struct, frozen=True):
    """All that a run found."""

    machine: Machine
    plan: Plan
    figures: dict[str, dict[str, Figures]]  #: By measure, then by contender.
    started: dict[str, Started]
    carried: list[Carried]
    moments: Moments | None
    #: Jobs a second that reference D claims and completes.
    procrastinate: float | None
    grown: list[growth.Grown]
    left_out: list[growth.LeftOut]
    completed: int
    faults: list[str]
    #: Seconds, by what they went into.
    stages: dict[str, float]

    @property
    def took(self) -> float:
        """Seconds of all of it."""
        return sum(self.stages.values())


class _Stages:
    """What the time of a run goes into, one thing after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def end(self, name: str) -> None:
        """That was this."""
        now = time.perf_counter()
        self.seconds[name] = now - self._since
        self._since = now


def run(plan: Plan, say: Say) -> Outcome:
    """Measure; `say` is told what goes on. Raises `ServerError`, `LoadError`, `NoRoomError`."""
    both = server_core, load_core = cores()
    RESULTS.mkdir(exist_ok=True)
    stages = _Stages()
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as name, pinned(load_core):
        folder = Path(name)
        machine = describe(folder)
        say("filling the databases")
        lineup = Lineup(folder / "lineup", server_core, plan.long_queue, say)
        samples: dict[str, dict[str, list[Sample]]] = {m.name: {} for m in plan.measures}
        started: dict[str, Started] = {}
        with contextlib.ExitStack() as stack:
            # All are up all the time and are measured by turns, so that what else the machine does strikes all alike.
            targets = [Target(stack.enter_context(lineup.start(one)), plan.connections) for one in plan.contenders]
            for target in targets:
                first = target.contender.servers[0]
                started[target.contender.name] = Started(first.started_in, first.memory)
            stages.end("filling and starting")
            for number in range(plan.rounds):
                for measure in plan.measures:
                    for target in targets:
                        title = target.contender.name
                        say(f"round {number + 1} of {plan.rounds}: {measure.title}, {title}")
                        sample = _undisturbed(plan, measure, target, both)
                        samples[measure.name].setdefault(title, []).append(sample)
        stages.end("the rounds")
        say("checking what was paid")
        made = {target.contender.name: target.completed for target in targets}
        faults = [fault for one, completed in made.items() for fault in lineup.faults(one, completed)]
        lineup.remove()
        stages.end("the check")
        carried = _carried(plan, folder / "carried", server_core, say)
        stages.end("mixed loads")
        moments = _moments(folder, server_core, say) if plan.moments else None
        procrastinate = _procrastinate(server_core, plan.seconds * 2, say) if plan.moments else None
        stages.end("moments")
        grown, left_out = growth.measure(folder, both, say) if plan.growth else ([], [])
        stages.end("growth")
    ours = {one: made[one] for one in made if one not in (REFERENCE, BARE, PLAIN)}
    return Outcome(
        machine=machine,
        plan=plan,
        figures={
            measure: {one: _figures(plan, measure, found) for one, found in by_contender.items()}
            for measure, by_contender in samples.items()
        },
        started=started,
        carried=carried,
        moments=moments,
        procrastinate=procrastinate,
        grown=grown,
        left_out=left_out,
        completed=sum(ours.values()),
        faults=faults,
        stages=stages.seconds,
    )


def _undisturbed(plan: Plan, measure: Measure, target: Target, both: tuple[int, int]) -> Sample:
    """A window in which server and load had their cores to themselves; the best of a few where the machine gives none."""
    tried: list[Sample] = []
    # What PostgreSQL itself takes of the core looks like others; it is part of what is measured.
    tries = 1 if target.contender.name in (POSTGRES, PAIR) else min(plan.rounds, 3)
    while len(tried) < tries:
        tried.append(uvloop.run(_measure(plan, measure, target, both)))
        if tried[-1].others_cpu <= DISTURBED:
            return tried[-1]
    return min(tried, key=lambda sample: sample.others_cpu)


async def _measure(plan: Plan, measure: Measure, target: Target, both: tuple[int, int]) -> Sample:
    if measure.known_jobs:
        await prepare(target)
    stop = Stop()
    used: list[tuple[float, ...]] = []

    def mark() -> None:
        used.append((time.perf_counter(), target.contender.cpu, cpu_seconds(), *map(core_busy_seconds, both)))

    window = await drive(
        target.contender.ports,
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
    ordered = sorted(t for step in latencies for t in step)
    return Figures(
        rate=statistics.median(s.window.rate for s in samples),
        p50=scenarios.quantile(ordered, 0.5),
        p99=scenarios.quantile(ordered, 0.99),
        p999=scenarios.quantile(ordered, 0.999),
        worst=max(s.window.worst for s in samples),
        steps={step: _of_step(found) for step, found in zip(steps, latencies, strict=True)},
        server_cpu=statistics.median(s.server_cpu for s in samples),
        load_cpu=statistics.median(s.load_cpu for s in samples),
        others_cpu=statistics.median(s.others_cpu for s in samples),
    )


def _of_step(latencies: list[float]) -> tuple[float, float]:
    ordered = sorted(latencies)
    return scenarios.quantile(ordered, 0.5), scenarios.quantile(ordered, 0.99)


def _carried(plan: Plan, folder: Path, core: int, say: Say) -> list[Carried]:
    """The mixed load, with more and more miners, until p99 is over its bound."""
    if not plan.fleets:
        return []
    say(f"registering {max(plan.fleets):,} miners")
    everybody = fill(folder, max(plan.fleets), FEW_JOBS)
    found: list[Carried] = []
    for count in plan.fleets:
        say(f"mixed load of {count:,} miners")
        with coordinator("carried", folder, core) as server:
            found.append(scenarios.carried(server, everybody, count, seconds=plan.seconds * 6))
        if found[-1].p99 > scenarios.CARRIED_WITHIN:
            break
    shutil.rmtree(folder)
    return found


def _procrastinate(core: int, seconds: float, say: Say) -> float:
    say("claiming and completing with procrastinate")
    with Postgres(core) as postgres, pinned(core):
        command = [sys.executable, "-m", "bench.procrastinate_queue", postgres.empty_url, str(seconds)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _moments(folder: Path, core: int, say: Say) -> Moments:
    own = folder / "moments"
    everybody = fill(own, 64, FEW_JOBS, idle=2001)
    with coordinator("moments", own, core) as server:
        say("waking a miner that waits")
        waking = scenarios.wake_up(server, server, everybody, 300)
        say("memory of miners that wait")
        memory = scenarios.waiting_memory(server, everybody, 2000)
    say("killing and starting again")
    again = scenarios.served_again(own, core, everybody)
    shutil.rmtree(own)
    say("waking a miner that waits at another coordinator")
    lineup = Lineup(folder / "pair", core, 0, say)
    with lineup.start(PAIR) as pair:
        across = scenarios.wake_up(pair.servers[0], pair.servers[1], pair.fleet, 300)
    return Moments(waking=waking, waking_across=across, waiting_memory=memory, served_again=again)
